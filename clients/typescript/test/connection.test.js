/** The shared socket: when it is opened, when it is closed, and how it fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, ConnectFailed, ConnectTimedOut, IdleTimeout, SocketLost } from "../src/index.js";
import { all, data, scene } from "./support/scene.js";
import { Clock } from "./support/clock.js";
import { eventually, settled, within } from "./support/eventually.js";
import { nobody, X1 } from "./support/server.js";

test("nothing is opened before the first call; the first frame is a ping with x", async (t) => {
  const { server, api } = await scene(t);
  await settled();
  assert.equal(server.peers.length, 0);
  const stream = api.call.a.b();
  const peer = await server.peer();
  await peer.next("omsc");
  assert.equal(peer.frames[0].text, '{"type":"ping","data":{"x":1}}');
  assert.equal(peer.frames[1].type, "omsc");
  stream.cancel();
});

test("CL-31 and CL-32 close-all: an open call ends with SocketLost; a new call works", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  await peer.opened();
  api.close();
  assert.ok((await within(reading, "the end")).error instanceof SocketLost);
  await eventually(() => peer.closed === 1000);
  const again = all(api.call.a.b());
  const next = await server.peer();
  const open = await next.opened();
  next.value(open, 1);
  next.end(open);
  assert.deepEqual(data((await within(again, "the second call")).values), [1]);
});

test("CL-34 closeWhenOffline: offline ends the calls with SocketLost", async (t) => {
  const { server, clock, api } = await scene(t, { closeWhenOffline: true });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  await peer.opened();
  clock.fire("offline");
  assert.ok((await within(reading, "the end")).error instanceof SocketLost);
  await eventually(() => peer.closed !== null);
});

test("CL-34 without the option offline changes nothing", async (t) => {
  const { server, clock, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened();
  clock.fire("offline");
  peer.value(open, 1);
  peer.end(open);
  assert.deepEqual(data((await within(reading, "the end")).values), [1]);
});

test("CL-58 no server: ConnectFailed", async () => {
  const api = connect(await nobody(), { testing: new Clock().testing });
  assert.ok((await within(all(api.call.a.b()), "the error")).error instanceof ConnectFailed);
  assert.equal(api.status.current.state, "disconnected");
  assert.ok(api.status.current.why instanceof ConnectFailed);
});

test("CL-59 a silent server: ConnectTimedOut after 5 s", async (t) => {
  const { server, clock, api } = await scene(t, { pong: null });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  await peer.next("ping");
  clock.advance(4999);
  await settled();
  assert.equal(api.status.current.state, "connecting");
  clock.advance(1);
  assert.ok((await within(reading, "the error")).error instanceof ConnectTimedOut);
});

test("CL-61 five calls at once: one socket and exactly one ping", async (t) => {
  const { server, api } = await scene(t);
  const calls = Array.from({ length: 5 }, () => all(api.call.a.b()));
  const peer = await server.peer();
  for (let n = 0; n < 5; n += 1) peer.end(await peer.opened());
  await within(Promise.all(calls), "the ends");
  assert.equal(peer.count("ping"), 1);
  assert.equal(server.peers.length, 1);
});

test("CL-63 the server closes the only call: the client closes the socket after a second", async (t) => {
  const { server, clock, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  peer.end(await peer.opened());
  await within(reading, "the end");
  await clock.until(1000);
  clock.advance(999);
  await settled();
  assert.equal(peer.closed, null);
  clock.advance(1);
  await eventually(() => peer.closed === 1000);
  assert.deepEqual(api.status.current, { state: "disconnected" });
  assert.equal(clock.listeners("online"), 0);
  assert.deepEqual(clock.armed, []);
});

test("a call within that second uses the same socket, and the socket stays", async (t) => {
  const { server, clock, api } = await scene(t);
  const first = all(api.call.a.b());
  const peer = await server.peer();
  peer.end(await peer.opened());
  await within(first, "the end");
  await clock.until(1000);
  clock.advance(999);
  const second = all(api.call.a.b());
  const open = await peer.opened();
  clock.advance(5000);
  peer.end(open);
  await within(second, "the end of the second");
  assert.equal(server.peers.length, 1);
});

test("CL-64 the socket is closed by the server: SocketLost with its code", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened();
  peer.value(open, 1);
  await eventually(() => peer.frames.length > 1);
  peer.close(1012);
  const { values, error } = await within(reading, "the error");
  assert.deepEqual(data(values), [1]);
  assert.ok(error instanceof SocketLost);
  assert.equal(error.code, 1012);
  assert.equal(api.status.current.state, "disconnected");
});

test("a ping every 20 s; the server's pings are answered", async (t) => {
  const { server, clock, api } = await scene(t);
  const stream = api.call.a.b();
  const peer = await server.peer();
  await peer.opened();
  await clock.until(20000);
  for (let n = 0; n < 5; n += 1) {
    clock.advance(20000);
    await eventually(() => peer.count("ping") === n + 2);
    // Its pong has to arrive, or the socket would be idle.
    peer.send("ping");
    await eventually(() => peer.count("pong") === n + 1);
  }
  assert.equal(peer.frames.filter((one) => one.type === "ping")[1].text, '{"type":"ping"}');
  stream.cancel();
});

test("CL-70 nothing arrives for 40 s: IdleTimeout", async (t) => {
  const { server, clock, api } = await scene(t);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  await peer.opened();
  await eventually(() => api.status.current.state === "connected");
  await settled();
  peer.pong = null;
  clock.advance(39999);
  await settled();
  assert.equal(api.status.current.state, "connected");
  clock.advance(1);
  assert.ok((await within(reading, "the error")).error instanceof IdleTimeout);
  await eventually(() => peer.closed !== null);
});

test("CL-72 and CL-74 a call during the teardown of a socket uses a fresh one", async (t) => {
  const { server, clock, api } = await scene(t);
  for (let n = 0; n < 3; n += 1) {
    const reading = all(api.call.a.b());
    const peer = await server.peer();
    peer.end(await peer.opened());
    await within(reading, "the end");
    await clock.until(1000);
    // The socket has begun to close, and the next call is made at once.
    clock.advance(1000);
  }
  assert.equal(server.peers.length, 3);
  await eventually(() => server.peers.every((peer) => peer.closed === 1000));
});

test("CL-75 no credentials in the URL", async (t) => {
  const { server, api } = await scene(t, { credentials: "Bearer secret" });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened();
  assert.equal(peer.url, "/v1/websocket");
  assert.equal(open.auth, "Bearer secret");
  peer.end(open);
  await reading;
  assert.throws(() => connect("wss://user:secret@example.org/"), TypeError);
});

test("http and https addresses become ws and wss; others are refused", () => {
  assert.doesNotThrow(() => connect("https://example.org/v1/websocket"));
  assert.throws(() => connect("ftp://example.org/"), TypeError);
  assert.throws(() => connect("ws://example.org/", { resume: true }), /resume/);
  assert.throws(() => connect("ws://example.org/", { window: 0 }), TypeError);
});

test("the status is told: connecting, connected, waiting, disconnected", async (t) => {
  const { server, clock, api } = await scene(t);
  const seen = [];
  const end = api.status.subscribe((status) => seen.push(status.state));
  const stream = api.call.a.b({}, { resume: true });
  let peer = await server.peer();
  await peer.opened();
  peer.cut();
  await eventually(() => api.status.current.state === "waiting");
  assert.deepEqual(api.status.current, { state: "waiting", ms: 250 });
  clock.advance(250);
  peer = await server.peer();
  await peer.opened();
  stream.cancel();
  await clock.until(1000);
  clock.advance(1000);
  const up = ["connecting", "connected"];
  const states = ["disconnected", ...up, "waiting", ...up, "disconnected"];
  assert.deepEqual(seen, states);
  end();
  all(api.call.a.b());
  assert.deepEqual(seen, states);
});

test("a bye: new calls go to a new socket, the old one serves its calls and closes", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1 });
  const states = [];
  api.status.subscribe(({ state }) => states.push(state));
  const first = all(api.call.a.b());
  const old = await server.peer();
  const open = await old.opened({});
  old.send("bye", { within: 8000, spread: 5000 });
  await settled();
  const second = all(api.call.a.c());
  const fresh = await server.peer();
  fresh.end(await fresh.opened({}));
  await within(second, "the second");
  old.value(open, 1);
  old.end(open);
  assert.deepEqual(data((await within(first, "the first")).values), [1]);
  await clock.until(0);
  clock.advance(0);
  await eventually(() => old.closed === 1000);
  assert.equal(fresh.closed, null);
  assert.deepEqual(states, ["disconnected", "connecting", "connected", "connecting", "connected"]);
});
