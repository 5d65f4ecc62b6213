/** The shared socket and its frames, at the project's own server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, ConnectFailed, ConnectTimedOut, IdleTimeout, Input, SocketLost } from "../../src/index.js";
import { Clock } from "../support/clock.js";
import { eventually, within } from "../support/eventually.js";
import { start } from "../support/process.js";
import { both, real, until } from "../support/real.js";
import { all, data, read } from "../support/scene.js";

const whole = (stream) => within(all(stream), "the end of a call");
const works = async (api) => {
  const { values, error } = await whole(api.call.test.ints({ count: 3 }));
  assert.equal(error, undefined);
  assert.deepEqual(data(values), [0, 1, 2]);
};
/** The sockets of the server but the one that asks. */
const others = (control, count) =>
  until(
    () => control("sockets"),
    (found) => found === count + 1,
    "sockets",
  );

both(
  "CL-31 and CL-32 closing ends an open call with SocketLost, and a new call works",
  async (t, { plain }) => {
    const { api, record, control } = await real(t, { plain });
    const waits = api.call.test.waits().values();
    await read(waits, 1);
    api.close();
    await assert.rejects(within(waits.next(), "the end"), SocketLost);
    await others(control, 0);
    await works(api);
    assert.equal(record.sockets.length, 2);
  },
);

both("CL-34 with closeWhenOffline, offline ends a call with SocketLost", async (t, { plain }) => {
  const clock = new Clock();
  const testing = { random: () => 0, listen: clock.testing.listen };
  const { api, control } = await real(t, { plain, closeWhenOffline: true, testing });
  const waits = api.call.test.waits().values();
  await read(waits, 1);
  clock.fire("offline");
  await assert.rejects(within(waits.next(), "the end"), SocketLost);
  await others(control, 0);
});

test("CL-58 no server: ConnectFailed", async () => {
  const server = await start();
  await server.kill();
  const api = connect(server.url);
  assert.ok((await whole(api.call.test.ints({ count: 1 }))).error instanceof ConnectFailed);
  api.close();
});

test("CL-59 a server that accepts and is silent: ConnectTimedOut", async (t) => {
  const { server, api } = await real(t, { connectTimeout: 300 });
  server.freeze();
  assert.ok((await whole(api.call.test.ints({ count: 1 }))).error instanceof ConnectTimedOut);
});

test("CL-70 a server that falls silent: IdleTimeout", async (t) => {
  const { server, api } = await real(t, { pingInterval: 100, idleTimeout: 400 });
  const waits = api.call.test.waits().values();
  await read(waits, 1);
  server.freeze();
  await assert.rejects(within(waits.next(), "the end"), IdleTimeout);
});

both("CL-61 five calls at once: one socket, one ping", async (t, { plain }) => {
  const { api, record } = await real(t, { plain });
  await Promise.all(Array.from({ length: 5 }, () => works(api)));
  assert.equal(record.sockets.length, 1);
  assert.equal(record.of("ping", "out").length, 1);
});

both("CL-63 when the server has closed the only call, the client closes the socket", async (t, { plain }) => {
  const { api, control } = await real(t, { plain });
  await works(api);
  await others(control, 0);
  await eventually(() => api.status.current.state === "disconnected");
});

both("CL-64 a socket that the server cuts: the stream gets an error", async (t, { plain }) => {
  const { server, api } = await real(t, { plain });
  const waits = api.call.test.waits().values();
  await read(waits, 1);
  await server.kill();
  await assert.rejects(within(waits.next(), "the end"), SocketLost);
});

both("CL-67 and CL-68 an output that has ended hears nothing of what ends later", async (t, { plain }) => {
  const { server, api } = await real(t, { plain });
  const input = new Input();
  const values = api.call.test.echo({}, { inputs: { input } }).values();
  input.send(1);
  await read(values, 1);
  await values.return();
  await server.kill();
  api.close();
  assert.deepEqual(await within(values.next(), "the end"), { value: undefined, done: true });
  assert.equal(input.open, false);
});

both(
  "CL-72 and CL-74 a call right after the last one closed works, and at a teardown, too",
  async (t, { plain }) => {
    const { api } = await real(t, { plain });
    for (let round = 0; round < 20; round += 1) {
      await works(api);
      if (round % 2 === 0) api.close();
      if (round % 5 === 0) await Promise.all([works(api), works(api)]);
    }
  },
);

both("WS-80 a server that stops, started again on the same port: a new call works", async (t, { plain }) => {
  const { server, api } = await real(t, { plain });
  const waits = api.call.test.waits().values();
  await read(waits, 1);
  await server.stop();
  await assert.rejects(within(waits.next(), "the end"));
  const again = await start(server.address);
  t.after(() => again.kill());
  await works(api);
});

// What the client writes is changed on its way, as no client of ours writes what is wrong.
const WRONG = {
  "WM-6 an upper-cased frame": (text) => text.replace('"type":"omsc"', '"TYPE":"OMSC"'),
  "WM-8 what is not JSON": (text) => text.replace('{"type":"omsc"', "omsc"),
  "WM-14 an open without its endpoint": (text) => text.replace('"en":"test",', ""),
  "WM-18 a close without its id": (text) => text.replace(/("type":"cmsc".*)"cid":"[^"]*",/, "$1"),
  "WM-22 a value without its endpoint": (text) => text.replace(/("type":"msm".*)"en":"test",/, "$1"),
};
for (const [name, tamper] of Object.entries(WRONG)) {
  both(`WM-4: ${name} is answered with brm, and the calls end with SocketLost`, async (t, { plain }) => {
    const { api, record } = await real(t, { plain, tamper });
    async function* fails() {
      yield 1;
      throw new Error("the input fails");
    }
    const { error } = await whole(api.call.test.takes({ count: 9 }, { inputs: { input: fails() } }));
    assert.ok(error instanceof SocketLost, String(error));
    assert.equal(record.of("brm", "in").length, 1);
    assert.equal(record.of("brm", "out").length, 0);
  });
}

both(
  "WM-2, WM-3, WM-10, WM-15, WM-17, WM-20 and WM-23 frames are understood at both ends",
  async (t, { plain }) => {
    const { api, record } = await real(t, { plain, pingInterval: 100 });
    const waits = api.call.test.waits().values();
    await read(waits, 1);
    await whole(api.call.test.failsTyped());
    await eventually(() => record.of("pong", "in").length >= 3, "answers to pings");
    for (const type of ["omsr", "cmsc", "msm", "msse"]) assert.ok(record.of(type, "in").length > 0, type);
    assert.equal(record.of("brm").length, 0);
    await waits.return();
  },
);
