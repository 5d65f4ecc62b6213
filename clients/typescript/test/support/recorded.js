/** A WebSocket that keeps its frames, and checks what has to hold for each of them. */
import assert from "node:assert/strict";

// What no client may see: it is in the text of every error of the server for tests.
const MARKER = "the password of the data base";
const EIGHT = new Set(["omsc", "omsr", "cmsc", "msm", "msse", "brm", "ping", "pong"]);
const COUNTED = new Set(["msm", "msse", "gap", "cmsc"]);

/** Counts the frames of one stream of a call, as both ends do. */
class Count {
  sent = 0;
  got = 0;
  most = 0;

  constructor(window) {
    this.window = window;
  }

  frame(what, type) {
    this.sent += 1;
    // The end takes a number, but no room; so does the fault of a method.
    if (type === "cmsc" || (type === "msse" && what === "the server")) return;
    const ahead = this.sent - this.got;
    this.most = Math.max(this.most, ahead);
    if (ahead > this.window) this.wrong ??= `${what} is ${ahead} ahead of a window of ${this.window}`;
  }
}

/** What the sockets of one client have carried. `plain`: the client does not speak of the extension. */
export class Record {
  sockets = [];
  frames = [];
  #calls = new Map();
  #wrong = [];

  constructor({ plain = false, tamper = (text) => text, headers } = {}) {
    this.plain = plain;
    const record = this;
    this.WebSocket = class extends globalThis.WebSocket {
      constructor(url) {
        // Node's own can send headers, which a browser's cannot.
        super(url, headers === undefined ? [] : { headers });
        record.sockets.push(this);
        this.addEventListener("message", ({ data }) => record.#arrived(data));
      }

      send(text) {
        const own = plain && text.startsWith('{"type":"ping"') ? '{"type":"ping"}' : text;
        record.#leaves(JSON.parse(own));
        super.send(tamper(own));
      }
    };
  }

  /** The frames of this type that were sent (`out`), or have arrived (`in`). */
  of(type, way) {
    return this.frames.filter((frame) => frame.type === type && (way === undefined || frame.way === way));
  }

  /** The most frames that a stream was ahead of its reader: of a call, or of its input `p`. */
  most(p = "") {
    return Math.max(0, ...[...this.#calls.values()].map((call) => call.streams.get(p)?.most ?? 0));
  }

  /** Fails if something was wrong with a frame. */
  check() {
    const counts = [...this.#calls.values()].flatMap((call) => [...call.streams.values()]);
    assert.deepEqual([...this.#wrong, ...counts.map((count) => count.wrong).filter(Boolean)], []);
  }

  #arrived(text) {
    if (text.includes(MARKER)) this.#wrong.push(`an error's text: ${text}`);
    const { type, data = {} } = JSON.parse(text);
    this.#keep({ way: "in", type, data });
    if (type === "omsr" && data.res === "success") this.#opened(data);
    if (type === "flow") this.#consumed(data, data.p);
    if (COUNTED.has(type) && data.p === undefined) this.#stream(data, "")?.frame("the server", type);
    for (const { cid, ok, got } of type === "rsr" ? data.calls : []) {
      for (const [p, count] of Object.entries((ok && got) || {})) this.#resumed(cid, p, count);
    }
  }

  #leaves({ type, data = {} }) {
    this.#keep({ way: "out", type, data });
    if (type === "omsc") this.#calls.set(data.cid, { x: data.x, streams: new Map() });
    if (type === "flow") this.#consumed(data, "");
    if (COUNTED.has(type) && data.p !== undefined) this.#stream(data, data.p)?.frame("the client", type);
    for (const { cid, got } of type === "rsm" ? data.calls : []) this.#resumed(cid, "", got[""]);
  }

  #keep(frame) {
    this.frames.push(frame);
    const { x, k, why } = frame.data;
    const known = EIGHT.has(frame.type) && x === undefined && k === undefined && why === undefined;
    if (this.plain && !known) this.#wrong.push(`a frame of the extension: ${JSON.stringify(frame)}`);
  }

  #opened({ cid, x }) {
    const call = this.#calls.get(cid);
    if (this.plain || call === undefined) return;
    call.streams.set("", new Count(call.x.w));
    for (const [p, window] of Object.entries(x?.w ?? {})) call.streams.set(p, new Count(window));
  }

  #stream({ cid }, p) {
    return this.#calls.get(cid)?.streams.get(p);
  }

  #consumed(data, p) {
    const stream = this.#stream(data, p);
    if (stream !== undefined) stream.got = Math.max(stream.got, data.got);
  }

  #resumed(cid, p, count) {
    const stream = this.#stream({ cid }, p);
    if (stream === undefined || count === -1) return;
    stream.sent = count;
    // What the client says there is what it has consumed; of the server only what has arrived.
    if (p === "") stream.got = count;
  }
}
