/** The shared socket: opened on first use, replaced when it is lost, closed when no call needs it. */
import { Backoff } from "./backoff.js";
import { Credentials } from "./credentials.js";
import { IdleTimeout, SocketLost } from "./errors.js";
import { encode } from "./frames.js";
import { Socket } from "./socket.js";
import { Status } from "./status.js";

const LINGER = 1000;
// A socket that lived for so long shows that the server is well again.
const WELL = 10000;

export class Connection {
  status = new Status();
  credentials;
  platform;
  options;

  #url;
  #calls = new Set();
  /** Calls that wait for a socket. */
  #waiting = new Set();
  #sockets = new Set();
  /** Where new calls are opened, if it is usable. */
  #socket = null;
  #attempt = null;
  #resuming = false;
  #refreshing = null;
  #retry;
  #linger = new Map();
  #backoff;
  #unlisten = null;

  constructor(url, options, platform) {
    this.#url = url;
    this.options = options;
    this.platform = platform;
    this.credentials = new Credentials(options.credentials, platform);
    this.#backoff = new Backoff(platform.random);
  }

  /** A call wants a socket: `now`, or, after a loss, when the backoff says. */
  enter(call, now) {
    this.#calls.add(call);
    this.#waiting.add(call);
    this.#listen();
    if (now || this.#socket?.usable) this.#now();
    else this.#later();
  }

  /** A call is over. */
  finished(call) {
    this.#calls.delete(call);
    this.#waiting.delete(call);
    if (this.#waiting.size === 0 && this.#retry !== undefined) {
      this.#stopRetry();
      this.#idle();
    }
    this.#quiet();
  }

  /** A socket may have lost its last call: it is closed after a second without one. */
  rest(socket) {
    const used = [...socket.calls.values()].some((call) => call.state !== "closing");
    const needed = used || (socket === this.#socket && socket.usable && this.#waiting.size > 0);
    const timer = this.#linger.get(socket);
    if (needed || socket.ended) {
      if (timer !== undefined) this.platform.clearTimeout(timer);
      this.#linger.delete(socket);
    } else if (timer === undefined) {
      const wait = socket.leaving === null ? LINGER : 0;
      this.#linger.set(socket, this.platform.setTimeout(() => this.#close(socket), wait));
    }
  }

  /** Ends all calls with `SocketLost`, and closes every socket. A new call opens a new one. */
  close(reason = "the client was closed") {
    this.#stopRetry();
    for (const call of [...this.#calls]) call.abort(new SocketLost(reason));
    const attempt = this.#attempt;
    this.#attempt = null;
    attempt?.close();
    for (const socket of [...this.#sockets]) this.#close(socket);
    this.#idle();
  }

  /** Gives the calls of this socket new credentials. Undefined if there is no socket that can. */
  refresh() {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refresh() {
    const socket = this.#socket;
    const auth = await this.credentials.get();
    if (socket === null || !socket.usable || socket.x === null || auth === undefined) return undefined;
    const answer = socket.answer("authr", ({ res, until }) => ({ res, until }));
    socket.send(encode.auth(auth));
    return answer;
  }

  /** @internal The first pong arrived. */
  ready(socket) {
    this.#attempt = null;
    this.#sockets.add(socket);
    this.#socket = socket;
    this.status.set("connected");
    this.#serve();
    this.rest(socket);
  }

  /** @internal A frame that is not the socket's own business. */
  frame(socket, frame) {
    if (frame.cid !== undefined) socket.calls.get(frame.cid)?.frame(frame);
    else if (frame.type === "bye") this.rest(socket);
  }

  /** @internal A socket, or an attempt, is over. */
  ended(socket, error) {
    if (socket === this.#attempt) this.#attempt = null;
    this.#forget(socket);
    if (socket.since !== null && this.platform.now() - socket.since >= WELL) this.#backoff.reset();
    if (socket.since === null) {
      for (const call of [...this.#waiting]) if (!call.resumes) call.fail(error);
    }
    const calls = [...socket.calls.values()];
    if (!this.#socket?.usable && (this.#waiting.size > 0 || calls.some((call) => call.resumes))) {
      // What was found dead by a ping took its time already.
      const found = error instanceof IdleTimeout ? 0 : null;
      const spread = socket.leaving === null ? null : this.platform.random() * socket.leaving;
      this.#later(spread === null ? found : Math.max(spread, this.#backoff.nextOrNow()));
    }
    for (const call of calls) call.lost(error);
    // Calls whose reader still has something to read come later.
    if (this.#waiting.size === 0) this.#stopRetry();
    this.#idle(error);
    this.#quiet();
  }

  /** Serves the calls that wait, or makes an attempt, without a delay. */
  #now() {
    this.#stopRetry();
    if (this.#socket?.usable) {
      this.#serve();
    } else if (this.#attempt === null) {
      this.status.set("connecting");
      this.#attempt = new Socket(this.#url, this.options, this.platform, this);
      this.#attempt.open();
    }
  }

  /** Makes an attempt after `delay`, or when the backoff says. */
  #later(delay = null) {
    if (this.#retry !== undefined || this.#attempt !== null) return;
    delay ??= this.#backoff.next();
    this.status.set("waiting", { ms: Math.round(delay) });
    this.#retry = this.platform.setTimeout(() => this.#now(), delay);
  }

  /**
   * Opens or resumes the calls that wait. Nothing else is sent between `rsm` and `rsr`: the old tokens are
   * good until something else arrives at the server.
   */
  async #serve() {
    if (this.#resuming) return;
    const socket = this.#socket;
    this.rest(socket);
    const parked = [...this.#waiting].filter((call) => call.parked);
    if (parked.length > 0) {
      this.#resuming = true;
      try {
        await this.#resume(socket, parked);
      } catch (error) {
        // A socket that ended has told its calls; what else is wrong ends it.
        socket.cut(error);
      }
      this.#resuming = false;
      if (this.#socket?.usable) this.#serve();
      return;
    }
    for (const call of [...this.#waiting]) {
      this.#waiting.delete(call);
      call.open(socket);
    }
    this.rest(socket);
  }

  async #resume(socket, parked) {
    let auth;
    try {
      const shown = socket.x !== null && parked.some((call) => !call.anonymous);
      if (shown) auth = await this.credentials.get();
    } catch {
      for (const call of parked) if (this.#waiting.delete(call)) call.postpone();
      return;
    }
    if (socket.ended) return;
    // Some may have been cancelled meanwhile.
    const group = parked.filter((call) => this.#waiting.delete(call));
    const calls = group.map((call) => call.resuming(socket));
    const resumed = (answers) => {
      for (const call of group) call.resumed(socket, answers.get(call.cid));
    };
    if (socket.x === null || calls.length === 0) {
      resumed(new Map());
      return;
    }
    const answer = socket.answer("rsr", (frame) => resumed(frame.calls));
    socket.send(encode.rsm(calls, auth));
    await answer;
  }

  #close(socket) {
    this.#forget(socket);
    socket.close();
    this.#idle();
    this.#quiet();
  }

  #forget(socket) {
    this.platform.clearTimeout(this.#linger.get(socket));
    this.#linger.delete(socket);
    this.#sockets.delete(socket);
    if (this.#socket === socket) this.#socket = null;
  }

  #stopRetry() {
    if (this.#retry !== undefined) this.platform.clearTimeout(this.#retry);
    this.#retry = undefined;
  }

  /** Sets the status if nothing is under way. */
  #idle(why) {
    if (this.#attempt !== null || this.#retry !== undefined) return;
    if (this.#socket !== null) this.status.set("connected");
    else this.status.set("disconnected", why === undefined ? undefined : { why });
  }

  /** Listens to the network and the page while there is something to keep alive. */
  #listen() {
    if (this.#unlisten !== null) return;
    const { listen, visible } = this.platform;
    const wake = () => {
      if (this.#retry !== undefined) this.#now();
      // A page that was hidden, or a device that slept, may hold a socket that is dead.
      for (const socket of this.#sockets) socket.probe();
    };
    const offline = () => {
      if (this.options.closeWhenOffline !== true) return;
      for (const socket of [...this.#sockets]) socket.cut(new SocketLost("the network is offline"));
    };
    const ends = [
      listen("online", wake),
      listen("visibilitychange", () => visible() && wake()),
      listen("offline", offline),
    ];
    this.#unlisten = () => ends.forEach((end) => end());
  }

  #quiet() {
    if (this.#calls.size > 0 || this.#sockets.size > 0 || this.#attempt !== null) return;
    this.#unlisten?.();
    this.#unlisten = null;
  }
}
