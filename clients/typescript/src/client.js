/** `connect`: checks the options, and gives `api.call.<endpoint>.<method>(args, options)`. */
import { Call } from "./call.js";
import { Connection } from "./connection.js";
import { platform } from "./platform.js";
import { Stream } from "./stream.js";

const DEFAULTS = {
  window: 64,
  connectTimeout: 5000,
  pingInterval: 20000,
  idleTimeout: 40000,
  maxQueued: { values: 65536, chars: 16 * 1024 * 1024 },
};
const CONNECT = new Set([
  ...Object.keys(DEFAULTS),
  "credentials",
  "cookies",
  "closeWhenOffline",
  "WebSocket",
  "testing",
]);
const CALL = new Set(["inputs", "signal", "resume", "deadline", "anonymous", "cursor", "traceparent"]);
const MAX_WINDOW = 4096;

function known(options, names, what) {
  for (const name of Object.keys(options)) {
    // Inputs that were passed without `inputs:`, most likely. Silence would lose them.
    if (!names.has(name)) throw new TypeError(`${what} has no option ${name}`);
  }
}

function positive(options, names) {
  for (const name of names) {
    const value = options[name];
    if (value === undefined) continue;
    if (!Number.isFinite(value) || value <= 0) throw new TypeError(`${name} is a positive number`);
  }
}

/** The address of the socket. Credentials are never part of it. */
export function address(url) {
  const found = new URL(url, globalThis.location?.href);
  if (found.username !== "" || found.password !== "") throw new TypeError("no credentials in the URL");
  found.protocol = found.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(found.protocol)) throw new TypeError("the URL is one of ws, wss, http or https");
  found.hash = "";
  return found.href;
}

/** A client of the server at `url`. Nothing is opened before the first call. */
export function connect(url, options = {}) {
  known(options, CONNECT, "connect");
  const all = { ...DEFAULTS, ...options, maxQueued: { ...DEFAULTS.maxQueued, ...options.maxQueued } };
  positive(all, ["window", "connectTimeout", "pingInterval", "idleTimeout"]);
  positive(all.maxQueued, ["values", "chars"]);
  if (!Number.isInteger(all.window) || all.window > MAX_WINDOW || all.window > all.maxQueued.values) {
    throw new TypeError(`window is a whole number of at most ${MAX_WINDOW} and maxQueued.values`);
  }
  return new Client(new Connection(address(url), all, platform(options.WebSocket, options.testing)));
}

class Client {
  #connection;
  call;

  constructor(connection) {
    this.#connection = connection;
    this.call = names((endpoint) =>
      names((method) => (args, options) => this.open(endpoint, method, args, options)),
    );
  }

  /** What the connection does: `current`, and `subscribe(listener)`. */
  get status() {
    return this.#connection.status;
  }

  /** The same as `call[endpoint][method](args, options)`, without types. */
  open(endpoint, method, args = {}, options = {}) {
    known(options, CALL, "a call");
    positive(options, ["deadline"]);
    const text = JSON.stringify(args);
    if (text === undefined || text[0] !== "{") throw new TypeError("the arguments of a call are an object");
    const call = new Call(this.#connection, endpoint, method, text, options);
    call.start();
    return new Stream(call);
  }

  /**
   * Asks the provider for a credential and gives it to the calls of the socket. Resolves to the server's
   * answer, or to undefined if there is no socket that can: the next call asks the provider anyway.
   */
  refreshCredentials() {
    return this.#connection.refresh();
  }

  /** Ends all calls with `SocketLost` and closes the socket. A call after this opens a new one. */
  close(reason) {
    this.#connection.close(reason);
  }
}

/** An object that has a member for each name; `then` is none, so that it can be awaited by mistake. */
function names(member) {
  const made = new Map();
  return new Proxy(Object.create(null), {
    get(_, name) {
      if (typeof name !== "string" || name === "then") return undefined;
      if (!made.has(name)) made.set(name, member(name));
      return made.get(name);
    },
  });
}
