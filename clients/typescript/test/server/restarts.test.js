/** Servers that are killed, started again, and drained: their clients go on, or are told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallClosed, Restarted, Resumed, SocketLost } from "../../src/index.js";
import { eventually, within } from "../support/eventually.js";
import { start } from "../support/process.js";
import { both, real, until } from "../support/real.js";
import { all, data, read } from "../support/scene.js";

const COUNT = 1e9;

/** Kills the server, and starts another at its address. */
async function again(t, server) {
  await server.kill();
  const next = await start(server.address);
  t.after(() => next.kill());
}

/** Reads on until something happens to the call; gives that, and the number that is to follow. */
async function happened(events, next) {
  for (;;) {
    const [event] = await read(events, 1);
    if (event.className === undefined) return { event, next };
    assert.equal(event.data, next);
    next += 1;
  }
}

for (const method of ["numbersByCursor", "resumableByCursor"]) {
  test(`a server that is killed and started again: ${method} goes on behind its cursor`, async (t) => {
    const { server, api } = await real(t);
    const call = api.call.long[method]({ count: COUNT }, { resume: true });
    const events = call.events();
    assert.deepEqual(
      data(await read(events, 100)),
      Array.from({ length: 100 }, (_, n) => n),
    );
    await again(t, server);
    const { event, next } = await happened(events, 100);
    assert.ok(event instanceof Resumed && event.resumed.by === "cursor", JSON.stringify(event));
    assert.equal(call.cursor, String(next));
    assert.deepEqual(data(await read(events, 3)), [next, next + 1, next + 2]);
    await events.return();
  });
}

for (const method of ["numbers", "numbersAnew"]) {
  test(`a server that is killed and started again: ${method} begins anew, and says so`, async (t) => {
    const { server, api } = await real(t);
    const events = api.call.long[method]({ count: COUNT }, { resume: true }).events();
    assert.deepEqual(data(await read(events, 3)), [0, 1, 2]);
    await again(t, server);
    const { event } = await happened(events, 3);
    assert.ok(event instanceof Restarted, JSON.stringify(event));
    assert.deepEqual(data(await read(events, 3)), [0, 1, 2]);
    await events.return();
  });
}

test("a server that is killed: an input goes on, and it is said how many values are uncertain", async (t) => {
  const { server, api } = await real(t);
  let pulled = 0;
  async function* numbers() {
    for (;;) yield pulled++;
  }
  const events = api.call.long.echo({}, { resume: true, inputs: { input: numbers() } }).events();
  assert.deepEqual(data(await read(events, 3)), [0, 1, 2]);
  await again(t, server);
  const { event, next } = await happened(events, 3);
  const lost = event.restarted.unacknowledged.input;
  const [first] = await read(events, 1);
  // What came back was taken. Of the rest, none is sent twice, and none is missing but what was uncertain.
  assert.ok(
    first.data >= next && first.data - next <= lost,
    `${first.data} after ${next}, ${lost} uncertain`,
  );
  await events.return();
});

both("a server that is killed: a call without resume ends with SocketLost", async (t, { plain }) => {
  const { server, api } = await real(t, { plain });
  const values = api.call.long.numbers({ count: COUNT }).values();
  await read(values, 1);
  await server.kill();
  const ended = async () => {
    while (!(await values.next()).done);
  };
  await assert.rejects(within(ended(), "the end"), SocketLost);
});

/** Two servers, of which the second is where sockets go from now on, as the first one drains. */
async function draining(t, ms, options) {
  const scene = await real(t, { life: () => Infinity, ...options });
  const second = await start();
  t.after(() => second.kill());
  const drain = async () => {
    scene.way.aim(second.address);
    await scene.control("drain", { ms });
  };
  return { ...scene, drain };
}

test("bye: new calls get another socket, and the old ones come to their end on theirs", async (t) => {
  const { api, record, drain } = await draining(t, 60000);
  const input = (async function* () {
    yield 1;
    await eventually(() => record.sockets.length === 2, "a second socket");
    yield 2;
  })();
  const old = api.call.test.echo({}, { inputs: { input } }).values();
  assert.deepEqual(data(await read(old, 1)), [1]);
  await drain();
  await eventually(() => record.of("bye", "in").length === 1, "bye");
  const { values, error } = await within(all(api.call.test.ints({ count: 3 })), "a new call");
  assert.deepEqual([data(values), error, record.sockets.length], [[0, 1, 2], undefined, 2]);
  assert.deepEqual(data(await read(old, 1)), [2]);
  assert.equal((await within(old.next(), "the end")).done, true);
  await eventually(() => record.sockets[0].readyState === WebSocket.CLOSED, "the first socket is closed");
});

test("a drain that is over ends the calls as draining; with resume they go on elsewhere", async (t) => {
  const { api, drain } = await draining(t, 400);
  const ends = api.call.test.waits().values();
  const goesOn = api.call.long.numbersByCursor({ count: COUNT }, { resume: true }).events();
  await read(ends, 1);
  await read(goesOn, 10);
  await drain();
  const error = await within(ends.next(), "the end").catch((reason) => reason);
  assert.ok(error instanceof CallClosed, String(error));
  assert.deepEqual([error.why, error.again], ["draining", "now"]);
  const { event, next } = await happened(goesOn, 10);
  assert.ok(event instanceof Resumed && event.resumed.by === "cursor", JSON.stringify(event));
  assert.deepEqual(data(await read(goesOn, 1)), [next]);
  await goesOn.return();
});

both(
  "LG-17 and LG-18, for calls: a server that stops closes one socket, and several",
  async (t, { plain }) => {
    const { server, api } = await real(t, { plain });
    const others = await Promise.all([1, 2, 3].map(() => real(t, { plain })));
    for (const each of [{ server, api }, ...others]) {
      const waits = each.api.call.test.waits().values();
      await read(waits, 1);
      await each.server.stop();
      await assert.rejects(within(waits.next(), "the end"));
    }
  },
);

test("what is parked is not kept for ever: a client that goes away leaves nothing", async (t) => {
  const { api, control } = await real(t, { life: () => Infinity });
  const events = api.call.long.numbers({ count: COUNT }, { resume: true }).events();
  await read(events, 10);
  await events.return();
  await until(
    () => control("sockets"),
    (sockets) => sockets === 1,
    "the socket is closed",
  );
  assert.equal(await control("parked"), 0);
});
