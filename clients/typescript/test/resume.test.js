/** Resuming: exactly, by cursor, anew. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Input, Restarted, Resumed } from "../src/index.js";
import { all, away, data, read, scene } from "./support/scene.js";
import { eventually, settled, within } from "./support/eventually.js";
import { X1 } from "./support/server.js";

test("x1: exact after a cut: what was replayed and is here already is not doubled", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, credentials: () => "Bearer a" });
  const events = api.call.a.b({}, { resume: true }).events();
  let peer = await server.peer();
  const open = await peer.opened({ t: "first" });
  for (let n = 1; n <= 5; n += 1) peer.value(open, n);
  assert.deepEqual(data(await read(events, 2)), [1, 2]);
  await settled();
  peer.cut();
  await eventually(() => api.status.current.state === "waiting");
  // Read while the socket is away: the position moves on.
  assert.deepEqual(data(await read(events, 1)), [3]);
  await away(api, clock);
  peer = await server.peer();
  assert.deepEqual(await peer.next("rsm"), {
    calls: [{ cid: open.cid, t: "first", got: { "": 3 } }],
    auth: "Bearer a",
  });
  // Read between `rsm` and `rsr`: the server will replay this one.
  assert.deepEqual(data(await read(events, 1)), [4]);
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "second", got: {} }] });
  for (let n = 4; n <= 7; n += 1) peer.value(open, n);
  peer.end(open);
  const rest = (await read(events, 4)).map((one) => (one instanceof Resumed ? one.resumed.by : one.data));
  assert.equal((await within(events.next(), "the end")).done, true);
  assert.deepEqual(rest, [5, "exact", 6, 7]);
  // The end is acknowledged, or the server would keep it.
  await eventually(() => peer.frames.some((one) => one.type === "flow" && one.data.got === 8));
  assert.equal(peer.count("omsc"), 0);
});

test("x1: exact before any value, and more than once, each time with the new token", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const values = api.call.a.b({}, { resume: true }).values();
  let peer = await server.peer();
  const open = await peer.opened({ t: "0" });
  for (let n = 1; n <= 3; n += 1) {
    peer.cut();
    await away(api, clock);
    peer = await server.peer();
    assert.deepEqual((await peer.next("rsm")).calls, [{ cid: open.cid, t: `${n - 1}`, got: { "": 0 } }]);
    peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: `${n}`, got: {} }] });
    await eventually(() => api.status.current.state === "connected");
    await settled();
  }
  peer.value(open, 1);
  assert.deepEqual(data(await read(values, 1)), [1]);
  await values.return();
});

test("x1: a socket that is cut before `rsr` leaves the old token", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const values = api.call.a.b({}, { resume: true }).values();
  let peer = await server.peer();
  const open = await peer.opened({ t: "only" });
  peer.cut();
  for (let n = 0; n < 3; n += 1) {
    await away(api, clock);
    peer = await server.peer();
    assert.equal((await peer.next("rsm")).calls[0].t, "only");
    // Nothing else goes out before the answer, new calls included.
    if (n === 0) api.call.a.c().cancel();
    assert.deepEqual(peer.frames.map((one) => one.type), ["ping", "rsm"]);
    if (n < 2) peer.cut();
  }
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "next", got: {} }] });
  peer.value(open, 1);
  assert.deepEqual(data(await read(values, 1)), [1]);
  await values.return();
});

test("x1: new calls wait for `rsr`", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const stream = api.call.a.b({}, { resume: true });
  let peer = await server.peer();
  const open = await peer.opened({ t: "only" });
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  await peer.next("rsm");
  const other = api.call.a.c();
  await settled();
  assert.equal(peer.count("omsc"), 0);
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "next", got: {} }] });
  assert.equal((await peer.next("omsc")).m, "c");
  stream.cancel();
  other.cancel();
});

test("x1: anonymous calls resume without a credential, and together with those of a user", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, credentials: "Bearer a" });
  const anonymous = api.call.a.b({}, { resume: true, anonymous: true });
  let peer = await server.peer();
  const first = await peer.opened({ t: "0" });
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  assert.equal("auth" in (await peer.next("rsm")), false);
  peer.send("rsr", { calls: [{ cid: first.cid, ok: true, t: "1" }] });
  const users = api.call.a.c({}, { resume: true });
  await peer.opened({ t: "2" });
  await settled();
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  const { calls, auth } = await peer.next("rsm");
  assert.deepEqual([calls.map((one) => one.t), auth], [["1", "2"], "Bearer a"]);
  anonymous.cancel();
  users.cancel();
});

test("x1: by cursor: the call is opened anew with the last cursor that was read", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const stream = api.call.a.b({ room: "a" }, { resume: true });
  const events = stream.events();
  let peer = await server.peer();
  const first = await peer.opened({ t: "0" });
  for (let n = 1; n <= 3; n += 1) peer.value(first, n, { k: `k${n}` });
  await read(events, 2);
  assert.equal(stream.cursor, "k2");
  await settled();
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  await peer.next("rsm");
  peer.send("rsr", { calls: [{ cid: first.cid, ok: false }] });
  await settled();
  // What is here is read before the new call says where it begins.
  assert.equal(peer.count("omsc"), 0);
  assert.deepEqual(data(await read(events, 1)), [3]);
  const second = await peer.opened({ t: "1" });
  assert.notEqual(second.cid, first.cid);
  assert.deepEqual([second.args, second.x.k], ['{"room":"a"}', "k3"]);
  peer.value(second, 4, { k: "k4" });
  const [resumed, four] = await read(events, 2);
  assert.deepEqual(resumed, new Resumed("cursor", {}));
  assert.equal(four.data, 4);
  await events.return();
});

test("x1: anew: `restarted` stands before the first value, and says what was not acknowledged", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const says = new Input();
  const events = api.call.a.b({}, { inputs: { numbers: says }, resume: true }).events();
  let peer = await server.peer();
  const first = await peer.opened({});
  says.send(1);
  says.send(2);
  await eventually(() => peer.count("msm") === 2);
  peer.send("flow", { cid: first.cid, p: "numbers", got: 1 });
  peer.value(first, 1);
  await read(events, 1);
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  const second = await peer.opened({});
  assert.equal(peer.count("rsm"), 0);
  peer.value(second, 1);
  says.send(3);
  const [restarted, one] = await read(events, 2);
  assert.deepEqual(restarted, new Restarted({ numbers: 1 }));
  assert.equal(one.data, 1);
  await eventually(() => peer.count("msm") === 1);
  assert.equal((await peer.next("msm")).o.data, 3);
  await events.return();
});

test("x1: losses that nobody has read about are told as one, with all that is missing", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const says = new Input();
  const events = api.call.a.b({}, { inputs: { numbers: says }, resume: true }).events();
  let peer = await server.peer();
  await peer.opened({});
  for (let n = 1; n <= 3; n += 1) {
    for (let m = 0; m < n; m += 1) says.send(m);
    await eventually(() => peer.count("msm") === n);
    peer.cut();
    await away(api, clock);
    peer = await server.peer();
    await peer.opened({});
  }
  const open = peer.frames.find((one) => one.type === "omsc").data;
  peer.value(open, 1);
  peer.send("ping");
  await peer.next("pong");
  const [restarted, one] = await read(events, 2);
  assert.deepEqual([restarted, one.data], [new Restarted({ numbers: 6 }), 1]);
  await events.return();
});

test("x1: a provider that fails at a resume is asked again; the token is kept", async (t) => {
  let fails = false;
  const credentials = async () => {
    if (fails) throw new Error("no network yet");
    return "Bearer a";
  };
  const { server, clock, api } = await scene(t, { pong: X1, credentials });
  const events = api.call.a.b({}, { resume: true }).events();
  let peer = await server.peer();
  const open = await peer.opened({ t: "0" });
  await settled();
  fails = true;
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  await clock.until(250);
  fails = false;
  clock.advance(250);
  assert.equal((await peer.next("rsm")).calls[0].t, "0");
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "1", got: {} }] });
  assert.equal((await read(events, 1))[0].resumed.by, "exact");
  await events.return();
});

test("a plain server: `resume` opens the call anew", async (t) => {
  const { server, clock, api } = await scene(t);
  const events = api.call.a.b({}, { resume: true }).events();
  let peer = await server.peer();
  peer.value(await peer.opened(), 1);
  await read(events, 1);
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  const open = await peer.opened();
  assert.equal("x" in open, false);
  peer.value(open, 2);
  const [restarted, two] = await read(events, 2);
  assert.ok(restarted instanceof Restarted);
  assert.equal(two.data, 2);
  await events.return();
});

test("a server that knows the extension no more: anew, and no frame of it", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const events = api.call.a.b({}, { resume: true }).events();
  let peer = await server.peer();
  peer.value(await peer.opened({ t: "0" }), 1);
  await read(events, 1);
  server.answer(undefined);
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  const open = await peer.opened();
  peer.value(open, 2);
  assert.ok((await read(events, 2))[0] instanceof Restarted);
  clock.advance(1000);
  await settled();
  assert.deepEqual(peer.frames.map((one) => one.type), ["ping", "omsc"]);
  await events.return();
});

test("x1: a call that is cancelled while it resumes is closed at the server", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const stream = api.call.a.b({}, { resume: true });
  let peer = await server.peer();
  const open = await peer.opened({ t: "0" });
  peer.cut();
  await away(api, clock);
  peer = await server.peer();
  await peer.next("rsm");
  stream.cancel();
  peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: "1", got: {} }] });
  assert.deepEqual(await peer.next("cmsc"), { en: "a", m: "b", cid: open.cid, cr: "done" });
});

test("x1: exact at every frame boundary: nothing lost, nothing doubled", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, window: 8 });
  const total = 60;
  const events = api.call.a.b({}, { resume: true }).events();
  let peer = await server.peer();
  const open = await peer.opened({ t: "0" });
  const seen = [];
  const reading = (async () => {
    for await (const event of events) if (!(event instanceof Resumed)) seen.push(event.data);
  })();
  // The server cuts after each value; it goes back to what the client says that it has.
  for (let at = 0; at < total; ) {
    at += 1;
    peer.value(open, at);
    if (at % 2 === 0) await eventually(() => seen.length >= at);
    peer.cut();
    await away(api, clock);
    peer = await server.peer();
    const { calls } = await peer.next("rsm");
    at = calls[0].got[""];
    peer.send("rsr", { calls: [{ cid: open.cid, ok: true, t: `${at}`, got: {} }] });
    if (at < total) peer.value(open, (at += 1));
    await eventually(() => seen.length >= at);
  }
  peer.end(open);
  await within(reading, "the end");
  assert.deepEqual(seen, Array.from({ length: total }, (_, n) => n + 1));
});
