/** Time that passes when a test says so. */
import { eventually } from "./eventually.js";

export class Clock {
  #now = 0;
  #timers = new Set();
  #listeners = new Map();
  /** What `random` gives: 1 makes every wait of the backoff the longest. */
  random = 1;
  visible = true;

  /** The option `testing` of the client. */
  get testing() {
    return {
      now: () => this.#now,
      setTimeout: (run, ms) => {
        const timer = { run, ms, at: this.#now + ms };
        this.#timers.add(timer);
        return timer;
      },
      clearTimeout: (timer) => this.#timers.delete(timer),
      random: () => this.random,
      visible: () => this.visible,
      listen: (type, listener) => {
        const all = this.#listeners.get(type) ?? new Set();
        this.#listeners.set(type, all.add(listener));
        return () => all.delete(listener);
      },
    };
  }

  /** The lengths of the timers that run, ascending. */
  get armed() {
    return [...this.#timers].map((timer) => timer.ms).sort((a, b) => a - b);
  }

  listeners(type) {
    return this.#listeners.get(type)?.size ?? 0;
  }

  fire(type) {
    for (const listener of this.#listeners.get(type) ?? []) listener();
  }

  /** Waits until a timer of this length runs. */
  until(ms) {
    return eventually(() => this.armed.includes(ms), `a timer of ${ms} ms; there are ${this.armed}`);
  }

  /** Lets `ms` pass, and runs what is due, in its order. */
  advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
    }
    this.#now = end;
  }
}
