/** The legacy streaming endpoints. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectTimedOut, ReconnectingEndpoints, StreamingEndpoints, typed } from "../src/index.js";
import { Clock } from "./support/clock.js";
import { eventually, settled, within } from "./support/eventually.js";
import { nobody, serve } from "./support/server.js";

async function legacy(t, { pong, key } = {}) {
  const server = await serve({ pong });
  const clock = new Clock();
  const endpoints = new StreamingEndpoints(server.url.replace("/v1/websocket", "/websocket"), {
    key,
    testing: clock.testing,
  });
  t.after(async () => {
    endpoints.closeStreamingConnection();
    await server.close();
  });
  return { server, clock, endpoints };
}

const texts = (peer) => peer.frames.map((one) => one.text);

test("LG-1, LG-3 and LG-14 objects of endpoints and of a module's, in order", async (t) => {
  const { server, endpoints } = await legacy(t);
  const own = endpoints.stream("chat");
  const theirs = endpoints.stream("module.chat");
  await endpoints.openStreamingConnection();
  const peer = await server.peer();
  for (let n = 1; n <= 3; n += 1) endpoints.sendStreamMessage("chat", typed("Say", { n }));
  endpoints.sendStreamMessage("module.chat", 7);
  await eventually(() => peer.frames.length === 5);
  assert.deepEqual(texts(peer), [
    '{"command":"ping","args":{}}',
    '{"endpoint":"chat","object":{"className":"Say","data":{"n":1}}}',
    '{"endpoint":"chat","object":{"className":"Say","data":{"n":2}}}',
    '{"endpoint":"chat","object":{"className":"Say","data":{"n":3}}}',
    '{"endpoint":"module.chat","object":{"className":"int","data":7}}',
  ]);
  for (const text of texts(peer).slice(1)) peer.text(text);
  for (let n = 1; n <= 3; n += 1) {
    assert.deepEqual((await within(own.next(), "an object")).value, typed("Say", { n }));
  }
  assert.deepEqual((await within(theirs.next(), "an object")).value, typed("int", 7));
});

test("LG-5, LG-6 and LG-20 the key goes in the URL, and a new one by a control frame", async (t) => {
  let key = "1:a b&c";
  const { server, endpoints } = await legacy(t, { key: async () => key });
  await endpoints.openStreamingConnection();
  const peer = await server.peer();
  assert.equal(new URL(peer.url, "ws://localhost").searchParams.get("auth"), key);
  assert.equal(new URL(peer.url, "ws://localhost").pathname, "/websocket");
  key = "2:d";
  await endpoints.updateKey();
  await eventually(() => texts(peer).includes('{"command":"auth","args":{"key":"2:d"}}'));
});

test("LG-11 closing ends the streams and the socket", async (t) => {
  const { server, clock, endpoints } = await legacy(t);
  await endpoints.openStreamingConnection();
  const peer = await server.peer();
  const next = endpoints.stream("chat").next();
  endpoints.closeStreamingConnection();
  assert.deepEqual(await within(next, "the end"), { value: undefined, done: true });
  await eventually(() => peer.closed === 1000);
  assert.throws(() => endpoints.sendStreamMessage("chat", 1), { name: "SocketLost" });
  assert.deepEqual(clock.armed, []);
});

test("LG a status listener: connecting until the first frame, connected, disconnected", async (t) => {
  const { server, endpoints } = await legacy(t);
  const seen = [];
  const end = endpoints.addStatusListener((status, error) => seen.push([status, error?.name]));
  await endpoints.openStreamingConnection();
  assert.deepEqual(seen, [["connecting", undefined], ["connected", undefined]]);
  (await server.peer()).cut();
  await eventually(() => endpoints.status === "disconnected");
  assert.deepEqual(seen[2], ["disconnected", "SocketLost"]);
  end();
  await endpoints.openStreamingConnection();
  assert.equal(seen.length, 3);
});

test("LG no first frame for 5 s: an error, and nothing of the key in it", async (t) => {
  const { server, clock, endpoints } = await legacy(t, { pong: null, key: "1:secret" });
  const opening = endpoints.openStreamingConnection();
  await server.peer();
  clock.advance(5000);
  const error = await within(opening.then(assert.fail, (found) => found), "the error");
  assert.ok(error instanceof ConnectTimedOut);
  assert.ok(!`${error.message}${error.stack}`.includes("secret"));
  assert.equal(endpoints.status, "disconnected");
});

test("LG no server: an error", async () => {
  const endpoints = new StreamingEndpoints(await nobody(), { testing: new Clock().testing });
  await assert.rejects(endpoints.openStreamingConnection(), { name: "ConnectFailed" });
});

test("LG a ping every 20 s, and 40 s of silence end the connection", async (t) => {
  const { server, clock, endpoints } = await legacy(t);
  await endpoints.openStreamingConnection();
  const peer = await server.peer();
  peer.pong = null;
  clock.advance(20000);
  await eventually(() => texts(peer).length === 2);
  clock.advance(20000);
  assert.equal(endpoints.status, "disconnected");
});

test("LG after a loss: a countdown of 5 s, then a new attempt; streams go on", async (t) => {
  const { server, clock, endpoints } = await legacy(t);
  const told = [];
  const handler = new ReconnectingEndpoints(
    endpoints,
    ({ status, retryInSeconds }) => told.push(retryInSeconds ?? status),
    { testing: clock.testing },
  );
  const values = endpoints.stream("chat");
  handler.connect();
  (await server.peer()).text('{"endpoint":"chat","object":{"className":"int","data":1}}');
  assert.equal((await within(values.next(), "an object")).value.data, 1);
  server.peers[0].cut();
  await eventually(() => told.includes(5));
  for (let n = 0; n < 5; n += 1) clock.advance(1000);
  const peer = await server.peer();
  await eventually(() => endpoints.status === "connected");
  peer.text('{"endpoint":"chat","object":{"className":"int","data":2}}');
  assert.equal((await within(values.next(), "an object")).value.data, 2);
  const up = ["connecting", "connected"];
  assert.deepEqual(told, [...up, "disconnected", 5, 4, 3, 2, 1, ...up]);
  peer.cut();
  await eventually(() => told.at(-1) === 5);
  handler.close();
  assert.deepEqual(clock.armed, []);
  clock.advance(10000);
  await settled();
  assert.deepEqual([told.at(-1), endpoints.status, server.peers.length], ["disconnected", "disconnected", 2]);
});

test("LG frames that are none are ignored; a stream that is not read is bounded", async (t) => {
  const { server, endpoints } = await legacy(t);
  await endpoints.openStreamingConnection();
  const peer = await server.peer();
  const values = endpoints.stream("chat");
  const none = ["{", "null", "7", '{"endpoint":"chat"}', '{"endpoint":"chat","object":{"className":1}}'];
  for (const text of none) peer.text(text);
  peer.text('{"command":"ping","args":{}}');
  await eventually(() => texts(peer).includes('{"command":"pong","args":{}}'));
  const object = { className: "String", data: "x".repeat(9 * 1024 * 1024) };
  const big = JSON.stringify({ endpoint: "chat", object });
  peer.text(big);
  peer.text(big);
  peer.text('{"command":"ping","args":{}}');
  await eventually(() => texts(peer).filter((one) => one === '{"command":"pong","args":{}}').length === 2);
  await within(values.next(), "an object").then(({ value }) => assert.equal(value.className, "String"));
  await assert.rejects(within(values.next(), "the error"), /too many/);
});
