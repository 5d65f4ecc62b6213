/** Frames that are none, frames for others, floods: answered once, bounded, never felt by other calls. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { all, data, scene } from "./support/scene.js";
import { eventually, settled, within } from "./support/eventually.js";
import { X1 } from "./support/server.js";

const cid = "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11";
const call = { en: "a", m: "b", cid };
const frame = (type, more) => JSON.stringify({ type, data: more });

const bad = {
  "not JSON": "{",
  "not an object": "7",
  null: "null",
  "a list": "[]",
  "no type": "{}",
  "an unknown type": frame("huh", {}),
  "the name of a member of every object": frame("constructor", {}),
  "upper case": frame("MSM", {}),
  "no data": '{"type":"msm"}',
  "no cid": frame("cmsc", { en: "a", m: "b", cr: "done" }),
  "a cid that is no UUID": frame("cmsc", { ...call, cid: "1", cr: "done" }),
  "no endpoint": frame("msm", { m: "b", cid, o: { className: "int", data: 1 } }),
  "an unknown reason": frame("cmsc", { ...call, cr: "maybe" }),
  "an unknown result": frame("omsr", { ...call, res: "perhaps" }),
  "a value without a class": frame("msm", { ...call, o: { data: 1 } }),
  "a value without data": frame("msm", { ...call, o: { className: "int" } }),
  "a frame of the extension": frame("flow", { cid, got: 1 }),
  "deep JSON": '{"type":"msm","data":'.padEnd(200000, "["),
};
for (const [name, text] of Object.entries(bad)) {
  test(`a bad frame (${name}) is answered with one brm, and the socket is closed`, async (t) => {
    const { server, api } = await scene(t);
    const reading = all(api.call.a.b());
    const peer = await server.peer();
    await peer.opened();
    peer.text(text);
    peer.text(text);
    assert.equal((await within(reading, "the error")).error.name, "SocketLost");
    const { req } = await peer.next("brm");
    assert.ok(text.length > 1024 ? req.length < 100 : req === text);
    await eventually(() => peer.closed === 4002);
    assert.equal(peer.count("brm"), 1);
  });
}

test("x1: bad frames of the extension are bad frames", async (t) => {
  for (const text of [
    frame("flow", { cid, got: -1 }),
    frame("flow", { cid, got: "1" }),
    frame("gap", { ...call, n: -1 }),
    frame("rsr", { calls: [null] }),
    frame("rsr", { calls: [{ cid, ok: true, got: { a: -2 } }] }),
    frame("rsr", {}),
    frame("omsr", { ...call, res: "success", x: { w: { a: 0 } } }),
  ]) {
    const { server, api } = await scene(t, { pong: X1 });
    const reading = all(api.call.a.b());
    const peer = await server.peer();
    await peer.opened({});
    peer.text(text);
    await within(reading, "the error");
    await peer.next("brm");
  }
});

test("a brm of the server ends the socket, and is not answered", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  await peer.opened();
  peer.send("brm", { req: "x" });
  assert.equal((await within(reading, "the error")).error.name, "SocketLost");
  await eventually(() => peer.closed !== null);
  assert.equal(peer.count("brm"), 0);
});

test("binary frames, unknown members, a second pong and frames for no call change nothing", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened();
  peer.text(Buffer.from([1, 2, 3]));
  peer.text('{"type":"ping","data":{"y":2},"z":3}');
  peer.send("pong", X1);
  peer.value({ ...call }, 9);
  peer.end({ ...call }, "error");
  peer.value({ ...open, m: "other" }, 9);
  peer.end({ ...open, en: "other" }, "error");
  peer.send("omsc", {});
  peer.success(open);
  peer.send("msm", { ...call, cid: open.cid, p: "none", o: { className: "int", data: 9 } });
  peer.value(open, 1);
  peer.end(open);
  assert.deepEqual(data((await within(reading, "the end")).values), [1]);
  await peer.next("pong");
  assert.equal(peer.count("brm"), 0);
  // The extension is agreed in the first pong or not at all.
  const stream = api.call.a.c();
  assert.equal("x" in (await peer.next("omsc")), false);
  stream.cancel();
});

test("what is longer than the queue may hold ends its call alone", async (t) => {
  const { server, api } = await scene(t, { maxQueued: { chars: 10000 } });
  const flooded = api.call.a.b();
  const other = all(api.call.a.c());
  const peer = await server.peer();
  const first = await peer.opened();
  const second = await peer.opened();
  const text = "x".repeat(6000);
  peer.value(first, text, { className: "String" });
  peer.value(first, text, { className: "String" });
  assert.equal((await peer.next("cmsc")).cid, first.cid);
  const { values, error } = await all(flooded);
  assert.deepEqual([values.length, error.why], [1, "limit"]);
  peer.value(second, 1);
  peer.end(second);
  assert.deepEqual(data((await within(other, "the other")).values), [1]);
});

test("a server that does not read is not answered without end", async (t) => {
  const { server, api } = await scene(t);
  const stream = api.call.a.b();
  const peer = await server.peer();
  await peer.opened();
  peer.pause();
  const ping = `{"type":"ping","data":{"fill":"${"x".repeat(1000)}"}}`;
  for (let n = 0; n < 1000; n += 1) peer.text(ping);
  await settled();
  peer.resume();
  await eventually(() => peer.count("pong") > 0);
  assert.ok(peer.count("pong") <= 1000);
  stream.cancel();
});

test("x1: a server that offers endless windows gets no more than the client holds", async (t) => {
  const { server, clock, api } = await scene(t, { pong: { ...X1, window: 1e9, bytes: 1e12 } });
  let pulled = 0;
  const source = function* () {
    for (;;) yield (pulled += 1);
  };
  const long = "x".repeat(100000);
  const texts = Array.from({ length: 100 }, () => long);
  const peerOf = async (inputs, x) => {
    const stream = api.call.a.b({}, { inputs, resume: true });
    const peer = server.peers[0] ?? (await server.peer());
    const { cid } = await peer.opened(x);
    t.after(() => stream.cancel());
    return () => peer.frames.filter((one) => one.type === "msm" && one.data.cid === cid).length;
  };
  for (const w of [undefined, { numbers: 1e9 }]) {
    const sent = await peerOf({ numbers: source() }, { w, t: "0" });
    await eventually(() => sent() === 1024);
    await settled();
    assert.equal(sent(), 1024);
  }
  const sent = await peerOf({ texts }, { t: "0" });
  const written = () => {
    // The client looks every 25 ms whether the socket has room.
    clock.advance(25);
    return sent() === 10;
  };
  await eventually(written);
  await settled();
  clock.advance(25);
  await settled();
  assert.equal(sent(), 10);
});

test("a typed failure ends the reader though its close never comes, and keeps no socket", async (t) => {
  const { server, clock, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  peer.fault(await peer.opened(), "NoSuchPixel", {});
  assert.equal((await within(reading, "the fault")).error.name, "StreamFault");
  await clock.until(1000);
  clock.advance(1000);
  await eventually(() => peer.closed === 1000);
});

test("servers that all are about to stop are not called without a pause", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const reading = all(api.call.a.b({}, { resume: true }));
  for (const ms of [0, 500, 1000, 2000]) {
    const peer = await server.peer();
    await peer.opened({});
    peer.send("bye", { within: 0, spread: 0 });
    peer.close(1012);
    await eventually(() => api.status.current.state === "waiting", "a wait");
    assert.equal(api.status.current.ms, ms);
    clock.advance(ms);
  }
  api.close();
  await within(reading, "the end");
});

test("a call that always ends after a value, to be called again now, is not called without a pause", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  // Keeps the socket.
  const other = all(api.call.a.c());
  const reading = all(api.call.a.b({}, { resume: true }));
  const peer = await server.peer();
  await peer.next("omsc");
  for (const ms of [0, 500, 1000, 2000]) {
    const open = await peer.opened({});
    peer.value(open, 1);
    peer.end(open, "error", { why: { c: "gap", again: "now" } });
    if (ms === 0) continue;
    await clock.until(ms);
    clock.advance(ms);
  }
  await peer.opened({});
  api.close();
  await within(Promise.all([other, reading]), "the ends");
});
