/** Connections that are cut at random frames, at the project's own server: nothing is lost or doubled. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Input, Restarted, Resumed } from "../../src/index.js";
import { seeded } from "../support/dice.js";
import { eventually, within } from "../support/eventually.js";
import { proxy } from "../support/proxy.js";
import { real } from "../support/real.js";
import { read } from "../support/scene.js";

/** A connection that lives until the test cuts it. */
const life = () => Infinity;

async function* numbers(count) {
  for (let n = 0; n < count; n += 1) yield n;
}

/** Reads a call to its end: 0, 1, 2 and so on, whatever happens between. Gives how often it was resumed. */
async function exact(stream, count, roll) {
  let next = 0;
  let resumed = 0;
  for await (const event of stream.events()) {
    // Longer than it takes to connect again: what is here and not read comes once more then.
    if (roll(100) === 0) await new Promise((resolve) => setTimeout(resolve, 30));
    if (event instanceof Resumed) {
      assert.equal(event.resumed.by, "exact");
      resumed += 1;
    } else if (event.data === next) {
      next += 1;
    } else {
      assert.fail(`${JSON.stringify(event)} in place of ${next}`);
    }
  }
  assert.equal(next, count);
  return resumed;
}

test("several hundred cuts: calls with streams both ways go on exactly", async (t) => {
  const count = 5000;
  const roll = seeded(t);
  const { api, way } = await real(t, { life: () => 1 + roll(80), window: 16 });
  const [both, out, counted] = await Promise.all([
    exact(api.call.long.echo({}, { resume: true, inputs: { input: numbers(count) } }), count, roll),
    exact(api.call.long.numbers({ count }, { resume: true }), count, roll),
    api.call.long.count({}, { resume: true, inputs: { input: numbers(count) } }),
  ]);
  t.diagnostic(`${way.cuts} cuts, ${way.accepted} connections; resumed ${both} and ${out} times`);
  assert.equal(counted.data, count);
  assert.ok(way.cuts >= 300 && both >= 50 && out >= 50, `${way.cuts} cuts, resumed ${both} and ${out} times`);
});

test("a call goes on by its cursor over cuts, without a loss", async (t) => {
  const count = 5000;
  const roll = seeded(t);
  const { api, way } = await real(t, { life: () => 20 + roll(300) });
  let next = 0;
  let resumed = 0;
  for await (const event of api.call.long.numbersByCursor({ count }, { resume: true }).events()) {
    if (event instanceof Resumed) {
      assert.equal(event.resumed.by, "cursor");
      resumed += 1;
    } else {
      assert.equal(event.data, next);
      next += 1;
    }
  }
  t.diagnostic(`${way.cuts} cuts, resumed ${resumed} times`);
  assert.equal(next, count);
  assert.ok(resumed >= 10, `resumed ${resumed} times`);
});

test("a call without a cursor begins anew, and says so before the first value", async (t) => {
  const { api, way } = await real(t, { life });
  const events = api.call.long.numbersAnew({ count: 1e9 }, { resume: true }).events();
  for (let round = 0; round < 5; round += 1) {
    assert.deepEqual(
      (await read(events, 3)).map((event) => event.data),
      [0, 1, 2],
    );
    way.cut();
    let event;
    let next = 3;
    while (!((event = (await read(events, 1))[0]) instanceof Restarted)) assert.equal(event.data, next++);
  }
  await events.return();
});

test("an idle call is resumed before it has given a value, and again and again", async (t) => {
  const { api, way } = await real(t, { life });
  const input = new Input();
  const events = api.call.long.echo({}, { resume: true, inputs: { input } }).events();
  await eventually(() => api.status.current.state === "connected");
  // Open, and known to be: the answer to a later call comes behind it.
  await api.call.test.same({ count: 1 });
  for (let round = 0; round < 20; round += 1) {
    way.cut();
    const [event] = await read(events, 1);
    assert.ok(event instanceof Resumed && event.resumed.by === "exact", JSON.stringify(event));
  }
  input.send(7);
  assert.equal((await read(events, 1))[0].data, 7);
  await events.return();
});

test("a call of another user is not resumed: it begins anew", async (t) => {
  let token = "Bearer anna";
  const { api, way } = await real(t, { life, credentials: () => token });
  const input = new Input();
  const events = api.call.private.echo({}, { resume: true, inputs: { input } }).events();
  input.send(1);
  assert.equal((await read(events, 1))[0].data, 1);
  way.cut();
  assert.ok((await read(events, 1))[0] instanceof Resumed);
  token = "Bearer berta";
  way.cut();
  assert.ok((await read(events, 1))[0] instanceof Restarted);
  input.send(2);
  assert.equal((await read(events, 1))[0].data, 2);
  await events.return();
});

test("a half-open connection is found out by a ping, and the call goes on exactly", async (t) => {
  const options = { pingInterval: 200, idleTimeout: 500 };
  const { api, way } = await real(t, { life, ...options });
  const input = new Input();
  const events = api.call.long.echo({}, { resume: true, inputs: { input } }).events();
  input.send(1);
  assert.equal((await read(events, 1))[0].data, 1);
  const before = way.accepted;
  way.stall();
  input.send(2);
  await eventually(() => way.accepted > before, "another connection");
  const found = await within(read(events, 2), "what follows");
  assert.deepEqual([found[0] instanceof Resumed, found[1].data], [true, 2]);
  await events.return();
});
