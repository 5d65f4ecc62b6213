/** An input that is fed by hand: from a button, a text field, a callback. */
export class Input {
  #values = [];
  #waiting = [];
  #ended = false;
  #error;
  #limit;

  /** At most `limit` values wait to be sent. */
  constructor(limit = 256) {
    this.#limit = limit;
  }

  /** Whether `send` can take a value. */
  get open() {
    return !this.#ended;
  }

  /** Queues a value. Throws a `RangeError` if `limit` values wait, and an `Error` after the end. */
  send(value) {
    if (this.#ended) throw new Error("the input has ended");
    const reader = this.#waiting.shift();
    if (reader !== undefined) reader.resolve({ value, done: false });
    else if (this.#values.length >= this.#limit) throw new RangeError("too many values wait to be sent");
    else this.#values.push(value);
  }

  /** Ends the input, after what is queued. */
  end() {
    this.fail(undefined);
  }

  /** Fails the input, after what is queued; a `StreamFault` reaches the method typed. */
  fail(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    for (const reader of this.#waiting.splice(0)) this.#finish(reader);
  }

  [Symbol.asyncIterator]() {
    return {
      next: () =>
        new Promise((resolve, reject) => {
          if (this.#values.length > 0) resolve({ value: this.#values.shift(), done: false });
          else if (this.#ended) this.#finish({ resolve, reject });
          else this.#waiting.push({ resolve, reject });
        }),
      // The call ended, or the server wants no more: `send` throws from now on.
      return: async () => {
        this.#values = [];
        this.end();
        return { value: undefined, done: true };
      },
    };
  }

  #finish({ resolve, reject }) {
    const error = this.#error;
    this.#error = undefined;
    if (error === undefined) resolve({ value: undefined, done: true });
    else reject(error);
  }
}
