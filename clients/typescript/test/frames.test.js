/** Texts to frames and back, without a socket. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { BadFrame, decode, encode, utf8Length } from "../src/frames.js";
import * as index from "../src/index.js";
import { bytesOf, byteData, wireValue } from "../src/values.js";

test("WM texts of many kinds give a frame or BadFrame, and nothing else", () => {
  const cid = "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11";
  const seeds = [
    { type: "msm", data: { en: "a", m: "b", cid, o: { className: "int", data: 1 }, k: "1" } },
    { type: "cmsc", data: { en: "a", m: "b", cid, cr: "error", why: { c: "gone", again: 5 } } },
    { type: "omsr", data: { en: "a", m: "b", cid, res: "success", x: { w: { a: 1 }, t: "t" } } },
    { type: "rsr", data: { calls: [{ cid, ok: true, t: "t", got: { a: 1 } }] } },
    { type: "bye", data: { within: 1, spread: 2 } },
  ].map((one) => JSON.stringify(one));
  const parts = ["null", "[]", "{}", "-1", "1e999", '"x"', "true", '"__proto__"', ""];
  let frames = 0;
  for (const seed of seeds) {
    decode(seed, true);
    for (let at = 0; at < seed.length; at += 1) {
      for (const part of parts) {
        for (const cut of [0, 1, 3, 9]) {
          try {
            decode(seed.slice(0, at) + part + seed.slice(at + cut), true);
            frames += 1;
          } catch (error) {
            assert.ok(error instanceof BadFrame, `${error.stack}`);
          }
        }
      }
    }
  }
  assert.ok(frames > 100);
});

test("WM-11 and WM-12 `am` and `auth` are written in their places, or not at all", () => {
  const open = { en: "a", m: "b", cid: "c", args: "{}", is: ["x"] };
  assert.equal(
    encode.omsc({ ...open, x: { w: 1 }, am: "cookie", auth: "Bearer a" }),
    '{"type":"omsc","data":{"en":"a","m":"b","cid":"c","args":"{}","is":["x"],' +
      '"auth":"Bearer a","am":"cookie","x":{"w":1}}}',
  );
  assert.ok(!encode.omsc(open).includes("a\":\"cookie"));
});

test("what the types declare is what there is", async () => {
  const types = await readFile(new URL("../src/index.d.ts", import.meta.url), "utf8");
  const declared = [...types.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(index).sort());
});

test("the length of a text as UTF-8", () => {
  for (const text of ["", "a", "ä", "€", "🦀", "a🦀ä€z"]) {
    assert.equal(utf8Length(text), new TextEncoder().encode(text).length, text);
  }
});

test("CL-41 bytes there and back, of many lengths", () => {
  for (const length of [0, 1, 2, 3, 8191, 8192, 8193, 20000]) {
    const bytes = Uint8Array.from({ length }, (_, at) => (at * 31) % 256);
    assert.deepEqual(bytesOf(byteData(bytes).data), bytes);
  }
  for (const text of [null, "", "AAEC", "decode('A', 'hex')", "decode('A'B', 'base64')"]) {
    assert.throws(() => bytesOf(text), TypeError);
  }
});

test("what has no class of its own is refused", () => {
  for (const value of [NaN, Infinity, {}, [], () => 1, Symbol("x"), { className: 1, data: 2 }]) {
    assert.throws(() => wireValue(value), TypeError);
  }
});
