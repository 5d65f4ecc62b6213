/** What the application has of a call: a stream to iterate over, or a result to wait for. */
export class Stream {
  #call;
  #claimed = false;
  #result = null;

  constructor(call) {
    this.#call = call;
  }

  /** The last cursor that was read, for methods that give some. */
  get cursor() {
    return this.#call.cursor;
  }

  /** Ends the call. What was not read is dropped. */
  cancel() {
    this.#call.cancel();
  }

  [Symbol.asyncIterator]() {
    return this.values();
  }

  /** The values, without what `events` gives between them. */
  values() {
    return this.#iterator((item) => item.value);
  }

  /** The values, and `Gap`, `Restarted` and `Resumed` in their places between them. */
  events() {
    return this.#iterator((item) => item.value ?? item.event);
  }

  then(resolved, rejected) {
    this.#result ??= this.#single();
    return this.#result.then(resolved, rejected);
  }

  catch(rejected) {
    return this.then(undefined, rejected);
  }

  finally(settled) {
    return this.then().finally(settled);
  }

  get [Symbol.toStringTag]() {
    return "Stream";
  }

  /** The one value of a call; undefined if the method gives none. */
  async #single() {
    const values = this.values();
    const first = await values.next();
    if (first.done) return undefined;
    if ((await values.next()).done) return first.value;
    this.cancel();
    throw new TypeError("the method gives more than one value: iterate over the call, do not await it");
  }

  #iterator(pick) {
    if (this.#claimed) throw new TypeError("a call is read once: it has a reader, or is awaited");
    this.#claimed = true;
    const call = this.#call;
    return {
      async next() {
        for (;;) {
          const item = await call.queue.next();
          if (item === undefined) return { value: undefined, done: true };
          const value = pick(item);
          if (value !== undefined) return { value, done: false };
        }
      },
      async return(value) {
        call.cancel();
        return { value, done: true };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }
}
