/** What the connection does, for a badge on a page. */
export class Status {
  #current = Object.freeze({ state: "disconnected" });
  #listeners = new Set();

  /** Has `state`: `connected`, `connecting`, `waiting` (and `ms`) or `disconnected` (and `why`, an error). */
  get current() {
    return this.#current;
  }

  /** Calls `listener` now and at each change. Gives the function that ends this. */
  subscribe(listener) {
    const entry = { listener };
    this.#listeners.add(entry);
    listener(this.#current);
    return () => this.#listeners.delete(entry);
  }

  /** @internal */
  set(state, more) {
    if (state === this.#current.state && more === undefined) return;
    this.#current = Object.freeze({ state, ...more });
    notify(this.#listeners, this.#current);
  }
}

/** Calls the listener of each entry. One that throws does not stop the connection: its error is uncaught. */
export function notify(entries, ...what) {
  for (const entry of [...entries]) {
    try {
      entry.listener(...what);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
