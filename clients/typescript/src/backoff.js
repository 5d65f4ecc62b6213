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

  /** The same, but no wait before the first attempt. */
  nextOrNow() {
    const first = this.#failures === 0;
    const wait = this.next();
    return first ? 0 : wait;
  }

  reset() {
    this.#failures = 0;
  }
}
