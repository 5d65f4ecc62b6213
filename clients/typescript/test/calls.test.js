/** Calls and their values: what a method gives, and how it fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallClosed, CallRefused, StreamFault } from "../src/index.js";
import { all, data, scene } from "./support/scene.js";
import { eventually, settled, within } from "./support/eventually.js";

/** What the reader of `m` gets when the server sends these values and `done`. */
async function given(t, values) {
  const { server, api } = await scene(t);
  const reading = all(api.call.shapes.m());
  const peer = await server.peer();
  const open = await peer.opened();
  for (const value of values) peer.send("msm", { en: open.en, m: open.m, cid: open.cid, o: value });
  peer.end(open);
  return within(reading, "the end of the stream");
}

test("CL-1 many calls in quick succession all finish", async (t) => {
  const { server, api } = await scene(t);
  const results = Array.from({ length: 200 }, (_, n) => api.call.math.same({ n }).then());
  const peer = await server.peer();
  for (let n = 0; n < 200; n += 1) {
    const open = await peer.opened();
    peer.value(open, JSON.parse(open.args).n);
    peer.end(open);
  }
  const values = await within(Promise.all(results), "all results");
  assert.deepEqual(data(values), Array.from({ length: 200 }, (_, n) => n));
  assert.equal(server.peers.length, 1);
});

test("CL-3 a stream of ints, in order, then the end", async (t) => {
  const ints = [0, 1, 2, 3].map((n) => ({ className: "int", data: n }));
  assert.deepEqual(await given(t, ints), { values: ints, error: undefined });
});

test("CL-4 the arguments are a text of JSON, and the frame has its members in their order", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.shapes.count({ n: 3 }));
  const peer = await server.peer();
  const open = await peer.next("omsc");
  const text = peer.frames.find((frame) => frame.type === "omsc").text;
  const { cid } = open;
  assert.equal(
    text,
    `{"type":"omsc","data":{"en":"shapes","m":"count","cid":"${cid}","args":"{\\"n\\":3}","is":[]}}`,
  );
  assert.match(cid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  peer.success(open);
  for (let n = 0; n < JSON.parse(open.args).n; n += 1) peer.value(open, n);
  peer.end(open);
  assert.deepEqual(data((await reading).values), [0, 1, 2]);
});

test("CL-6 a typed failure of a stream arrives typed, after the values before it", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.shapes.fails());
  const peer = await server.peer();
  const open = await peer.opened();
  peer.value(open, 1);
  peer.fault(open, "NoSuchPixel", { index: 7 });
  peer.end(open, "error");
  const { values, error } = await within(reading, "the fault");
  assert.deepEqual(data(values), [1]);
  assert.ok(error instanceof StreamFault);
  assert.deepEqual([error.className, error.data], ["NoSuchPixel", { index: 7 }]);
});

test("CL-7 a method that fails before it gives its stream: CallClosed", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.shapes.fails());
  const peer = await server.peer();
  peer.end(await peer.opened(), "error");
  const { values, error } = await within(reading, "the error");
  assert.deepEqual(values, []);
  assert.ok(error instanceof CallClosed);
  assert.deepEqual([error.why, error.again], [undefined, undefined]);
});

const shapes = {
  "CL-9 lists of ints": { className: "List<int>", data: [1, 2, 3] },
  "CL-10 optional lists of models": { className: "List<SimpleData>?", data: null },
  "CL-11 lists of optional models": { className: "List<SimpleData?>", data: [{ num: 1 }, null] },
  "CL-12 lists of another module's type": { className: "List<module.ModuleClass>", data: [{ name: "a" }] },
  "CL-13 lists of models": { className: "List<SimpleData>", data: [{ num: 1 }, { num: 2 }] },
  "CL-15 sets of models": { className: "Set<SimpleData>", data: [{ num: 1 }] },
  "CL-16 sets within lists": { className: "List<Set<int>>", data: [[1], [2, 3]] },
  "CL-57 module types as values": { className: "module.ModuleClass", data: { name: "a" } },
};
for (const [name, value] of Object.entries(shapes)) {
  test(name, async (t) => assert.deepEqual((await given(t, [value])).values, [value]));
}

test("CL-36 to CL-39, CL-41, CL-43 to CL-45 a value of each kind arrives as it was sent", async (t) => {
  const values = [
    { className: "int", data: -7 },
    { className: "double", data: 0.5 },
    { className: "bool", data: true },
    { className: "String", data: "näh 🦀" },
    { className: "ByteData", data: "decode('AAEC', 'base64')" },
    { className: "UuidValue", data: "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11" },
    { className: "Uri", data: "https://example.org/a?b#c" },
    { className: "BigInt", data: "123456789012345678901234567890" },
    { className: "null", data: null },
  ];
  assert.deepEqual(await given(t, values), { values, error: undefined });
});

test("a single result is awaited; a void one resolves to undefined", async (t) => {
  const { server, api } = await scene(t);
  const value = api.call.math.one().then();
  const peer = await server.peer();
  let open = await peer.opened();
  peer.value(open, 4);
  peer.end(open);
  assert.deepEqual(await within(value, "the result"), { className: "int", data: 4 });
  const nothing = api.call.math.none().then();
  open = await peer.opened();
  peer.end(open);
  assert.equal(await within(nothing, "the end"), undefined);
});

test("awaiting a call that gives more than one value cancels it, and says so", async (t) => {
  const { server, api } = await scene(t);
  const result = api.call.math.many().then();
  const peer = await server.peer();
  const open = await peer.opened();
  peer.value(open, 1);
  peer.value(open, 2);
  await assert.rejects(within(result, "the error"), TypeError);
  assert.equal((await peer.next("cmsc")).cr, "done");
});

test("CL-19 and CL-21 a single-result or void method fails untyped: CallClosed", async (t) => {
  const { server, api } = await scene(t);
  const result = api.call.math.fails().then();
  const peer = await server.peer();
  peer.end(await peer.opened(), "error");
  await assert.rejects(within(result, "the error"), CallClosed);
});

test("CL-22 a single-result or void method fails typed: StreamFault", async (t) => {
  const { server, api } = await scene(t);
  const result = api.call.math.fails().then();
  const peer = await server.peer();
  const open = await peer.opened();
  peer.fault(open, "NoSuchPixel", { index: 7 });
  peer.end(open, "error");
  await assert.rejects(within(result, "the error"), { name: "StreamFault", className: "NoSuchPixel" });
});

test("CL-30 one call finished, another still transmits", async (t) => {
  const { server, clock, api } = await scene(t);
  const first = all(api.call.shapes.one());
  const second = all(api.call.shapes.two());
  const peer = await server.peer();
  const one = await peer.opened();
  const two = await peer.opened();
  peer.end(one);
  await within(first, "the end of the first");
  clock.advance(5000);
  peer.value(two, 2);
  peer.end(two);
  assert.deepEqual(data((await within(second, "the end of the second")).values), [2]);
});

test("CL-47 and CL-48 a method of a module's endpoint", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call["module.endpoint"].echo());
  const peer = await server.peer();
  const open = await peer.opened();
  assert.equal(open.en, "module.endpoint");
  peer.value(open, 1);
  peer.end(open);
  assert.deepEqual(data((await reading).values), [1]);
});

test("CL-49 a failing set-up surfaces on the returned stream", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.nothing.here());
  const peer = await server.peer();
  peer.refuse(await peer.next("omsc"), "endpointNotFound");
  const { error } = await within(reading, "the refusal");
  assert.ok(error instanceof CallRefused);
  assert.equal(error.res, "endpointNotFound");
});

test("CL-65 the reader breaks: a close is sent, and late values are ignored", async (t) => {
  const { server, api } = await scene(t);
  const stream = api.call.shapes.ints();
  const reading = (async () => {
    for await (const value of stream) return value;
  })();
  const peer = await server.peer();
  const open = await peer.opened();
  peer.value(open, 1);
  assert.equal((await within(reading, "the value")).data, 1);
  assert.deepEqual(await peer.next("cmsc"), { en: "shapes", m: "ints", cid: open.cid, cr: "done" });
  peer.value(open, 2);
  peer.end(open);
  await settled();
  assert.equal(peer.count("cmsc"), 1);
  assert.equal(peer.closed, null);
});

test("a signal cancels a call: a close is sent, and the reader gets the reason", async (t) => {
  const { server, api } = await scene(t);
  const control = new AbortController();
  const reading = all(api.call.shapes.ints({}, { signal: control.signal }));
  const peer = await server.peer();
  await peer.opened();
  control.abort(new Error("enough"));
  assert.equal((await within(reading, "the end")).error.message, "enough");
  assert.equal((await peer.next("cmsc")).cr, "done");
});

test("a signal that was aborted before the call: nothing is opened", async (t) => {
  const { server, api } = await scene(t);
  const { error } = await all(api.call.shapes.ints({}, { signal: AbortSignal.abort(new Error("early")) }));
  assert.equal(error.message, "early");
  await settled();
  assert.equal(server.peers.length, 0);
});

test("a call cancelled while it opens is closed at the server, too", async (t) => {
  const { server, api } = await scene(t);
  const stream = api.call.shapes.ints();
  const peer = await server.peer();
  const open = await peer.next("omsc");
  stream.cancel();
  assert.equal((await peer.next("cmsc")).cid, open.cid);
  peer.success(open);
  peer.value(open, 1);
  assert.deepEqual(await all(stream), { values: [], error: undefined });
});

test("a deadline ends a call whatever the server does", async (t) => {
  const { server, clock, api } = await scene(t);
  const reading = all(api.call.shapes.ints({}, { deadline: 3000 }));
  const peer = await server.peer();
  await peer.opened();
  clock.advance(3000);
  const { error } = await within(reading, "the end");
  assert.deepEqual([error.name, error.why, error.again], ["CallClosed", "deadline", "never"]);
  await peer.next("cmsc");
});

test("CL-67 the reader has cancelled, then the server closes with an error: no error", async (t) => {
  const { server, api } = await scene(t);
  const values = api.call.shapes.ints().values();
  const peer = await server.peer();
  const open = await peer.opened();
  await values.return();
  peer.end(open, "error");
  await peer.next("cmsc");
  await settled();
  assert.deepEqual(await values.next(), { value: undefined, done: true });
});

test("CL-68 the reader has cancelled, then all calls are closed: no error", async (t) => {
  const { server, api } = await scene(t);
  const values = api.call.shapes.ints().values();
  const peer = await server.peer();
  await peer.opened();
  await values.return();
  api.close();
  assert.deepEqual(await values.next(), { value: undefined, done: true });
  await eventually(() => peer.closed === 1000);
});

test("a call has one reader", async (t) => {
  const { server, api } = await scene(t);
  const stream = api.call.shapes.ints();
  stream.values();
  assert.throws(() => stream.events(), TypeError);
  await assert.rejects(stream.then(), TypeError);
  const peer = await server.peer();
  peer.end(await peer.opened());
});

test("bad options are refused, and inputs without their name are not lost", async (t) => {
  const { api } = await scene(t);
  assert.throws(() => api.call.chat.room({}, { outgoing: [] }), /outgoing/);
  assert.throws(() => api.call.chat.room([1]), TypeError);
  assert.throws(() => api.call.chat.room({}, { deadline: -1 }), TypeError);
  assert.equal(api.call.then, undefined);
  assert.equal(api.call.chat.then, undefined);
});
