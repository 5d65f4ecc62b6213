/** Where credentials come from. They are asked for at every attempt, and never kept here. */
import { ConnectFailed } from "./errors.js";

const LIMIT = 30000;

export class Credentials {
  #source;
  #platform;
  #renewing = new Map();

  /**
   * `source` is a text, a function, or an object with `get` and perhaps `refresh`. A function is called with
   * `{ refused: true }` after a refusal, and has refreshed if it then gives something else.
   */
  constructor(source, platform) {
    this.#source = source;
    this.#platform = platform;
  }

  /** The credential for one attempt, as a header would carry it, or undefined for none. */
  get() {
    return this.#ask(false);
  }

  /** The credential to try once more with after `refused` was refused, or undefined if there is none. */
  renew(refused) {
    // Calls that were refused with the same credential share one refresh.
    let renewing = this.#renewing.get(refused);
    if (renewing === undefined) {
      renewing = this.#renew(refused).finally(() => this.#renewing.delete(refused));
      this.#renewing.set(refused, renewing);
    }
    return renewing;
  }

  async #renew(refused) {
    try {
      const source = this.#source;
      if (typeof source === "function") {
        const next = await this.#ask(true);
        return next === refused ? undefined : next;
      }
      if (typeof source?.refresh !== "function") return undefined;
      const now = await this.#ask(false);
      if (now !== refused) return now;
      return (await this.#limited(() => source.refresh())) === true ? await this.#ask(false) : undefined;
    } catch {
      // A refresh that fails leaves the refusal as the error.
      return undefined;
    }
  }

  async #ask(refused) {
    const source = this.#source;
    if (source === undefined || source === null) return undefined;
    if (typeof source === "string") return source;
    const given = await this.#limited(() =>
      typeof source === "function" ? source({ refused }) : source.get(),
    );
    if (given === undefined || given === null) return undefined;
    if (typeof given !== "string") throw new ConnectFailed("a credential is a text, or null for none");
    return given;
  }

  /** The result of `ask`, or an error after half a minute. */
  async #limited(ask) {
    const { setTimeout, clearTimeout } = this.#platform;
    let timer;
    const limit = new Promise((_, reject) => {
      const late = new ConnectFailed("the provider of credentials did not answer");
      timer = setTimeout(() => reject(late), LIMIT);
    });
    try {
      return await Promise.race([Promise.resolve().then(ask), limit]);
    } catch (cause) {
      if (cause instanceof ConnectFailed) throw cause;
      throw new ConnectFailed("the provider of credentials failed", { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}
