/** Values of every type, there and back, at the project's own server. */
import assert from "node:assert/strict";
import { byteData, bytesOf, typed } from "../../src/index.js";
import { within } from "../support/eventually.js";
import { both, real } from "../support/real.js";
import { all, data } from "../support/scene.js";

/** Sends `values` to the echo of an endpoint and of a module's, and gives what comes back. */
async function echoed(t, { plain }, method, values) {
  const { api } = await real(t, { plain });
  const [own, modules] = await Promise.all(
    ["types", "module.types"].map((endpoint) =>
      within(all(api.call[endpoint][method]({}, { inputs: { input: values } })), "the echo"),
    ),
  );
  assert.deepEqual([own.error, modules.error], [undefined, undefined]);
  assert.deepEqual(own.values, modules.values);
  return own.values;
}

/** Models, lists and sets: what comes back is what was sent, class name and all. */
async function same(t, options, method, className, values) {
  const sent = values.map((value) => typed(className, value));
  assert.deepEqual(await echoed(t, options, method, sent), sent);
}

both("CL-36, CL-37, CL-38 and CL-39 numbers, truth and text", async (t, options) => {
  const ints = [0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  assert.deepEqual(data(await echoed(t, options, "int", ints)), ints);
  const doubles = [0.1, -1e300, Number.MIN_VALUE];
  assert.deepEqual(data(await echoed(t, options, "double", doubles)), doubles);
  assert.deepEqual(data(await echoed(t, options, "bool", [true, false])), [true, false]);
  const texts = ["", '"quoted" \\ \u{1F600}\u2028', "}}}", "\ud83d\ude00\u0000"];
  assert.deepEqual(data(await echoed(t, options, "string", texts)), texts);
});

both("null is a value of its own", async (t, options) => {
  const back = await echoed(t, options, "optionalInt", [1, null, 2]);
  assert.deepEqual(back, [typed("int", 1), typed("null", null), typed("int", 2)]);
});

both("CL-41 bytes", async (t, options) => {
  const bytes = [new Uint8Array([0, 255, 7]), new Uint8Array(0)];
  const back = await echoed(t, options, "byteData", bytes);
  assert.deepEqual(back, bytes.map(byteData));
  assert.deepEqual(
    back.map((value) => bytesOf(value.data)),
    bytes,
  );
});

both("CL-43, CL-44 and CL-45 UUID, Uri and BigInt", async (t, options) => {
  await same(t, options, "uuid", "UuidValue", ["6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11"]);
  const uri = new URL("https://example.org/a?b=c#d");
  assert.deepEqual(data(await echoed(t, options, "uri", [uri])), [uri.href]);
  const big = 123456789012345678901234567890n;
  assert.deepEqual(data(await echoed(t, options, "bigInt", [big])), [String(big)]);
});

both("times", async (t, options) => {
  const date = new Date("2026-01-02T03:04:05.678Z");
  const [back] = await echoed(t, options, "dateTime", [date]);
  assert.equal(new Date(back.data).getTime(), date.getTime());
  await same(t, options, "duration", "Duration", [1500]);
});

both("CL-9 lists of ints", (t, options) => same(t, options, "ints", "List<int>", [[1, 2], []]));

both("CL-10 optional lists of models", async (t, options) => {
  const sent = [typed("List<SimpleData>?", [{ num: 1 }]), typed("null", null)];
  assert.deepEqual(await echoed(t, options, "optionalModels", sent), sent);
});

both("CL-11 lists of optional models", (t, options) =>
  same(t, options, "modelsOptional", "List<SimpleData?>", [[{ num: 1 }, null]]),
);

both("CL-12 lists of another module's type", (t, options) =>
  same(t, options, "moduleModels", "List<module.ModuleData>", [[{ name: "a" }]]),
);

both("CL-13 lists of models", (t, options) =>
  same(t, options, "models", "List<SimpleData>", [[{ num: 1 }, { num: 2 }]]),
);

both("CL-15 and CL-16 sets of models, and sets within lists", async (t, options) => {
  await same(t, options, "modelSet", "Set<SimpleData>", [[{ num: 1 }, { num: 2 }]]);
  await same(t, options, "sets", "List<Set<int>>", [[[1, 2], [3]]]);
});

both(
  "CL-47, CL-48 and CL-57 models, and models of a module, at an endpoint of a module",
  async (t, options) => {
    await same(t, options, "model", "SimpleData", [{ num: 1 }]);
    await same(t, options, "moduleModel", "module.ModuleData", [{ name: "a" }]);
  },
);
