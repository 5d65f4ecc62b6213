/** One call: its states on the wire, from the opening to the end, over as many sockets as it takes. */
import { Backoff } from "./backoff.js";
import { CallClosed, CallRefused, StreamFault } from "./errors.js";
import { Gap, merged, Restarted, Resumed } from "./events.js";
import { encode } from "./frames.js";
import { uuid } from "./platform.js";
import { Queue } from "./queue.js";
import { Receiving } from "./receiving.js";
import { Sending } from "./sending.js";

// A call that gives values for so long shows that its method is well.
const WELL = 10000;

export class Call {
  /** waiting → opening → open → closing → closed; resuming lies between waiting and open again. */
  state = "waiting";
  socket = null;
  cid = null;
  /** The last cursor that the application has consumed. */
  cursor;
  queue;

  #connection;
  #en;
  #m;
  #args;
  #options;
  #inputs = new Map();
  #receiving;
  #token = null;
  /** Counts the openings, so that what was awaited for an earlier one is recognised as late. */
  #attempt = 0;
  #asked = false;
  #begun = false;
  #auth;
  #renewed = false;
  #backoff;
  /** When it was opened last. */
  #since = 0;
  #again = null;
  #timers = { deadline: undefined, again: undefined };
  #due = null;
  #unlisten = () => {};

  constructor(connection, en, m, args, options) {
    const { platform } = connection;
    this.#connection = connection;
    this.#en = en;
    this.#m = m;
    this.#args = args;
    this.#options = options;
    this.cursor = options.cursor;
    this.queue = new Queue(connection.options.maxQueued, (item) => this.#taken(item));
    this.#receiving = new Receiving(platform, (got) => this.#flow(got));
    this.#backoff = new Backoff(platform.random);
    for (const [name, source] of Object.entries(options.inputs ?? {})) {
      this.#inputs.set(name, new Sending(this, name, source));
    }
  }

  get resumes() {
    return this.#options.resume === true;
  }

  get anonymous() {
    return this.#options.anonymous === true;
  }

  /** Whether the server keeps the call, so that exactly this one can go on. */
  get parked() {
    return this.#token !== null;
  }

  get address() {
    return { en: this.#en, m: this.#m, cid: this.cid };
  }

  /** Begins. The signal and the deadline count from here. */
  start() {
    const { signal, deadline } = this.#options;
    const { platform } = this.#connection;
    if (signal?.aborted) {
      this.fail(signal.reason);
      return;
    }
    if (signal !== undefined) {
      const abort = () => this.abort(signal.reason);
      signal.addEventListener("abort", abort);
      this.#unlisten = () => signal.removeEventListener("abort", abort);
    }
    if (deadline !== undefined) {
      this.#due = platform.now() + deadline;
      const late = () => this.abort(new CallClosed("deadline", "never"));
      this.#timers.deadline = platform.setTimeout(late, deadline);
    }
    this.#connection.enter(this, true);
  }

  /** Opens the call on this socket, as a new one. */
  async open(socket) {
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.state = "opening";
    this.#asked = false;
    this.socket = socket;
    this.cid = uuid();
    socket.calls.set(this.cid, this);
    try {
      const renewed = this.#auth;
      this.#auth = this.anonymous ? undefined : (renewed ?? (await this.#connection.credentials.get()));
    } catch (error) {
      if (this.#attempt === attempt && this.state === "opening") this.#notOpened(error);
      return;
    }
    if (this.#attempt !== attempt || this.state !== "opening") return;
    this.#asked = true;
    const cookie = !this.anonymous && this.#connection.options.cookies === true;
    socket.send(
      encode.omsc({
        ...this.address,
        args: this.#args,
        is: [...this.#inputs.keys()],
        auth: this.#auth,
        am: cookie ? "cookie" : undefined,
        x: this.#extension(socket),
      }),
    );
  }

  /** Takes the socket, to go on there; gives what `rsm` says of this call. */
  resuming(socket) {
    this.state = "resuming";
    this.socket = socket;
    socket.calls.set(this.cid, this);
    return { cid: this.cid, t: this.#token, got: { "": this.#receiving.resume() } };
  }

  /** What `rsr` on this socket says of this call; undefined if it says nothing. */
  resumed(socket, answer) {
    // Cancelled after `rsm`: the server has taken it up again.
    const late = this.state === "closed" && answer?.ok === true;
    if (late) socket.send(encode.cmsc({ ...this.address, cr: "done" }));
    if (this.state !== "resuming") return;
    if (answer?.ok !== true) {
      this.#leave();
      this.reopen(0);
      return;
    }
    this.state = "open";
    this.#token = answer.token;
    this.#mark(new Resumed("exact", {}));
    for (const [name, input] of this.#inputs) input.resume(answer.got.get(name) ?? 0);
  }

  /** A frame for this call. */
  frame(frame) {
    if (frame.type !== "flow" && (frame.en !== this.#en || frame.m !== this.#m)) return;
    if (frame.type === "omsr") {
      if (this.state === "opening") this.#answered(frame);
    } else if (frame.type === "flow") {
      this.#inputs.get(frame.p)?.acknowledge(frame.got);
    } else if (frame.p !== undefined) {
      // The server wants no more of an input; why, the end of the call says.
      if (frame.type === "cmsc") this.#inputs.get(frame.p)?.stop();
    } else if (this.state === "open" || this.state === "closing") {
      this.#returned(frame);
    }
  }

  /** The socket is gone. */
  lost(error) {
    const { state } = this;
    this.#leave();
    if (state === "closing") this.#close();
    else if (!this.resumes) this.fail(error);
    else if (this.parked) this.#connection.enter(this, false);
    else this.reopen(0);
  }

  /** Opens a new call for this one, after `delay`, and after the application has consumed what is here. */
  reopen(delay) {
    this.#token = null;
    this.#again = delay;
    if (this.queue.counted === 0) this.#readyAgain();
  }

  /** Tries later to go on, on whatever socket there is then. */
  postpone() {
    this.#again = this.#backoff.next();
    this.#readyAgain();
  }

  /** The call is over with an error, which the reader gets after what is queued. */
  fail(error) {
    this.queue.finish(error);
    this.#close();
  }

  /** The application cancels. */
  cancel() {
    this.queue.clear();
    this.abort(undefined);
  }

  /** Tells the server that the client wants no more, and ends with `error`, if there is one. */
  abort(error, cr = "done", why = undefined) {
    if (this.state === "closed" || this.state === "closing") return;
    const known = this.state === "open" || (this.state === "opening" && this.#asked);
    if (known) this.socket.send(encode.cmsc({ ...this.address, cr, why }));
    this.queue.finish(error);
    this.#close();
  }

  #extension(socket) {
    if (socket.x === null) return undefined;
    const { platform, options } = this.#connection;
    const left = this.#due === null ? undefined : Math.ceil(this.#due - platform.now());
    // The wire has 32 bits for it. What is longer the client's own timer ends.
    const d = left === undefined || left > 0xffffffff ? undefined : Math.max(1, left);
    const r = this.resumes ? true : undefined;
    return { w: options.window, d, tp: this.#options.traceparent, k: this.cursor, r };
  }

  #answered({ res, windows, token }) {
    if (res === "success") {
      this.#opened(windows, token);
      return;
    }
    const renewable = res === "authenticationFailed" && this.#auth !== undefined && !this.#renewed;
    if (renewable) this.#renew(res);
    else this.fail(new CallRefused(res));
  }

  #opened(windows, token) {
    const { x } = this.socket;
    this.state = "open";
    this.#since = this.#connection.platform.now();
    this.#auth = undefined;
    this.#renewed = false;
    this.#token = x !== null && this.resumes ? token : null;
    this.#receiving.start(x === null ? null : this.#connection.options.window);
    if (this.#begun) {
      const left = {};
      for (const [name, input] of this.#inputs) left[name] = input.unacknowledged;
      const exact = x !== null && this.cursor !== undefined;
      this.#mark(exact ? new Resumed("cursor", left) : new Restarted(left));
    }
    this.#begun = true;
    for (const [name, input] of this.#inputs) {
      const window = windows.get(name) ?? x?.window;
      input.start(x === null ? null : { window, bytes: x.bytes, keep: this.#token !== null });
    }
  }

  async #renew(res) {
    const attempt = this.#attempt;
    const { socket } = this;
    this.#renewed = true;
    this.#asked = false;
    const auth = await this.#connection.credentials.renew(this.#auth);
    if (this.#attempt !== attempt || this.state !== "opening") return;
    if (auth === undefined) {
      this.fail(new CallRefused(res));
      return;
    }
    socket.calls.delete(this.cid);
    this.#auth = auth;
    this.open(socket);
  }

  #notOpened(error) {
    if (!this.resumes) {
      this.fail(error);
      return;
    }
    this.#leave();
    this.reopen(this.#backoff.next());
  }

  #returned(frame) {
    if (!this.#receiving.arrived()) return;
    if (frame.type === "cmsc") {
      this.#closed(frame);
      return;
    }
    if (this.state === "closing") return;
    if (frame.type === "msse") {
      // Its `cmsc` is still to come; the reader need not wait for it.
      this.queue.finish(new StreamFault(frame.ex.className, frame.ex.data));
      this.#finish("closing");
      this.#connection.rest(this.socket);
      return;
    }
    const { window, held } = this.#receiving;
    const fits = window === null || held <= window;
    if (frame.type === "gap") this.#push({ event: new Gap(frame.n, frame.c), counts: true }, fits);
    else this.#push({ value: frame.o, k: frame.k, counts: true, chars: frame.chars }, fits);
    if (this.#connection.platform.now() - this.#since >= WELL) this.#backoff.reset();
  }

  #closed({ cr, why }) {
    // The server keeps the end of a call that may be resumed until it is acknowledged.
    if (this.#token !== null) this.#flow(this.#receiving.received);
    if (this.state === "closing") {
      this.#close();
      return;
    }
    if (cr === "done" && why === undefined) {
      this.queue.finish();
      this.#close();
      return;
    }
    const again = why?.again;
    if (this.resumes && (again === "now" || typeof again === "number")) {
      const spread = this.socket.leaving ?? 0;
      const wait = this.#backoff.nextOrNow();
      const { random } = this.#connection.platform;
      this.#leave();
      this.reopen(Math.max(wait, random() * spread, again === "now" ? 0 : Math.min(again, 3600000)));
    } else {
      this.fail(new CallClosed(why?.c, again));
    }
  }

  #push(item, fits = true) {
    if (fits && this.queue.push(item)) return;
    const why = this.socket.x === null ? undefined : { c: "limit", again: "never" };
    this.abort(new CallClosed("limit", "never"), "error", why);
  }

  /** Queues what happened; with what happened just before, if nobody has read that, as one. */
  #mark(event) {
    const { last } = this.queue;
    if (last === undefined || last.event === undefined || last.counts) this.#push({ event });
    else last.event = merged(last.event, event);
  }

  /** Runs before the reader has the item: the position is never behind what the application knows. */
  #taken(item) {
    if (item.k !== undefined) this.cursor = item.k;
    if (item.counts) this.#receiving.consumed();
    if (this.#again !== null && this.queue.counted === 0) this.#readyAgain();
  }

  #readyAgain() {
    const delay = this.#again;
    this.#again = null;
    if (delay === 0) {
      this.#connection.enter(this, false);
      return;
    }
    // The wait is over: no other one is added to it.
    const enter = () => this.#connection.enter(this, true);
    this.#timers.again = this.#connection.platform.setTimeout(enter, delay);
  }

  #flow(got) {
    if (this.socket?.x == null || (this.state !== "open" && this.state !== "closing")) return false;
    this.socket.send(encode.flow(this.cid, got));
    return true;
  }

  /** Leaves the socket, to be opened or resumed on another. */
  #leave() {
    const { socket } = this;
    this.state = "waiting";
    this.socket = null;
    this.#auth = undefined;
    this.#receiving.stop();
    for (const input of this.#inputs.values()) input.pause();
    if (socket !== null) {
      socket.calls.delete(this.cid);
      this.#connection.rest(socket);
    }
  }

  #finish(state) {
    const { platform } = this.#connection;
    this.state = state;
    this.#again = null;
    this.#unlisten();
    this.#receiving.stop();
    for (const timer of Object.values(this.#timers)) if (timer !== undefined) platform.clearTimeout(timer);
    for (const input of this.#inputs.values()) input.stop();
    this.#connection.finished(this);
  }

  #close() {
    if (this.state === "closed") return;
    const { socket } = this;
    this.socket = null;
    socket?.calls.delete(this.cid);
    this.#finish("closed");
    if (socket !== null) this.#connection.rest(socket);
  }
}
