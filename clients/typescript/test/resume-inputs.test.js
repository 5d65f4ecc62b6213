/** Inputs of a call that is resumed or opened anew: what is sent again, and what is not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Input, Restarted } from "../src/index.js";
import { away, data, read, scene } from "./support/scene.js";
import { eventually, settled } from "./support/eventually.js";
import { X1 } from "./support/server.js";

test("x1: inputs are replayed from where the server is; nothing is pulled while away", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const says = new Input();
  let pulled = 0;
  const counted = (async function* () {
    for await (const value of says) {
      pulled += 1;
      yield value;
    }
  })();
  const stream = api.call.a.b({}, { inputs: { numbers: counted }, resume: true });
  let peer = await server.peer();
  const open = await peer.opened({ w: { numbers: 4 }, t: "0" });
  for (let n = 1; n <= 9; n += 1) says.send(n);
  await eventually(() => peer.count("msm") === 4);
  peer.cut();
  await eventually(() => api.status.current.state === "waiting");
  await settled();
  assert.equal(pulled, 4);
  await away(api, clock);
  peer = await server.peer();
  await peer.next("rsm");
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "1", got: { numbers: 2 } }] });
  await eventually(() => peer.count("msm") === 2);
  await settled();
  // The server has two of the four, and nothing says yet that its method took them.
  const values = () => peer.frames.filter((one) => one.type === "msm").map((one) => one.data.o.data);
  assert.deepEqual(values(), [3, 4]);
  peer.send("flow", { cid: open.cid, p: "numbers", got: 2 });
  await eventually(() => peer.count("msm") === 4);
  assert.deepEqual(values(), [3, 4, 5, 6]);
  says.end();
  peer.send("flow", { cid: open.cid, p: "numbers", got: 6 });
  await eventually(() => peer.count("msm") === 7);
  peer.send("flow", { cid: open.cid, p: "numbers", got: 9 });
  assert.equal((await peer.next("cmsc")).p, "numbers");
  assert.deepEqual(values(), [3, 4, 5, 6, 7, 8, 9]);
  stream.cancel();
});

test("x1: an end of an input that happened while away is told after the resume", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const says = new Input();
  const stream = api.call.a.b({}, { inputs: { numbers: says }, resume: true });
  let peer = await server.peer();
  const open = await peer.opened({ t: "0" });
  says.send(1);
  await peer.next("msm");
  peer.cut();
  await eventually(() => api.status.current.state === "waiting");
  says.send(2);
  says.end();
  await settled();
  await away(api, clock);
  peer = await server.peer();
  await peer.next("rsm");
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "1", got: { numbers: 0 } }] });
  await peer.next("cmsc");
  assert.deepEqual(peer.frames.map((one) => one.data?.o?.data ?? one.type), ["ping", "rsm", 1, 2, "cmsc"]);
  stream.cancel();
});

test("x1: a value that was pulled before the cut is sent in the call that is opened anew", async (t) => {
  // One frame fits, and the next is written only when there is room for it.
  const { server, clock, api } = await scene(t, { pong: { ...X1, bytes: 200 } });
  const stream = api.call.a.b({}, { inputs: { numbers: [1, 2] }, resume: true });
  let peer = await server.peer();
  await peer.opened({});
  await peer.next("msm");
  await settled();
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  const { cid } = await peer.opened({});
  const value = await peer.next("msm");
  assert.deepEqual([value.o.data, value.cid], [2, cid]);
  stream.cancel();
});

test("x1: an end of an input that was asked for before the cut is told after the resume", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const says = new Input();
  const stream = api.call.a.b({}, { inputs: { numbers: says }, resume: true });
  let peer = await server.peer();
  const open = await peer.opened({ t: "0" });
  await settled();
  peer.cut();
  await eventually(() => api.status.current.state === "waiting");
  says.end();
  await settled();
  await away(api, clock);
  peer = await server.peer();
  await peer.next("rsm");
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "1", got: { numbers: 0 } }] });
  assert.equal((await peer.next("cmsc")).p, "numbers");
  stream.cancel();
});

test("x1: an input that the server has dropped is stopped", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const says = new Input();
  const stream = api.call.a.b({}, { inputs: { numbers: says }, resume: true });
  let peer = await server.peer();
  const open = await peer.opened({ t: "0" });
  says.send(1);
  await peer.next("msm");
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  await peer.next("rsm");
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "1", got: { numbers: -1 } }] });
  await eventually(() => !says.open);
  await settled();
  assert.equal(peer.count("msm"), 0);
  stream.cancel();
});

test("x1: the end of an input is no value that may be missing, and is sent again", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const events = api.call.a.b({}, { inputs: { numbers: [1] }, resume: true }).events();
  let peer = await server.peer();
  await peer.opened({});
  await peer.next("cmsc");
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  await peer.opened({});
  assert.equal((await peer.next("cmsc")).p, "numbers");
  assert.deepEqual(await read(events, 1), [new Restarted({ numbers: 1 })]);
  await events.return();
});

test("x1: an input that the server has dropped is ended at once in a call opened anew", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const says = new Input();
  const stream = api.call.a.b({}, { inputs: { numbers: says }, resume: true });
  let peer = await server.peer();
  const open = await peer.opened({});
  peer.end(open, "done", { p: "numbers" });
  await eventually(() => !says.open);
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  const again = await peer.opened({});
  assert.deepEqual(again.is, ["numbers"]);
  assert.equal((await peer.next("cmsc")).p, "numbers");
  stream.cancel();
});
