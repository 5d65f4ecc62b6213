/** What is taken from the platform: its timers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { platform } from "../src/platform.js";

// What a timer of a browser or of Node can wait; a longer one goes off at once.
const LONGEST = 2 ** 31 - 1;

test("a wait that is longer than a timer can be is made of several", (t) => {
  const timers = [];
  t.mock.method(globalThis, "setTimeout", (run, ms) => timers.push({ run, ms }));
  const cleared = t.mock.method(globalThis, "clearTimeout", () => {});
  const { setTimeout, clearTimeout } = platform(class {});
  let count = 0;
  const timer = setTimeout(() => {
    count += 1;
  }, 2 ** 33);
  let waited = 0;
  while (timers.length > 0) {
    assert.equal(count, 0, `it went off after ${waited} ms`);
    const { run, ms } = timers.shift();
    assert.ok(ms <= LONGEST, `a timer of ${ms} ms`);
    waited += ms;
    run();
  }
  assert.deepEqual([count, waited], [1, 2 ** 33]);
  // Whichever of them runs is stopped.
  clearTimeout(timer);
  clearTimeout(undefined);
  assert.equal(cleared.mock.calls[0].arguments[0], 1);
});

test("a short wait is one timer", (t) => {
  t.mock.method(globalThis, "setTimeout", (run, ms) => ({ run, ms }));
  const cleared = t.mock.method(globalThis, "clearTimeout", () => {});
  const { setTimeout, clearTimeout } = platform(class {});
  clearTimeout(setTimeout(() => {}, 20));
  assert.equal(cleared.mock.calls[0].arguments[0].ms, 20);
});
