/** A proxy between clients and a server, which cuts connections when it is told to, or after some frames. */
import { once } from "node:events";
import { connect, createServer } from "node:net";

const HEAD_END = "\r\n\r\n";

/** Finds the ends of WebSocket frames in one direction of a connection, behind the head of the upgrade. */
class Frames {
  #rest = Buffer.alloc(0);
  #inHead = true;

  /** The lengths of the pieces of `chunk` behind each of which a frame, or the head, is complete. */
  *ends(chunk) {
    const before = this.#rest.length;
    const all = Buffer.concat([this.#rest, chunk]);
    let at = 0;
    for (;;) {
      const end = this.#inHead ? headEnd(all) : frameEnd(all, at);
      if (end === undefined) break;
      this.#inHead = false;
      yield end - Math.max(at, before);
      at = end;
    }
    this.#rest = all.subarray(at);
  }
}

function headEnd(bytes) {
  const at = bytes.indexOf(HEAD_END);
  return at === -1 ? undefined : at + HEAD_END.length;
}

function frameEnd(bytes, at) {
  if (bytes.length < at + 2) return undefined;
  const short = bytes[at + 1] & 0x7f;
  const mask = (bytes[at + 1] & 0x80) === 0 ? 0 : 4;
  const extra = { 126: 2, 127: 8 }[short] ?? 0;
  if (bytes.length < at + 2 + extra) return undefined;
  let length = short;
  if (short === 126) length = bytes.readUInt16BE(at + 2);
  if (short === 127) length = Number(bytes.readBigUInt64BE(at + 2));
  const end = at + 2 + extra + mask + length;
  return bytes.length < end ? undefined : end;
}

/** `life()` gives after how many frames, of both directions, a new connection is cut; without it none is. */
export async function proxy(target, life = () => Infinity) {
  const open = new Set();
  let to = target;
  const state = {
    url: "",
    cuts: 0,
    accepted: 0,
    target,
    /** Where later connections go; null: nowhere. */
    aim: (address) => {
      to = address;
    },
    /** Cuts what is open. */
    cut: () => [...open].forEach((one) => one.end("resetAndDestroy")),
    /** Passes no byte of the open connections on from now on, and keeps them. */
    stall: () => [...open].forEach((one) => (one.stalled = true)),
    close: () =>
      new Promise((resolve) => {
        state.cut();
        server.close(resolve);
      }),
  };
  const server = createServer({ noDelay: true }, (down) => {
    state.accepted += 1;
    down.on("error", () => {});
    if (to === null) {
      down.destroy();
      return;
    }
    const [host, port] = to.split(":");
    const up = connect({ host, port: Number(port), noDelay: true });
    up.on("error", () => {});
    let left = life();
    let over = false;
    const end = (how) => {
      if (over) return;
      over = true;
      open.delete(connection);
      state.cuts += 1;
      // A reset of a socket that is about to end leaves Node 20 spinning at its exit.
      for (const socket of [down, up]) socket[socket.writableEnded ? "destroy" : how]();
    };
    const connection = { end, stalled: false };
    open.add(connection);
    const pass = (from, into) => {
      const frames = new Frames();
      from.on("data", (chunk) => {
        if (over || connection.stalled) return;
        let whole = 0;
        for (const length of frames.ends(chunk)) {
          whole += length;
          left -= 1;
          if (left > 0) continue;
          // Every second one in order, so that what came before it arrives; every other is lost at once.
          into.write(chunk.subarray(0, whole));
          end(state.cuts % 2 === 0 ? "destroySoon" : "resetAndDestroy");
          return;
        }
        if (!into.write(chunk)) {
          from.pause();
          into.once("drain", () => from.resume());
        }
      });
      from.on("close", () => {
        over = true;
        open.delete(connection);
        into.destroy();
      });
    };
    pass(down, up);
    pass(up, down);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  state.url = `ws://127.0.0.1:${server.address().port}/v1/websocket`;
  return state;
}
