/** What arrived and was not read yet: bounded; it tells of each item before the reader gets it. */
export class Queue {
  #items = [];
  #head = 0;
  #chars = 0;
  #counted = 0;
  #waiting = [];
  #end = null;
  #limits;
  #taken;

  /** `taken(item)` runs before an item is handed to the reader. `limits` are `{ values, chars }`. */
  constructor(limits, taken) {
    this.#limits = limits;
    this.#taken = taken;
  }

  get size() {
    return this.#items.length - this.#head;
  }

  /** How many items are queued that the server counts. */
  get counted() {
    return this.#counted;
  }

  /** The item that was queued last and is still here. */
  get last() {
    return this.size > 0 ? this.#items[this.#items.length - 1] : undefined;
  }

  /** Adds an item. Gives false, and adds nothing, if it would be one too many. */
  push(item) {
    if (this.#end !== null) return true;
    const reader = this.#waiting.shift();
    if (reader !== undefined) {
      this.#taken(item);
      reader.resolve(item);
      return true;
    }
    const chars = this.#chars + (item.chars ?? 0);
    if (this.size >= this.#limits.values || (this.size > 0 && chars > this.#limits.chars)) return false;
    this.#chars = chars;
    if (item.counts) this.#counted += 1;
    this.#items.push(item);
    return true;
  }

  /** No more items: readers get `error` once, if there is one, after what is queued, and then the end. */
  finish(error) {
    if (this.#end !== null) return;
    this.#end = { error };
    for (const reader of this.#waiting.splice(0)) this.#finishOne(reader);
  }

  /** Forgets what is queued. */
  clear() {
    this.#items = [];
    this.#head = 0;
    this.#chars = 0;
    this.#counted = 0;
  }

  /** The next item, or undefined at the end. */
  next() {
    return new Promise((resolve, reject) => {
      if (this.size > 0) resolve(this.#take());
      else if (this.#end !== null) this.#finishOne({ resolve, reject });
      else this.#waiting.push({ resolve, reject });
    });
  }

  #take() {
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.clear();
    } else {
      this.#chars -= item.chars ?? 0;
      if (item.counts) this.#counted -= 1;
    }
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    this.#taken(item);
    return item;
  }

  #finishOne({ resolve, reject }) {
    const { error } = this.#end;
    this.#end.error = undefined;
    if (error === undefined) resolve(undefined);
    else reject(error);
  }
}
