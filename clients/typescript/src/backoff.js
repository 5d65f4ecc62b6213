/** How long to wait before the next attempt: doubling from 0.25 s to 15 s, with full jitter. */
export class Backoff {
  #random;
  #failures = 0;

  constructor(random) {
    this.#random = random;
  }

  /** The wait before the next attempt, in milliseconds. */
  next() {
    const most = Math.min(15000, 250 * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    return Math.floor(this.#random() * most);
  }

  reset() {
    this.#failures = 0;
  }

  /** Whether an attempt has failed since the last reset. */
  get failing() {
    return this.#failures > 0;
  }
}
