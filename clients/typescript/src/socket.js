/** One WebSocket: the first ping, the pings after it, frames in and out, and its end. */
import { ConnectFailed, ConnectTimedOut, IdleTimeout, SocketLost } from "./errors.js";
import { BadFrame, decode, encode } from "./frames.js";

// A longer text is not read. A server of ours refuses far less than this.
const MAX_TEXT = 16 * 1024 * 1024;
// While so much waits to be written, inputs are not pulled; and the server's pings are not answered.
const CONGESTED = 256 * 1024;
const FLOODED = 1024 * 1024;
const RELIEF = 25;
// The time for an answer, in times to connect: an authenticator has 10 s, and a socket that still has a call 2 s to give
// it away.
const ANSWER = 3;
// What a `brm` quotes.
const MAX_QUOTE = 1024;

export class Socket {
  /** The calls on this socket, by their `cid`. */
  calls = new Map();
  /** What the server agreed to in its first pong, or null for a plain server. */
  x = null;
  /** The server is about to stop: the most milliseconds to wait before calling again, or null. */
  leaving = null;
  /** When the server's first pong arrived, or null. */
  since = null;

  #url;
  #options;
  #platform;
  #owner;
  #ws = null;
  #ended = false;
  #timers = new Map();
  #heard = 0;
  #pinged = 0;
  #answers = new Map();

  /** `owner` has `ready(socket)`, `frame(socket, frame)`, and `ended(socket, error)`, called once. */
  constructor(url, options, platform, owner) {
    this.#url = url;
    this.#options = options;
    this.#platform = platform;
    this.#owner = owner;
  }

  /** Begins to connect. */
  open() {
    this.#timer("connect", this.#options.connectTimeout, () =>
      this.cut(new ConnectTimedOut("the server did not answer the first ping in time")),
    );
    try {
      this.#ws = new this.#platform.WebSocket(this.#url);
    } catch (cause) {
      this.cut(new ConnectFailed("the socket could not be opened", { cause }));
      return;
    }
    const ws = this.#ws;
    ws.binaryType = "arraybuffer";
    ws.onopen = () => this.send(encode.ping(true));
    ws.onmessage = (event) => this.#message(event.data);
    ws.onclose = (event) => this.#closed(event.code);
    // Some implementations do not report a close after a failed attempt.
    ws.onerror = () => this.#closed(undefined);
  }

  /** Whether calls can be opened here. */
  get usable() {
    return this.since !== null && !this.#ended && this.leaving === null;
  }

  get ended() {
    return this.#ended;
  }

  /** Whether so much waits to be written that nothing should be added that can wait. */
  get congested() {
    return (this.#ws?.bufferedAmount ?? 0) > CONGESTED;
  }

  /** Waits until the socket is not congested, or has ended. A WebSocket has no event for it: it is asked. */
  relief() {
    return new Promise((resolve) => {
      const look = () => {
        if (this.#ended || !this.congested) resolve();
        else this.#platform.setTimeout(look, RELIEF);
      };
      look();
    });
  }

  /** Writes a frame; nothing happens if the socket is not open. */
  send(text) {
    if (!this.#ended && this.#ws?.readyState === 1) this.#ws.send(text);
  }

  /** Sends a ping, and cuts the socket if nothing arrives for the time that connecting may take. */
  probe() {
    if (this.since === null || this.#ended || this.#timers.has("probe")) return;
    this.#ping();
    // Any frame stops this timer.
    this.#timer("probe", this.#options.connectTimeout, () =>
      this.cut(new IdleTimeout("the server did not answer a ping")),
    );
  }

  /**
   * Runs `take` with the next frame of this type, before the frame after it is read, and resolves to what it
   * gives. Rejects when the socket ends, and if the frame does not come in time.
   */
  answer(type, take) {
    return new Promise((resolve, reject) => {
      this.#answers.set(type, { take, resolve, reject });
      this.#timer(type, this.#options.connectTimeout * ANSWER, () => {
        this.#answers.delete(type);
        reject(new ConnectTimedOut(`the server did not answer with ${type} in time`));
      });
    });
  }

  /** Closes the socket, as nobody needs it. The owner is not told. */
  close() {
    this.#stop(new SocketLost("the socket was closed"), 1000);
  }

  /** Gives the socket up, and tells the owner why. */
  cut(error, code) {
    if (this.#stop(error, code)) this.#owner.ended(this, error);
  }

  #closed(code) {
    const where = code === undefined ? "" : ` with ${code}`;
    this.cut(
      this.since === null
        ? new ConnectFailed(`the socket could not be opened${where}`)
        : new SocketLost(`the socket was closed${where}`, code),
    );
  }

  #stop(error, code) {
    if (this.#ended) return false;
    this.#ended = true;
    for (const name of [...this.#timers.keys()]) this.#clear(name);
    for (const waiting of this.#answers.values()) waiting.reject(error);
    this.#answers.clear();
    const ws = this.#ws;
    if (ws !== null) {
      ws.onopen = ws.onmessage = ws.onclose = null;
      // Closing a socket that is still connecting is reported as an error by some implementations.
      ws.onerror = () => {};
      ws.close(code ?? 1000);
    }
    return true;
  }

  #message(text) {
    if (this.#ended) return;
    this.#heard = this.#platform.now();
    this.#clear("probe");
    // The protocol is text; a binary frame has no meaning to a client.
    if (typeof text !== "string") return;
    let frame;
    try {
      if (text.length > MAX_TEXT) throw new BadFrame("too long");
      frame = decode(text, this.x !== null);
    } catch (error) {
      if (!(error instanceof BadFrame)) throw error;
      this.#bad(text, error);
      return;
    }
    frame.chars = text.length;
    this.#frame(frame);
  }

  #frame(frame) {
    switch (frame.type) {
      case "ping":
        if ((this.#ws.bufferedAmount ?? 0) < FLOODED) this.send(encode.pong());
        return;
      case "pong":
        if (this.since === null) this.#ready(frame.x);
        return;
      case "brm":
        this.cut(new SocketLost("the server did not understand a frame"));
        return;
      case "bye":
        this.leaving = frame.spread;
        break;
    }
    const waiting = this.#answers.get(frame.type);
    if (waiting !== undefined) {
      this.#answers.delete(frame.type);
      this.#clear(frame.type);
      waiting.resolve(waiting.take(frame));
      return;
    }
    this.#owner.frame(this, frame);
  }

  #bad(text, error) {
    this.send(encode.brm(text.length <= MAX_QUOTE ? text : `a text of ${text.length} characters`));
    // A page may close with 1000 and the private codes only.
    this.cut(new SocketLost(`the server sent a bad frame: ${error.message}`), 4002);
  }

  #ready(x) {
    this.x = x;
    this.since = this.#platform.now();
    this.#pinged = this.since;
    this.#clear("connect");
    this.#beat();
    this.#owner.ready(this);
  }

  #ping() {
    this.#pinged = this.#platform.now();
    this.send(encode.ping(false));
  }

  /** Arms the timer for the next ping or the idle time, whichever comes first. */
  #beat() {
    const { pingInterval, idleTimeout } = this.#options;
    const next = Math.min(this.#pinged + pingInterval, this.#heard + idleTimeout);
    this.#timer("beat", Math.max(0, next - this.#platform.now()), () => {
      const now = this.#platform.now();
      if (now - this.#heard >= idleTimeout) {
        this.cut(new IdleTimeout(`nothing arrived for ${idleTimeout} ms`));
        return;
      }
      if (now - this.#pinged >= pingInterval) this.#ping();
      this.#beat();
    });
  }

  #timer(name, ms, run) {
    this.#clear(name);
    const timer = this.#platform.setTimeout(() => {
      this.#timers.delete(name);
      run();
    }, ms);
    this.#timers.set(name, timer);
  }

  #clear(name) {
    const timer = this.#timers.get(name);
    if (timer === undefined) return;
    this.#timers.delete(name);
    this.#platform.clearTimeout(timer);
  }
}
