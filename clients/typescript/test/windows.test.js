/** Extension x1: windows in both directions, gaps, reasons. A plain server sees none of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallClosed, Gap, Input, StreamFault } from "../src/index.js";
import { all, data, read, scene } from "./support/scene.js";
import { eventually, settled, within } from "./support/eventually.js";
import { X1 } from "./support/server.js";

const got = (peer) => peer.frames.filter((one) => one.type === "flow").map((one) => one.data.got);

test("x1: the open says the window, and what else was asked for", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, window: 8 });
  const first = api.call.a.b();
  const peer = await server.peer();
  assert.deepEqual((await peer.opened({})).x, { w: 8 });
  clock.advance(100);
  const options = { resume: true, deadline: 5000, cursor: "7", traceparent: "00-a" };
  const second = api.call.a.b({}, options);
  assert.deepEqual((await peer.opened({})).x, { w: 8, d: 5000, tp: "00-a", k: "7", r: true });
  // The wire has 32 bits for the time.
  const third = api.call.a.b({}, { deadline: 2 ** 33 });
  assert.deepEqual((await peer.opened({})).x, { w: 8 });
  third.cancel();
  first.cancel();
  second.cancel();
});

test("x1: half a window consumed is told at once, less after a quiet second", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, window: 8 });
  const values = api.call.a.b().values();
  const peer = await server.peer();
  const open = await peer.opened({});
  for (let n = 0; n < 8; n += 1) peer.value(open, n);
  await read(values, 3);
  await settled();
  assert.deepEqual(got(peer), []);
  await read(values, 1);
  assert.deepEqual(await peer.next("flow"), { cid: open.cid, got: 4 });
  await read(values, 1);
  clock.advance(600);
  await read(values, 1);
  clock.advance(999);
  await settled();
  assert.deepEqual(got(peer), [4]);
  clock.advance(1);
  assert.equal((await peer.next("flow")).got, 6);
  clock.advance(10000);
  await settled();
  assert.deepEqual(got(peer), [4, 6]);
  await values.return();
});

test("x1: nothing read, nothing told", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, window: 8 });
  const stream = api.call.a.b();
  const peer = await server.peer();
  const open = await peer.opened({});
  for (let n = 0; n < 8; n += 1) peer.value(open, n);
  await settled();
  clock.advance(10000);
  await settled();
  assert.deepEqual(got(peer), []);
  stream.cancel();
});

test("x1: a server that exceeds the window has the call closed with `limit`", async (t) => {
  const { server, api } = await scene(t, { pong: X1, window: 8 });
  const stream = api.call.a.b();
  const peer = await server.peer();
  const open = await peer.opened({});
  for (let n = 0; n < 9; n += 1) peer.value(open, n);
  const close = await peer.next("cmsc");
  assert.deepEqual([close.cr, close.why], ["error", { c: "limit", again: "never" }]);
  const { values, error } = await all(stream);
  assert.deepEqual(data(values), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual([error.name, error.why], ["CallClosed", "limit"]);
});

test("x1: an input never exceeds the server's window, whatever the server acknowledges", async (t) => {
  const { server, api } = await scene(t, { pong: X1 });
  const total = 3000;
  const numbers = Array.from({ length: total }, (_, n) => n);
  const stream = api.call.a.b({}, { inputs: { numbers } });
  const peer = await server.peer();
  const { cid } = await peer.opened({ w: { numbers: 5 } });
  const sent = () => peer.count("msm");
  let acknowledged = 0;
  let seed = 1;
  while (acknowledged < total) {
    await eventually(() => sent() === Math.min(acknowledged + 5, total), `full window at ${acknowledged}`);
    seed = (seed * 48271) % 2147483647;
    const now = acknowledged + 1 + (seed % (sent() - acknowledged));
    peer.send("flow", { cid, p: "numbers", got: now });
    // A number that was said before, or that is not true, does no harm.
    peer.send("flow", { cid, p: "numbers", got: acknowledged });
    peer.send("flow", { cid, p: "numbers", got: 1e9 });
    acknowledged = now;
    assert.ok(sent() <= acknowledged + 5);
  }
  await eventually(() => peer.count("cmsc") === 1);
  assert.deepEqual(
    peer.frames.filter((one) => one.type === "msm").map((one) => one.data.o.data),
    numbers,
  );
  stream.cancel();
});

test("x1: an input holds at most `bytes` that are not acknowledged", async (t) => {
  const { server, api } = await scene(t, { pong: { ...X1, bytes: 1000 } });
  const stream = api.call.a.b({}, { inputs: { texts: Array.from({ length: 5 }, () => "ä".repeat(200)) } });
  const peer = await server.peer();
  const { cid } = await peer.opened({});
  await eventually(() => peer.count("msm") === 1);
  await settled();
  assert.equal(peer.count("msm"), 1);
  peer.send("flow", { cid, p: "texts", got: 1 });
  await eventually(() => peer.count("msm") === 2);
  stream.cancel();
});

test("x1: a value that is longer than `bytes` goes alone", async (t) => {
  const { server, api } = await scene(t, { pong: { ...X1, bytes: 10 } });
  const stream = api.call.a.b({}, { inputs: { numbers: [1, 2] } });
  const peer = await server.peer();
  const { cid } = await peer.opened({});
  await eventually(() => peer.count("msm") === 1);
  peer.send("flow", { cid, p: "numbers", got: 1 });
  await eventually(() => peer.count("msm") === 2);
  stream.cancel();
});

test("x1: the close of an input does not wait for the window", async (t) => {
  const { server, api } = await scene(t, { pong: X1 });
  const says = new Input();
  const stream = api.call.a.b({}, { inputs: { numbers: says } });
  const peer = await server.peer();
  await peer.opened({ w: { numbers: 2 } });
  says.send(1);
  says.fail(new StreamFault("TooLoud", {}));
  assert.equal((await peer.next("cmsc")).p, "numbers");
  assert.deepEqual(peer.frames.slice(-3).map((one) => one.type), ["msm", "msse", "cmsc"]);
  stream.cancel();
});

test("x1: a gap stands in its place in events, is left out of values, and counts as a frame", async (t) => {
  const { server, api } = await scene(t, { pong: X1, window: 4 });
  const events = api.call.a.b().events();
  const peer = await server.peer();
  const open = await peer.opened({});
  peer.value(open, 1);
  peer.send("gap", { en: open.en, m: open.m, cid: open.cid, n: 12, c: "overflow" });
  peer.value(open, 2);
  const [one, gap, two] = await read(events, 3);
  assert.deepEqual([one.data, two.data], [1, 2]);
  assert.ok(gap instanceof Gap);
  assert.deepEqual(gap.gap, { n: 12, c: "overflow" });
  assert.equal((await peer.next("flow")).got, 2);
  await events.return();
});

test("x1: why a call ended, and what can be done", async (t) => {
  const { server, api } = await scene(t, { pong: X1 });
  for (const why of [
    { c: "revoked", again: "signin" },
    { c: "internal", again: "never" },
    { c: "overloaded", again: 500 },
    { c: "new word", again: "new word" },
  ]) {
    const reading = all(api.call.a.b());
    const peer = server.peers[0] ?? (await server.peer());
    peer.end(await peer.opened({}), "error", { why });
    const { error } = await within(reading, "the error");
    assert.ok(error instanceof CallClosed);
    assert.equal(error.why, why.c);
    assert.equal(error.again, why.again === "new word" ? "never" : why.again);
  }
});

test("a plain server sees no x, no flow, no why, and its window is the queue's bound", async (t) => {
  const { server, clock, api } = await scene(t, { maxQueued: { values: 100 }, window: 64 });
  const says = new Input();
  const stream = api.call.a.b({}, { inputs: { says }, resume: true, deadline: 1e9, traceparent: "00-a" });
  const peer = await server.peer();
  const open = await peer.opened();
  assert.deepEqual(Object.keys(open), ["en", "m", "cid", "args", "is"]);
  for (let n = 0; n < 200; n += 1) says.send(n);
  await eventually(() => peer.count("msm") === 200);
  const values = stream.values();
  for (let n = 0; n < 100; n += 1) peer.value(open, n);
  await read(values, 100);
  clock.advance(2000);
  for (let n = 0; n < 101; n += 1) peer.value(open, n);
  const close = await peer.next("cmsc");
  assert.deepEqual([close.cr, "why" in close], ["error", false]);
  await read(values, 100);
  await assert.rejects(values.next(), { name: "CallClosed", why: "limit", again: "never" });
  assert.equal(peer.count("flow"), 0);
});
