/** One input of a call: pulls the application's values while the server has room for them. */
import { StreamFault } from "./errors.js";
import { encode, utf8Length } from "./frames.js";
import { wireValue } from "./values.js";

export class Sending {
  name;
  #call;
  #source;
  #iterator = null;
  #running = false;
  #stopped = false;
  /** How the source ended: null, or `{ cr, fault, told }`. */
  #finished = null;
  #keep = false;
  #open = false;
  #window = Infinity;
  #bytes = Infinity;
  #sent = 0;
  #got = 0;
  /** `{ size, value, text }` of each frame that is not acknowledged; `text` if the call may be resumed. */
  #unacknowledged = [];
  #held = 0;
  #wake = null;

  /** `call` has `socket`, `address` and `abort(error)`; `source` is the iterable of the application. */
  constructor(call, name, source) {
    this.#call = call;
    this.name = name;
    this.#source = source;
  }

  /** How many values were sent and not acknowledged; null if the server acknowledges nothing. */
  get unacknowledged() {
    return this.#window === Infinity ? null : this.#unacknowledged.filter((frame) => frame.value).length;
  }

  /** The call is open, as a new one. `limits` are `{ window, bytes, keep }`, or null for a plain server. */
  start(limits) {
    this.#window = limits?.window ?? Infinity;
    this.#bytes = limits?.bytes ?? Infinity;
    this.#keep = limits?.keep ?? false;
    this.#sent = this.#got = this.#held = 0;
    this.#unacknowledged = [];
    this.#open = true;
    if (this.#stopped) {
      // The server wanted no more in the call before this one; the source has been ended.
      this.#stopped = false;
      this.#finished ??= { cr: "done", fault: null, told: false };
    }
    if (this.#finished !== null) this.#sendFinish();
    else if (this.#running) this.#notify();
    else this.#run();
  }

  /**
   * The same call goes on after a cut. `received` is how many frames the server has, or -1 if it wants no
   * more. It need not have consumed them, so this gives no room: the next `flow` does.
   */
  resume(received) {
    if (received === -1) this.stop();
    this.#open = true;
    if (this.#stopped) return;
    const missing = this.#unacknowledged.slice(Math.max(0, received - this.#got));
    for (const { text } of missing) this.#call.socket.send(text);
    if (this.#finished?.told === false) this.#sendFinish();
    this.#notify();
  }

  /** The socket is gone: nothing is pulled until `start` or `resume`. */
  pause() {
    this.#open = false;
  }

  /** The server has consumed `got` frames. */
  acknowledge(got) {
    if (got <= this.#got || got > this.#sent) return;
    for (const { size } of this.#unacknowledged.splice(0, got - this.#got)) this.#held -= size;
    this.#got = got;
    this.#notify();
  }

  /** Pulls no more, and tells the source so. */
  stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#unacknowledged = [];
    this.#notify();
    if (this.#finished !== null || this.#iterator === null) return;
    try {
      // Not awaited: a generator that waits answers only when its wait is over.
      Promise.resolve(this.#iterator.return?.()).catch(() => {});
    } catch {
      // The source's trouble with being stopped concerns nobody here.
    }
  }

  async #run() {
    this.#running = true;
    try {
      this.#iterator = iterate(this.#source);
    } catch (error) {
      this.#call.abort(error);
      return;
    }
    for (;;) {
      let next;
      try {
        next = await this.#when(0, () => this.#iterator.next());
      } catch (error) {
        await this.#fail(error);
        return;
      }
      // Stopped, or what the iterator gives is nothing that one may give.
      if (typeof next !== "object" || next === null) return;
      if (next.done === true) {
        this.#finish("done", null);
        return;
      }
      if (!(await this.#value(next.value))) return;
    }
  }

  /** A fault takes a place in the window; another error is not described. */
  async #fail(error) {
    let fault = null;
    if (error instanceof StreamFault) {
      try {
        fault = { className: error.className, json: JSON.stringify(error.data) };
        if (fault.json?.[0] !== "{") throw new TypeError("the data of a fault is an object");
      } catch (wrong) {
        this.#call.abort(wrong);
        return;
      }
      const text = encode.msse(this.#call.address, this.name, fault.className, fault.json);
      await this.#when(utf8Length(text), () => this.#finish("error", fault));
    } else {
      this.#finish("error", null);
    }
  }

  async #value(value) {
    let className;
    let json;
    try {
      const known = wireValue(value);
      className = known.className;
      json = JSON.stringify(known.data);
      if (json === undefined) throw new TypeError("a value of an input is not JSON");
    } catch (error) {
      this.#call.abort(error);
      return false;
    }
    const write = () => encode.msm(this.#call.address, this.name, className, json);
    const { cid } = this.#call.address;
    const text = write();
    const sent = await this.#when(utf8Length(text), () => {
      // A call that was opened anew meanwhile has another id, of the same length.
      this.#send(cid === this.#call.address.cid ? text : write(), true);
      return true;
    });
    return sent === true;
  }

  /**
   * Runs `act` when a frame of `size` bytes may be sent: at that very moment, for a moment later the socket
   * may be gone. Gives what `act` gives, or undefined if the input is to stop.
   */
  async #when(size, act) {
    for (;;) {
      if (this.#stopped || this.#finished !== null) return undefined;
      const { socket } = this.#call;
      const outstanding = this.#sent - this.#got;
      const fits = outstanding === 0 || (outstanding < this.#window && this.#held + size <= this.#bytes);
      if (this.#open && fits && !socket.congested) return act();
      if (this.#open && fits) await socket.relief();
      else {
        await new Promise((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #send(text, value) {
    this.#sent += 1;
    if (this.#window !== Infinity) {
      const size = utf8Length(text);
      this.#held += size;
      this.#unacknowledged.push({ size, value, text: this.#keep ? text : null });
    }
    this.#call.socket.send(text);
  }

  #finish(cr, fault) {
    if (this.#stopped || this.#finished !== null) return;
    this.#finished = { cr, fault, told: false };
    if (this.#open) this.#sendFinish();
  }

  /** The close does not wait for the window: it ends what the window bounds. */
  #sendFinish() {
    const { cr, fault } = this.#finished;
    this.#finished.told = true;
    const at = this.#call.address;
    if (fault !== null) this.#send(encode.msse(at, this.name, fault.className, fault.json), false);
    this.#send(encode.cmsc({ ...at, p: this.name, cr }), false);
  }

  #notify() {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}

function iterate(source) {
  const begin = source?.[Symbol.asyncIterator] ?? source?.[Symbol.iterator];
  if (typeof begin === "function") return begin.call(source);
  // Not every browser can iterate over a ReadableStream.
  if (typeof source?.getReader === "function") {
    const reader = source.getReader();
    return { next: () => reader.read(), return: () => reader.cancel() };
  }
  throw new TypeError("an input is an iterable, asynchronous or not");
}
