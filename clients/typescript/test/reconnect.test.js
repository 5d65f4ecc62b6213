/** Reconnecting: when an attempt is made, and when none is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { IdleTimeout } from "../src/index.js";
import { all, data, scene } from "./support/scene.js";
import { eventually, within } from "./support/eventually.js";
import { X1 } from "./support/server.js";

test("CL-64 without `resume` a call does not come back", async (t) => {
  const { server, api } = await scene(t, { pong: X1 });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  await peer.opened({ t: "token" });
  peer.cut();
  assert.equal((await within(reading, "the error")).error.name, "SocketLost");
  assert.equal(api.status.current.state, "disconnected");
});

test("waits double from 0.25 s to 15 s, with jitter, and a fresh credential each time", async (t) => {
  let asked = 0;
  const credentials = () => `Bearer ${(asked += 1)}`;
  const { server, clock, api } = await scene(t, { credentials });
  const stream = api.call.a.b({}, { resume: true });
  let peer = await server.peer();
  const waits = [];
  for (let n = 1; n <= 9; n += 1) {
    assert.equal((await peer.opened()).auth, `Bearer ${n}`);
    peer.cut();
    await eventually(() => api.status.current.state === "waiting");
    waits.push(api.status.current.ms);
    clock.advance(api.status.current.ms);
    peer = await server.peer();
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  // A socket that lives shows that the server is well.
  await peer.opened();
  clock.advance(10000);
  clock.random = 0.5;
  peer.cut();
  await eventually(() => api.status.current.state === "waiting");
  assert.equal(api.status.current.ms, 125);
  stream.cancel();
  assert.equal(api.status.current.state, "disconnected");
  assert.ok(!clock.armed.includes(125));
});

test("attempts that fail go on for ever, and end with close", async (t) => {
  const { server, clock, api } = await scene(t, { pong: null });
  const reading = all(api.call.a.b({}, { resume: true }));
  for (let n = 0; n < 20; n += 1) {
    await server.peer();
    clock.advance(5000);
    assert.equal(api.status.current.state, "waiting");
    clock.advance(api.status.current.ms);
  }
  api.close();
  assert.equal((await within(reading, "the end")).error.name, "SocketLost");
  assert.deepEqual(clock.armed, []);
});

test("online, and a page that is seen again, start an attempt at once", async (t) => {
  const { server, clock, api } = await scene(t);
  const stream = api.call.a.b({}, { resume: true });
  for (const event of ["online", "visibilitychange"]) {
    const peer = await server.peer();
    await peer.opened();
    peer.cut();
    await eventually(() => api.status.current.state === "waiting");
    clock.visible = false;
    clock.fire("visibilitychange");
    assert.equal(api.status.current.state, "waiting");
    clock.visible = true;
    clock.fire(event);
    assert.equal(api.status.current.state, "connecting");
  }
  await server.peer();
  stream.cancel();
});

test("a page that is seen again asks a socket whether it lives, and cuts it after 5 s", async (t) => {
  const { server, clock, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  await peer.opened();
  clock.fire("visibilitychange");
  await eventually(() => peer.count("ping") === 2);
  await eventually(() => !clock.armed.includes(5000), "the answer");
  peer.pong = null;
  clock.fire("visibilitychange");
  clock.advance(5000);
  assert.ok((await within(reading, "the error")).error instanceof IdleTimeout);
});

test("a failed ping starts an attempt at once", async (t) => {
  const { server, clock, api } = await scene(t);
  const stream = api.call.a.b({}, { resume: true });
  const peer = await server.peer();
  await peer.opened();
  peer.pong = null;
  clock.fire("visibilitychange");
  clock.advance(5000);
  assert.equal(api.status.current.state, "connecting");
  stream.cancel();
});

test("x1: `again: now` opens the call anew; `never` and `signin` end it", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const reading = all(api.call.a.b({}, { resume: true }));
  const peer = await server.peer();
  let open = await peer.opened({});
  peer.value(open, 1);
  peer.end(open, "error", { why: { c: "gone", again: "now" } });
  open = await peer.opened({});
  peer.value(open, 2);
  peer.end(open, "error", { why: { c: "overloaded", again: 700 } });
  await clock.until(700);
  clock.advance(700);
  open = await peer.opened({});
  peer.end(open, "error", { why: { c: "revoked", again: "signin" } });
  const { values, error } = await within(reading, "the end");
  assert.deepEqual(data(values), [1, 2]);
  assert.deepEqual([error.why, error.again], ["revoked", "signin"]);
});

test("x1: a server that closes again and again is not called in a circle", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const stream = api.call.a.b({}, { resume: true });
  let peer = await server.peer();
  const why = { c: "overloaded", again: "now" };
  peer.end(await peer.opened({}), "error", { why });
  for (const wait of [500, 1000, 2000]) {
    peer.end(await peer.opened({}), "error", { why });
    await clock.until(wait);
    clock.advance(wait);
    // The socket was closed in the meantime: nobody needed it for a second.
    if (wait >= 1000) peer = await server.peer();
  }
  await peer.opened({});
  stream.cancel();
});

test("x1: draining: the call is opened on a new socket, after a random wait up to `spread`", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const stream = api.call.a.b({}, { resume: true });
  const old = await server.peer();
  const open = await old.opened({});
  old.send("bye", { within: 8000, spread: 3333 });
  old.end(open, "error", { why: { c: "draining", again: "now" } });
  await clock.until(3333);
  clock.advance(3333);
  const fresh = await server.peer();
  await fresh.opened({});
  await eventually(() => old.closed === 1000);
  stream.cancel();
});
