/** Random cuts and random frames: what holds for any order of events. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Resumed } from "../src/index.js";
import { dice } from "./support/dice.js";
import { scene } from "./support/scene.js";
import { eventually, within } from "./support/eventually.js";
import { X1 } from "./support/server.js";

const TOTAL = 1000;
const WINDOW = 8;

/** A call at a server that parks: it echoes its input, keeps what is not acknowledged, and cuts at will. */
class Echo {
  received = 0;
  sent = 0;
  /** The highest number that the client said that it consumed. */
  got = 0;
  kept = [];
  inputs = [];
  ended = false;
  cuts = 0;
  most = 0;
  #peer = null;
  #seen = 0;
  #roll;

  constructor(roll) {
    this.#roll = roll;
  }

  attach(peer, seen) {
    this.#peer = peer;
    this.#seen = seen;
  }

  resume({ got }) {
    this.acknowledge(got[""]);
    for (const text of this.kept) this.#peer.text(text);
  }

  acknowledge(got) {
    assert.ok(got <= this.sent, "more acknowledged than was sent");
    this.kept.splice(0, Math.max(0, got - this.got));
    this.got = Math.max(this.got, got);
  }

  /** Takes what has arrived, sends what the window allows. Gives whether the socket is to be cut. */
  turn(call) {
    const frames = this.#peer.frames;
    for (; this.#seen < frames.length; this.#seen += 1) {
      if (this.#roll(25) === 0) return true;
      const { type, data } = frames[this.#seen];
      if (type === "flow") this.acknowledge(data.got);
      if (type !== "msm" && type !== "cmsc") continue;
      this.received += 1;
      if (type === "msm") this.inputs.push(data.o.data);
      else this.ended = true;
    }
    const { en, m, cid } = call;
    while (this.sent < this.inputs.length && this.sent - this.got < WINDOW) {
      const o = { className: "int", data: this.inputs[this.sent] };
      this.#send(JSON.stringify({ type: "msm", data: { en, m, cid, o } }));
      this.#peer.send("flow", { cid, p: "numbers", got: this.sent });
      if (this.#roll(15) === 0) return true;
    }
    if (this.ended && this.sent === TOTAL && this.sent - this.got < WINDOW) {
      this.#send(JSON.stringify({ type: "cmsc", data: { en, m, cid, cr: "done" } }));
    }
    return this.#roll(100) === 0;
  }

  #send(text) {
    this.sent += 1;
    this.kept.push(text);
    this.#peer.text(text);
  }
}

test("x1: random cuts of a call that echoes: both directions exact, windows kept", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, window: WINDOW });
  const roll = dice(20);
  const numbers = Array.from({ length: TOTAL }, (_, n) => n);
  const events = api.call.a.echo({}, { inputs: { numbers }, resume: true }).events();
  const seen = [];
  let resumes = 0;
  const reading = (async () => {
    for await (const event of events) {
      if (event instanceof Resumed && event.resumed.by === "exact") resumes += 1;
      else seen.push(event.data);
      // Behind what arrives, so that a cut finds something that was not read.
      for (let n = roll(4) * 5; n > 0; n -= 1) await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  let peer = await server.peer();
  const call = await peer.opened({ w: { numbers: WINDOW }, t: "0" });
  const echo = new Echo(roll);
  echo.attach(peer, peer.frames.length);
  let cuts = 0;
  while (echo.sent <= TOTAL) {
    if (echo.turn(call)) {
      cuts += 1;
      peer.cut();
      await eventually(() => api.status.current.state === "waiting");
      clock.advance(api.status.current.ms);
      peer = await server.peer();
      const rsm = await peer.next("rsm");
      assert.equal(rsm.calls[0].t, `${cuts - 1}`);
      echo.attach(peer, peer.frames.length);
      const got = { numbers: echo.received };
      peer.send("rsr", { calls: [{ cid: call.cid, ok: true, t: `${cuts}`, got }] });
      peer.send("flow", { cid: call.cid, p: "numbers", got: Math.min(echo.sent, echo.received) });
      echo.resume(rsm.calls[0]);
    }
    assert.ok(echo.received - echo.sent <= WINDOW + 1, "the window of the input");
    clock.advance(100);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await within(reading, "the end");
  assert.deepEqual(seen, numbers);
  assert.deepEqual(echo.inputs, numbers);
  assert.ok(cuts > 100 && resumes > 10, `${cuts} cuts, ${resumes} told`);
});

test("any order of frames: at most one brm, no uncaught error, and the client works on", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, window: 4 });
  const roll = dice(7);
  const pick = (...of) => of[roll(of.length)];
  let brms = 0;
  for (let round = 0; round < 100; round += 1) {
    const says = Array.from({ length: roll(6) }, (_, n) => n);
    const options = { inputs: { says }, resume: roll(2) === 0, deadline: 1e6 };
    const stream = api.call.a.b({}, options);
    const reading = (async () => {
      try {
        for await (const event of stream.events()) if (roll(9) === 0 && event) return;
      } catch (error) {
        assert.ok(error.name !== "TypeError", error.stack);
      }
    })();
    const peer = await server.peer();
    const { en, m, cid } = await peer.next("omsc");
    const at = () => ({ en: pick(en, en, en, "x"), m, cid, p: pick(undefined, undefined, "says") });
    const count = () => pick(0, 1, 2, 3, 9, -1);
    for (let n = 0; n < 30; n += 1) {
      const kind = roll(12);
      const why = pick(undefined, { c: "gone" });
      if (kind === 0) peer.send("cmsc", { ...at(), cr: pick("done", "error"), why });
      else if (kind === 1) peer.send("msse", { ...at(), ex: { className: "Fault", data: {} } });
      else if (kind === 2) peer.send("gap", { ...at(), n: count() });
      else if (kind === 3) peer.send("flow", { cid, p: pick(undefined, "says", "x"), got: count() });
      else if (kind === 4) peer.send("rsr", { calls: [{ cid, ok: true, got: { says: count() } }] });
      else if (kind === 5) peer.send("authr", { res: "success" });
      else if (kind === 6) peer.send(pick("pong", "omsc", "bye"), {});
      else if (kind < 9) peer.send("omsr", { ...at(), res: "success", x: { w: { says: pick(1, 2, 0) } } });
      else peer.send("msm", { ...at(), o: { className: "int", data: n }, k: pick(undefined, "k") });
    }
    peer.send("ping");
    await eventually(() => {
      clock.advance(20);
      return peer.closed !== null || peer.count("pong") > 0;
    });
    api.close();
    await within(reading, "the end of a call");
    await eventually(() => peer.closed !== null);
    assert.ok(peer.count("brm") <= 1);
    brms += peer.count("brm");
    // Sockets of attempts that were made meanwhile are nobody's.
    while (server.untaken > 0) await server.peer();
  }
  assert.ok(brms > 0);
});
