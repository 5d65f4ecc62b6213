/** The legacy streaming endpoints: one socket, one stream of objects for each endpoint. */
import { address } from "./client.js";
import { ConnectFailed, ConnectTimedOut, IdleTimeout, SocketLost, StreamsError } from "./errors.js";
import { platform } from "./platform.js";
import { Queue } from "./queue.js";
import { notify } from "./status.js";
import { wireValue } from "./values.js";

const FIRST_FRAME = 5000;
const PING = 20000;
const IDLE = 40000;
const LIMITS = { values: 65536, chars: 16 * 1024 * 1024 };
const PING_TEXT = '{"command":"ping","args":{}}';

export class StreamingEndpoints {
  #url;
  #key;
  #platform;
  #status = "disconnected";
  #listeners = new Set();
  #streams = new Map();
  #ws = null;
  #opening = null;
  #reject = null;
  #timer;
  #heard = 0;

  /** `key` is a text or a function that gives one, also later. It is part of the URL, as upstream. */
  constructor(url, { key, WebSocket, testing } = {}) {
    this.#url = address(url);
    this.#key = key;
    this.#platform = platform(WebSocket, testing);
  }

  /** `connected`, `connecting` or `disconnected`; `ReconnectingEndpoints` adds `waitingToRetry`. */
  get status() {
    return this.#status;
  }

  /** Calls `listener(status, error)` at each change. Gives the function that ends this. */
  addStatusListener(listener) {
    const entry = { listener };
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  /** Opens the socket. Resolves when the first frame has arrived, which may take 5 s. */
  openStreamingConnection() {
    this.#opening ??= this.#open().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  /** Closes the socket and ends all streams. */
  closeStreamingConnection() {
    this.#end(new SocketLost("the connection was closed"));
    for (const name of [...this.#streams.keys()]) this.resetStream(name);
  }

  /** Sends an object to an endpoint, `name` or `module.name`. Throws `SocketLost` without a connection. */
  sendStreamMessage(name, value) {
    if (this.#status !== "connected") throw new SocketLost("there is no streaming connection");
    this.#ws.send(JSON.stringify({ endpoint: name, object: wireValue(value) }));
  }

  /** Authenticates the live connection anew, with what `key` gives now. */
  async updateKey() {
    const key = await this.#askKey();
    if (this.#status !== "connected") throw new SocketLost("there is no streaming connection");
    this.#ws.send(JSON.stringify({ command: "auth", args: { key } }));
  }

  /**
   * The objects of an endpoint, from now on, to iterate over. A stream outlives its connection, and ends by
   * `resetStream`, by the end of its loop, or with an error if 65,536 objects or 16 Mi characters wait in it.
   */
  stream(name) {
    const queue = new Queue(LIMITS, () => {});
    const all = this.#streams.get(name) ?? new Set();
    this.#streams.set(name, all.add(queue));
    const end = () => {
      queue.clear();
      queue.finish();
      this.#remove(name, queue);
    };
    return {
      async next() {
        const item = await queue.next();
        return item === undefined ? { value: undefined, done: true } : { value: item.value, done: false };
      },
      async return(value) {
        end();
        return { value, done: true };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** Ends the streams of an endpoint. */
  resetStream(name) {
    for (const queue of this.#streams.get(name) ?? []) queue.finish();
    this.#streams.delete(name);
  }

  async #open() {
    if (this.#status === "connected") return;
    this.#set("connecting");
    try {
      const url = new URL(this.#url);
      const key = await this.#askKey();
      if (key !== undefined && key !== null) url.searchParams.set("auth", key);
      if (this.#status !== "connecting") throw new SocketLost("the connection was closed");
      await this.#connect(url.href);
    } catch (cause) {
      const error = cause instanceof StreamsError ? cause : new ConnectFailed("no connection", { cause });
      if (this.#status === "connecting") this.#set("disconnected", error);
      throw error;
    }
  }

  async #askKey() {
    return typeof this.#key === "function" ? this.#key() : this.#key;
  }

  /** Resolves at the first frame; the promise of an attempt is settled by `#end` otherwise. */
  #connect(url) {
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      let ws;
      try {
        ws = new this.#platform.WebSocket(url);
      } catch {
        // No cause: its text may show the URL, and the key with it.
        this.#end(new ConnectFailed("no connection"));
        return;
      }
      this.#ws = ws;
      this.#wait(FIRST_FRAME, () => this.#end(new ConnectTimedOut("no first frame in time")));
      ws.onopen = () => ws.send(PING_TEXT);
      ws.onerror = ws.onclose = () => {
        const early = this.#status === "connecting";
        this.#end(early ? new ConnectFailed("no connection") : new SocketLost("the socket was closed"));
      };
      ws.onmessage = ({ data }) => {
        this.#heard = this.#platform.now();
        if (this.#status === "connecting") {
          this.#set("connected");
          this.#beat();
          resolve();
        }
        if (typeof data === "string") this.#message(data);
      };
    });
  }

  #message(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      frame = null;
    }
    if (typeof frame !== "object" || frame === null) return;
    // A server that does not read gets no more answers, so that they do not pile up here.
    const flooded = (this.#ws.bufferedAmount ?? 0) > 1024 * 1024;
    if (frame.command === "ping" && !flooded) this.#ws.send('{"command":"pong","args":{}}');
    const { object } = frame;
    if (typeof frame.endpoint !== "string" || typeof object?.className !== "string") return;
    const value = { className: object.className, data: object.data };
    for (const queue of [...(this.#streams.get(frame.endpoint) ?? [])]) {
      if (queue.push({ value, chars: text.length })) continue;
      queue.finish(new StreamsError("too many objects wait to be read"));
      this.#remove(frame.endpoint, queue);
    }
  }

  #beat() {
    this.#wait(PING, () => {
      if (this.#platform.now() - this.#heard >= IDLE) {
        this.#end(new IdleTimeout(`nothing arrived for ${IDLE} ms`));
        return;
      }
      this.#ws.send(PING_TEXT);
      this.#beat();
    });
  }

  #end(error) {
    const ws = this.#ws;
    this.#ws = null;
    this.#platform.clearTimeout(this.#timer);
    this.#reject?.(error);
    this.#reject = null;
    if (ws !== null) {
      ws.onopen = ws.onmessage = ws.onclose = null;
      ws.onerror = () => {};
      ws.close(1000);
    }
    if (this.#status !== "disconnected") this.#set("disconnected", error);
  }

  #wait(ms, run) {
    this.#platform.clearTimeout(this.#timer);
    this.#timer = this.#platform.setTimeout(run, ms);
  }

  #set(status, error) {
    this.#status = status;
    notify(this.#listeners, status, error);
  }

  #remove(name, queue) {
    const all = this.#streams.get(name);
    all?.delete(queue);
    if (all?.size === 0) this.#streams.delete(name);
  }
}
