/** A WebSocket server on loopback that does what a test tells it to. */
import { WebSocketServer } from "ws";
import { eventually } from "./eventually.js";

/** The pong of a server that knows the extension. */
export const X1 = { x: 1, window: 64, bytes: 262144, park: 30000 };

/** One accepted socket. What arrives is kept until a test takes it. */
class Peer {
  frames = [];
  closed = null;
  #taken = new Set();
  #ws;

  constructor(ws, request, pong) {
    this.#ws = ws;
    this.url = request.url;
    this.pong = pong;
    ws.on("message", (data) => this.#message(data.toString()));
    ws.on("close", (code) => {
      this.closed = code;
    });
    ws.on("error", () => {});
  }

  #message(text) {
    const frame = JSON.parse(text);
    this.frames.push({ ...frame, text });
    if (frame.type === "ping" && this.pong !== null) this.send("pong", this.pong ?? undefined);
    if (frame.command === "ping" && this.pong !== null) this.text('{"command":"pong","args":{}}');
  }

  /** The data of the next frame of this type that no one has taken. */
  async next(type) {
    const frame = await eventually(
      () => this.frames.find((one) => one.type === type && !this.#taken.has(one)),
      `a frame ${type}; there are ${this.frames.map((one) => one.type)}`,
    );
    this.#taken.add(frame);
    return frame.data ?? {};
  }

  count(type) {
    return this.frames.filter((frame) => frame.type === type).length;
  }

  text(text) {
    this.#ws.send(text);
  }

  send(type, data) {
    this.text(JSON.stringify({ type, data }));
  }

  success({ en, m, cid }, x) {
    this.send("omsr", { cid, res: "success", en, m, x });
  }

  refuse({ en, m, cid }, res) {
    this.send("omsr", { cid, res, en, m });
  }

  value({ en, m, cid }, data, { className = "int", k } = {}) {
    this.send("msm", { en, m, cid, o: { className, data }, k });
  }

  fault({ en, m, cid }, className, data) {
    this.send("msse", { en, m, cid, ex: { className, data } });
  }

  end({ en, m, cid }, cr = "done", more = {}) {
    this.send("cmsc", { en, m, cid, ...more, cr });
  }

  /** The next call, opened. */
  async opened(x) {
    const open = await this.next("omsc");
    this.success(open, x);
    return open;
  }

  close(code) {
    this.#ws.close(code);
  }

  /** Cuts the socket without a word. */
  cut() {
    this.#ws.terminate();
  }

  /** Reads no more, so that what the client writes piles up there. */
  pause() {
    this.#ws.pause();
  }

  resume() {
    this.#ws.resume();
  }
}

/** A server; `pong` is the data of its pongs, undefined for a plain one, null for one that is silent. */
export async function serve({ pong } = {}) {
  const peers = [];
  let taken = 0;
  let answer = pong;
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  server.on("connection", (ws, request) => peers.push(new Peer(ws, request, answer)));
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    url: `ws://127.0.0.1:${server.address().port}/v1/websocket`,
    peers,
    /** What later sockets get as pong. */
    answer(data) {
      answer = data;
    },
    get untaken() {
      return peers.length - taken;
    },
    /** The next socket that no one has taken. */
    async peer() {
      await eventually(() => peers.length > taken, "another socket");
      taken += 1;
      return peers[taken - 1];
    },
    close() {
      for (const peer of peers) peer.cut();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** An address at which nobody listens. */
export async function nobody() {
  const server = await serve();
  await server.close();
  return server.url;
}
