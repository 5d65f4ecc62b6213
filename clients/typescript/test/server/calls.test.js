/** Calls of methods of every shape, at the project's own server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallClosed, CallRefused, Input, StreamFault, typed } from "../../src/index.js";
import { eventually, within } from "../support/eventually.js";
import { both, real, until } from "../support/real.js";
import { all, data, read } from "../support/scene.js";

const whole = (stream) => within(all(stream), "the end of a call");
const values = async (stream) => {
  const { values, error } = await whole(stream);
  assert.equal(error, undefined);
  return data(values);
};
const upTo = (n) => Array.from({ length: n }, (_, at) => at);

/** The error of a call that has to fail, and what it gave before. */
async function failure(stream) {
  const { values, error } = await whole(stream);
  assert.ok(error, "it did not fail");
  return { values: data(values), error };
}

function untyped(error) {
  assert.ok(error instanceof CallClosed, String(error));
  assert.ok(error.why === undefined || error.why === "internal", error.why);
}

both("CL-1 many calls in quick succession all finish", async (t, { plain }) => {
  const { api, record } = await real(t, { plain });
  const found = await Promise.all(upTo(100).map((count) => values(api.call.test.ints({ count }))));
  found.forEach((ints, count) => assert.deepEqual(ints, upTo(count)));
  for (let n = 0; n < 100; n += 1) assert.deepEqual(await values(api.call.test.ints({ count: 1 })), [0]);
  assert.equal(record.sockets.length, 1);
});

both("CL-3 and CL-4 as many ints as the argument says, within any window", async (t, { plain }) => {
  for (const window of [1, 2, 3, 64]) {
    const { api } = await real(t, { plain, window });
    assert.deepEqual(await values(api.call.test.ints({ count: 1000 })), upTo(1000));
  }
});

both("CL-6 a typed failure arrives typed, after the value before it", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  const { values, error } = await failure(api.call.test.failsTyped());
  assert.deepEqual(values, [1]);
  assert.ok(error instanceof StreamFault, String(error));
  assert.deepEqual([error.className, error.data], ["NoSuchThing", { what: "two" }]);
});

both("CL-7, CL-19 and CL-21 an untyped failure is an error without its text", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  untyped((await failure(api.call.test.failsFirst())).error);
  untyped((await failure(api.call.test.singleFails({}, { inputs: { input: new Input() } }))).error);
  untyped((await failure(api.call.test.void({}, { inputs: { input: [2] } }))).error);
});

both("CL-17 and CL-22 single and void methods", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  const first = await within(api.call.test.first({}, { inputs: { input: [5, 6] } }).then(), "a result");
  assert.deepEqual(first, { className: "int", data: 5 });
  const nothing = await within(api.call.test.void({}, { inputs: { input: [3] } }).then(), "an end");
  assert.equal(nothing, undefined);
  const { error } = await failure(api.call.test.void({}, { inputs: { input: [1] } }));
  assert.deepEqual([error.className, error.data], ["NoSuchThing", { what: "one" }]);
});

test("a method without streams is for clients of the extension", async (t) => {
  const { api } = await real(t);
  assert.equal((await within(api.call.test.same({ count: 7 }).then(), "a result")).data, 7);
  const plain = (await real(t, { plain: true })).api;
  const { error } = await failure(plain.call.test.same({ count: 7 }));
  assert.deepEqual([error instanceof CallRefused, error.res], [true, "endpointNotFound"]);
});

both("CL-23 and CL-24 an input comes back, of whatever classes", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  const sent = upTo(500).map((n) => [n, `}}}"${n}`, n % 4 === 0, typed("SimpleData", { num: n })][n % 4]);
  const { values: back, error } = await whole(api.call.test.echo({}, { inputs: { input: sent } }));
  assert.equal(error, undefined);
  assert.deepEqual(
    data(back),
    sent.map((value) => value.data ?? value),
  );
  assert.deepEqual(
    back.slice(0, 4).map((value) => value.className),
    ["int", "String", "bool", "SimpleData"],
  );
});

both("CL-26 two inputs", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  const [a, b] = [upTo(100), upTo(100).map((n) => n + 100)];
  const back = await values(api.call.test.union({}, { inputs: { a, b } }));
  assert.deepEqual(
    back.sort((x, y) => x - y),
    upTo(200),
  );
});

both("CL-28 a failure of an input is seen by the server, typed or not", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  async function* fails(error) {
    yield 1;
    throw error;
  }
  const seen = async (error) =>
    (await values(api.call.test.listens({}, { inputs: { input: fails(error) } })))[0];
  assert.equal(await seen(new Error("a secret of the client")), "1 failed");
  assert.equal(await seen(new StreamFault("NoSuchThing", { what: "two" })), "1 no two failed");
});

both("CL-30 one call finished, another still transmits", async (t, { plain }) => {
  const { api, record } = await real(t, { plain });
  const input = new Input();
  const echo = api.call.test.echo({}, { inputs: { input } }).values();
  input.send(1);
  assert.deepEqual(data(await read(echo, 1)), [1]);
  assert.deepEqual(await values(api.call.test.ints({ count: 3 })), [0, 1, 2]);
  input.send(2);
  input.end();
  assert.deepEqual(data(await read(echo, 1)), [2]);
  assert.equal((await within(echo.next(), "the end")).done, true);
  assert.equal(record.sockets.length, 1);
});

both("CL-49 a source that fails at its start fails the call", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  const wrong = new TypeError("there is no source");
  const source = {
    [Symbol.asyncIterator]() {
      throw wrong;
    },
  };
  assert.equal((await failure(api.call.test.echo({}, { inputs: { input: source } }))).error, wrong);
  assert.deepEqual(await values(api.call.test.ints({ count: 1 })), [0]);
});

both(
  "CL-65 a reader that stops sends a close, and the method ends with its session",
  async (t, { plain }) => {
    const { api, record, control } = await real(t, { plain });
    for await (const value of api.call.test.waits()) {
      assert.equal(value.data, 1);
      break;
    }
    assert.equal(record.of("cmsc", "out")[0].data.cr, "done");
    await until(
      () => control("notes"),
      (notes) => notes.includes("waits dropped"),
      "the method ends",
    );
    await until(
      () => control("notes"),
      (notes) => notes.includes("waits session over"),
      "the session ends",
    );
    assert.deepEqual(record.of("cmsc", "in"), [], "a cancel is not echoed");
  },
);

both(
  "an input that the method wants no more of is told to stop, and the call goes on",
  async (t, { plain }) => {
    const { api } = await real(t, { plain });
    let stopped = false;
    async function* numbers() {
      try {
        for (let n = 0; ; n += 1) {
          yield n;
          await new Promise(setImmediate);
        }
      } finally {
        stopped = true;
      }
    }
    const taken = api.call.test.takes({ count: 3 }, { inputs: { input: numbers() } }).values();
    assert.deepEqual(data(await read(taken, 4)), [0, 1, 2, -1]);
    await eventually(() => stopped, "the source is stopped");
    await taken.return();
  },
);

both("what a call may be refused for", async (t, { plain }) => {
  const { api } = await real(t, { plain });
  const res = async (stream) => (await failure(stream)).error.res;
  assert.equal(await res(api.call.nowhere.ints()), "endpointNotFound");
  assert.equal(await res(api.call.test.nothing()), "endpointNotFound");
  assert.equal(await res(api.call.test.ints()), "invalidArguments");
  assert.equal(await res(api.call.test.ints({ count: "many" })), "invalidArguments");
  assert.equal(await res(api.call.test.echo()), "invalidArguments", "an input is missing");
  for (const name of ["__proto__", "constructor", "toString"]) {
    assert.equal(await res(api.open(name, name)), "endpointNotFound");
  }
});

test("a deadline ends the call at the server, too", async (t) => {
  const { api, control } = await real(t);
  const { values, error } = await failure(api.call.test.waits({}, { deadline: 200 }));
  assert.deepEqual([values, error.why, error.again], [[1], "deadline", "never"]);
  await until(
    () => control("notes"),
    (notes) => notes.includes("waits dropped"),
    "the method ends",
  );
});
