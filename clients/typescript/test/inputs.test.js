/** Inputs: the application's values on their way to the method. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { byteData, bytesOf, Input, StreamFault, typed } from "../src/index.js";
import { all, data, scene } from "./support/scene.js";
import { eventually, settled, within } from "./support/eventually.js";

/** The frames of an input up to and with its close. */
async function taken(peer, p) {
  const ended = () => peer.frames.some((one) => one.type === "cmsc" && one.data.p === p);
  await eventually(ended, `the end of ${p}`);
  return peer.frames.filter((one) => one.data?.p === p);
}

test("CL-17 the first value of an input as single result; the source is told to stop", async (t) => {
  const { server, api } = await scene(t);
  const says = new Input();
  const result = api.call.math.first({}, { inputs: { numbers: says } }).then();
  const peer = await server.peer();
  const open = await peer.opened();
  assert.deepEqual(open.is, ["numbers"]);
  says.send(5);
  const value = await peer.next("msm");
  assert.deepEqual(value.o, { className: "int", data: 5 });
  peer.value(open, value.o.data);
  peer.end(open);
  peer.end(open, "done", { p: "numbers" });
  assert.equal((await within(result, "the result")).data, 5);
  await eventually(() => !says.open);
  assert.throws(() => says.send(6));
});

test("CL-23 ints echoed, byte for byte as the protocol writes them", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.echo.ints({}, { inputs: { numbers: [1, 2, 3] } }));
  const peer = await server.peer();
  const open = await peer.opened();
  const frames = await taken(peer, "numbers");
  const at = `"en":"echo","m":"ints","cid":"${open.cid}","p":"numbers"`;
  assert.deepEqual(
    frames.map((frame) => frame.text),
    [
      `{"type":"msm","data":{${at},"o":{"className":"int","data":1}}}`,
      `{"type":"msm","data":{${at},"o":{"className":"int","data":2}}}`,
      `{"type":"msm","data":{${at},"o":{"className":"int","data":3}}}`,
      `{"type":"cmsc","data":{${at},"cr":"done"}}`,
    ],
  );
  for (const frame of frames.slice(0, 3)) peer.value(open, frame.data.o.data);
  peer.end(open);
  assert.deepEqual(data((await reading).values), [1, 2, 3]);
});

test("CL-24 values of several kinds get their classes", async (t) => {
  const { server, api } = await scene(t);
  const bytes = Uint8Array.from([0, 1, 250, 255]);
  const mixed = [
    1,
    0.5,
    1e300,
    true,
    "a",
    null,
    12345678901234567890n,
    new Date(0),
    new URL("https://example.org/"),
    bytes,
    typed("Say", { text: "x" }),
    typed("double", 2),
  ];
  const stream = api.call.echo.mixed({}, { inputs: { values: mixed } });
  const peer = await server.peer();
  await peer.opened();
  const frames = await taken(peer, "values");
  assert.deepEqual(
    frames.slice(0, -1).map((frame) => frame.data.o),
    [
      { className: "int", data: 1 },
      { className: "double", data: 0.5 },
      { className: "double", data: 1e300 },
      { className: "bool", data: true },
      { className: "String", data: "a" },
      { className: "null", data: null },
      { className: "BigInt", data: "12345678901234567890" },
      { className: "DateTime", data: "1970-01-01T00:00:00.000Z" },
      { className: "Uri", data: "https://example.org/" },
      byteData(bytes),
      { className: "Say", data: { text: "x" } },
      { className: "double", data: 2 },
    ],
  );
  assert.deepEqual(bytesOf(byteData(bytes).data), bytes);
  stream.cancel();
});

test("CL-26 two inputs, each with its own end", async (t) => {
  const { server, api } = await scene(t);
  const stream = api.call.echo.two({}, { inputs: { left: [1], right: ["a", "b"] } });
  const peer = await server.peer();
  assert.deepEqual((await peer.opened()).is, ["left", "right"]);
  assert.deepEqual((await taken(peer, "left")).map((one) => one.data.o?.data), [1, undefined]);
  assert.deepEqual((await taken(peer, "right")).map((one) => one.data.o?.data), ["a", "b", undefined]);
  stream.cancel();
});

test("inputs begin after `success`", async (t) => {
  const { server, api } = await scene(t);
  let pulled = 0;
  const source = (async function* () {
    pulled += 1;
    yield 1;
  })();
  const stream = api.call.echo.ints({}, { inputs: { numbers: source } });
  const peer = await server.peer();
  const open = await peer.next("omsc");
  await settled();
  assert.equal(pulled, 0);
  peer.success(open);
  await taken(peer, "numbers");
  stream.cancel();
});

test("CL-28 an untyped error of an input: a close with `error`", async (t) => {
  const { server, api } = await scene(t);
  const source = (async function* () {
    yield 1;
    throw new Error("secret");
  })();
  const stream = api.call.echo.ints({}, { inputs: { numbers: source } });
  const peer = await server.peer();
  await peer.opened();
  const frames = await taken(peer, "numbers");
  assert.deepEqual(frames.map((one) => one.type), ["msm", "cmsc"]);
  assert.equal(frames[1].data.cr, "error");
  assert.ok(!frames.some((one) => one.text.includes("secret")));
  stream.cancel();
});

test("WS-50 a typed error of an input: the fault, then a close with `error`", async (t) => {
  const { server, api } = await scene(t);
  const says = new Input();
  const stream = api.call.echo.ints({}, { inputs: { numbers: says } });
  const peer = await server.peer();
  await peer.opened();
  says.fail(new StreamFault("TooLoud", { level: 3 }));
  const [fault, close] = await taken(peer, "numbers");
  assert.deepEqual(fault.data.ex, { className: "TooLoud", data: { level: 3 } });
  assert.equal(close.data.cr, "error");
  stream.cancel();
});

test("a fault whose data is no object ends the call, for the server could not read it", async (t) => {
  const { server, api } = await scene(t);
  const says = new Input();
  const reading = all(api.call.echo.ints({}, { inputs: { numbers: says } }));
  const peer = await server.peer();
  await peer.opened();
  says.fail(new StreamFault("TooLoud", 3));
  assert.ok((await within(reading, "the error")).error instanceof TypeError);
  assert.equal(peer.count("msse"), 0);
});

test("a value without a class ends the call, and the reader gets the error", async (t) => {
  const { server, api } = await scene(t);
  const reading = all(api.call.echo.ints({}, { inputs: { numbers: [{ text: "a" }] } }));
  const peer = await server.peer();
  await peer.opened();
  assert.ok((await within(reading, "the error")).error instanceof TypeError);
  assert.equal((await peer.next("cmsc")).p, undefined);
});

test("the server closes an input: the source is told to stop, the call goes on", async (t) => {
  const { server, api } = await scene(t);
  const says = new Input();
  const reading = all(api.call.echo.ints({}, { inputs: { numbers: says } }));
  const peer = await server.peer();
  const open = await peer.opened();
  peer.end(open, "done", { p: "numbers" });
  await eventually(() => !says.open);
  peer.value(open, 1);
  peer.end(open);
  assert.deepEqual(data((await within(reading, "the end")).values), [1]);
  assert.equal(peer.count("cmsc"), 0);
});

test("a socket that takes nothing stops the pulling", async (t) => {
  const { server, clock, api } = await scene(t);
  let pulled = 0;
  const text = "x".repeat(64 * 1024);
  const source = (async function* () {
    while (pulled < 10000) {
      pulled += 1;
      yield text;
    }
  })();
  const stream = api.call.echo.texts({}, { inputs: { texts: source } });
  const peer = await server.peer();
  await peer.opened();
  peer.pause();
  // The client looks again after 25 ms whether there is room.
  await clock.until(25);
  const before = pulled;
  await settled();
  assert.equal(pulled, before);
  peer.resume();
  await eventually(() => {
    clock.advance(25);
    return pulled > before + 1;
  });
  stream.cancel();
});

test("an input that is fed by hand is bounded", () => {
  const input = new Input(2);
  input.send(1);
  input.send(2);
  assert.throws(() => input.send(3), RangeError);
});
