/** Windows and gaps, at the project's own server: never exceeded, in order, whatever the reader does. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Gap, StreamFault } from "../../src/index.js";
import { seeded } from "../support/dice.js";
import { within } from "../support/eventually.js";
import { both, real } from "../support/real.js";
import { read } from "../support/scene.js";

const COUNT = 100_000;

const turn = () => new Promise(setImmediate);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Sometimes takes a turn, and now and then a while, as an application does. */
async function dawdle(roll) {
  const drawn = roll(1000);
  if (drawn === 0) await pause(roll(4));
  else if (drawn < 50) await turn();
}

async function* numbers(count, roll) {
  for (let n = 0; n < count; n += 1) {
    await dawdle(roll);
    yield n;
  }
}

/** Reads all values of a call, which have to be 0, 1, 2 and so on. */
async function inOrder(stream, roll) {
  let next = 0;
  for await (const { data } of stream) {
    if (data !== next) assert.fail(`${data} in place of ${next}`);
    next += 1;
    await dawdle(roll);
  }
  return next;
}

// With a small window each value costs a way there and back.
for (const [window, count] of [
  [1, COUNT / 20],
  [7, COUNT / 5],
  [64, COUNT],
]) {
  test(`${count} values both ways within a window of ${window}, read at random`, async (t) => {
    const roll = seeded(t);
    const { api, record } = await real(t, { window });
    const input = numbers(count, roll);
    assert.equal(await inOrder(api.call.long.echo({}, { inputs: { input } }), roll), count);
    t.diagnostic(`at most ${record.most()} ahead at the server, and ${record.most("input")} here`);
    // The check of each frame is the record's. Here: that the windows were used at all.
    assert.ok(record.most() >= Math.min(window, 4) && record.most("input") >= 4);
  });
}

both("as many values each way, read at random", async (t, { plain }) => {
  const roll = seeded(t);
  // Without windows the client keeps 65,536 values, and no more.
  const count = plain ? 50_000 : COUNT;
  const { api } = await real(t, { plain });
  const [found, counted] = await Promise.all([
    inOrder(api.call.long.numbers({ count }), roll),
    api.call.long.count({}, { inputs: { input: numbers(count, roll) } }),
  ]);
  assert.deepEqual([found, counted.data], [count, count]);
});

test("a reader that has stopped makes the server wait at the window, and its neighbours go on", async (t) => {
  const { api, record } = await real(t, { window: 16 });
  const stopped = api.call.long.numbers({ count: 1000 }).values();
  assert.equal((await read(stopped, 1))[0].data, 0);
  for (let n = 0; n < 20; n += 1) {
    assert.equal(await inOrder(api.call.test.ints({ count: 100 }), () => 999), 100);
  }
  const cid = record.of("omsc")[0].data.cid;
  const arrived = record.of("msm", "in").filter((frame) => frame.data.cid === cid).length;
  assert.ok(arrived <= 17, `${arrived} values arrived`);
  let next = 1;
  for await (const { data } of stopped) assert.equal(data, next++);
  assert.equal(next, 1000);
});

test("a slow reader finds a gap in its place, and it says how many are missing", async (t) => {
  const { api, control } = await real(t, { window: 4 });
  const events = api.call.long.relay().events();
  assert.equal((await read(events, 1))[0].data.number, -1);
  const total = 10_000;
  await control("post", { from: 0, to: total });
  let next = 0;
  let gaps = 0;
  while (next < total) {
    const [event] = await read(events, 1);
    if (event instanceof Gap) {
      gaps += 1;
      assert.equal(event.gap.c, "overflow");
      next += event.gap.n;
    } else {
      assert.equal(event.data.number, next);
      next += 1;
    }
  }
  assert.equal(next, total);
  assert.ok(gaps >= 1, "there was no gap");
  await events.return();
});

test("a client that knows no gaps gets a fault in its place", async (t) => {
  const { api, control } = await real(t, { plain: true });
  const values = api.call.long.relay().values();
  assert.equal((await read(values, 1))[0].data.number, -1);
  const until = async () => {
    for (;;) await values.next();
  };
  const failing = within(until(), "the fault");
  // In one turn of the server: its method has none of it before all of it was posted.
  const posting = (async () => {
    for (let round = 0; round < 200; round += 1) await control("post", { from: 0, to: 2000 });
  })();
  const error = await failing.then(
    () => assert.fail("it ended"),
    (reason) => reason,
  );
  await posting;
  assert.ok(error instanceof StreamFault, String(error));
  assert.equal(error.className, "BrokerGap");
  assert.ok(error.data.missed > 0 && error.data.cause === "overflow");
});
