/** Who calls, and signing out, at the project's own server. A token there is `user/id/scope/milliseconds`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallClosed, CallRefused, Input, Restarted } from "../../src/index.js";
import { within } from "../support/eventually.js";
import { both, real, until } from "../support/real.js";
import { all, data, read } from "../support/scene.js";

const who = async (api, options) => {
  const { values, error } = await within(all(api.call.private.who({}, options)), "the end of a call");
  return error === undefined ? data(values)[0] : error.res;
};
const isRefused = (res) => (error) => error instanceof CallRefused && error.res === res;

/** The calls of a socket, each as somebody else. All have given a value. */
async function callsOf(t, { plain, endpoint = "private" }, tokens) {
  let token;
  const scene = await real(t, { plain, credentials: () => `Bearer ${token}` });
  const calls = [];
  for (token of tokens) {
    const values = scene.api.call[endpoint].waits().values();
    await read(values, 1);
    calls.push(values);
  }
  assert.equal(scene.record.sockets.length, 1, "they share a socket");
  return { ...scene, calls };
}

/** That a call ends as a sign-out ends it. */
async function ended(values, plain, why = "revoked") {
  const error = await within(values.next(), "the end").then(
    () => assert.fail("it goes on"),
    (reason) => reason,
  );
  assert.ok(error instanceof CallClosed, String(error));
  assert.deepEqual([error.why, error.again], plain ? [undefined, undefined] : [why, "signin"]);
}

/** That calls are open: the answer to a later call would come behind their ends. */
async function goOn(api, calls) {
  const next = calls.map((values) =>
    values.next().then(
      () => "ended",
      () => "ended",
    ),
  );
  await within(all(api.call.test.ints({ count: 3 })), "another call");
  assert.equal(await Promise.race([...next, Promise.resolve("open")]), "open");
}

both(
  "CL-51, CL-52, CL-54 and CL-55 a call marked anonymous sends no credentials, others do",
  async (t, { plain }) => {
    const { api, record } = await real(t, { plain, credentials: "Bearer anna/a1" });
    assert.equal(await who(api), "anna/a1");
    assert.equal(await who(api, { anonymous: true }), "authenticationFailed");
    assert.equal(await who(api), "anna/a1");
    const shown = record.of("omsc").map((frame) => frame.data.auth);
    assert.deepEqual(shown, ["Bearer anna/a1", undefined, "Bearer anna/a1"]);
  },
);

both("CL-75 there are no credentials in the URL", async (t, { plain }) => {
  const { api, control } = await real(t, { plain, credentials: "Bearer anna/a1" });
  assert.equal(await who(api), "anna/a1");
  assert.deepEqual(await control("notes"), ["asked at /v1/websocket"]);
});

both(
  "CL-77, CL-78, CL-80 and CL-82 one refresh and one retry, and only where that can help",
  async (t, { plain }) => {
    const counted = async (source, call = who) => {
      const { api, record } = await real(t, { plain, credentials: source });
      return [await call(api), record.of("omsc").length];
    };
    const refused = "authenticationFailed";
    assert.deepEqual(await counted("Bearer nobody"), [refused, 1], "it cannot refresh");
    assert.deepEqual(await counted({ get: () => "Bearer anna/a1", refresh: () => true }), ["anna/a1", 1]);
    let token = "nobody";
    const source = {
      get: () => `Bearer ${token}`,
      refresh: () => {
        token = "anna/a2";
        return true;
      },
    };
    assert.deepEqual(await counted(source), ["anna/a2", 2]);
    assert.deepEqual(await counted({ get: () => "Bearer nobody", refresh: () => false }), [refused, 1]);
    const admin = async (api) => (await within(all(api.call.admin.who()), "a refusal")).error.res;
    const refreshes = { get: () => "Bearer anna/a1", refresh: () => assert.fail("it was asked") };
    assert.deepEqual(await counted(refreshes, admin), ["authorizationDeclined", 1]);
  },
);

both("WS-81 a credential of no known form is refused", async (t, { plain }) => {
  const { api } = await real(t, { plain, credentials: "anna" });
  assert.equal(await who(api), "authenticationFailed");
});

both("WM-11 and WM-12 cookies of the upgrade, where the client says so", async (t, { plain }) => {
  const headers = { cookie: "other=1; token=anna/c1" };
  const { api, record } = await real(t, { plain, headers, cookies: true });
  assert.equal(await who(api), "anna/c1");
  assert.equal(record.of("omsc")[0].data.am, "cookie");
  const without = await real(t, { plain, headers });
  assert.equal(await who(without.api), "authenticationFailed");
  assert.equal("am" in without.record.of("omsc")[0].data, false);
});

both("LG-8 and LG-9, for methods: a scope that is missing, and that is there", async (t, { plain }) => {
  const has = await real(t, { plain, credentials: "Bearer anna/a1/admin" });
  assert.deepEqual(data((await within(all(has.api.call.admin.who()), "who")).values), ["anna/a1"]);
  const lacks = await real(t, { plain, credentials: "Bearer anna/a1/other" });
  await assert.rejects(
    within(lacks.api.call.admin.who().then(), "a refusal"),
    isRefused("authorizationDeclined"),
  );
});

both("a sign-out ends the calls of that authentication alone, and says to sign in", async (t, { plain }) => {
  const { api, control, calls } = await callsOf(t, { plain }, ["anna/a1", "anna/a2", "berta/b1"]);
  const open = api.call.test.waits({}, { anonymous: true }).values();
  await read(open, 1);
  const [a1, a2, b1] = calls;
  await control("revoke", { user: "anna", authId: "a1" });
  await ended(a1, plain);
  await goOn(api, [a2, b1, open]);
});

both("signing out everywhere ends all calls of the user, and of nobody else", async (t, { plain }) => {
  const { api, control, calls } = await callsOf(t, { plain }, ["anna/a1", "anna/a2", "berta/b1"]);
  const [a1, a2, b1] = calls;
  await control("revoke", { user: "anna" });
  await ended(a1, plain);
  await ended(a2, plain);
  await goOn(api, [b1]);
});

both("a scope that is taken back ends the calls that require it", async (t, { plain }) => {
  const { control, calls } = await callsOf(t, { plain, endpoint: "admin" }, ["anna/a1/admin"]);
  await control("revoke", { user: "anna", scope: "other" });
  await control("revoke", { user: "anna", scope: "admin" });
  await ended(calls[0], plain);
});

both("an authentication that expires ends its calls", async (t, { plain }) => {
  const { calls } = await callsOf(t, { plain }, ["anna/a1//700"]);
  await ended(calls[0], plain, "expired");
});

test("a call with resume does not go on after a sign-out", async (t) => {
  const { api, control } = await real(t, { credentials: "Bearer anna/a1" });
  const input = new Input();
  const values = api.call.private.echo({}, { resume: true, inputs: { input } }).values();
  input.send(1);
  await read(values, 1);
  await control("revoke", { user: "anna" });
  await ended(values, false);
  assert.equal(input.open, false);
});

test("a parked call is hit by a sign-out: it is not resumed, and begins anew", async (t) => {
  const { api, way, control } = await real(t, { life: () => Infinity, credentials: "Bearer anna/a1" });
  const input = new Input();
  const events = api.call.private.echo({}, { resume: true, inputs: { input } }).events();
  input.send(1);
  await read(events, 1);
  way.aim(null);
  way.cut();
  const parked = (count) =>
    until(
      () => control("parked"),
      (found) => found === count,
      `${count} are parked`,
    );
  await parked(1);
  await control("revoke", { user: "anna" });
  await parked(0);
  way.aim(way.target);
  assert.ok((await read(events, 1))[0] instanceof Restarted);
  input.send(2);
  assert.deepEqual(data(await read(events, 1)), [2]);
  await events.return();
});

test("new credentials keep the calls of their user open, and end those of another", async (t) => {
  let token = "anna/a1//1500";
  const { api, record } = await real(t, { credentials: () => `Bearer ${token}` });
  const input = new Input();
  const values = api.call.private.echo({}, { inputs: { input } }).values();
  input.send(1);
  await read(values, 1);
  token = "anna/a1//60000";
  const answer = await within(api.refreshCredentials(), "the answer");
  assert.equal(answer.res, "success");
  assert.ok(answer.until > Date.now() + 50000, `until ${answer.until}`);
  // Longer than the first ones were good for: the clock of the server is what is tested.
  await new Promise((resolve) => setTimeout(resolve, 1800));
  input.send(2);
  assert.deepEqual(data(await read(values, 1)), [2]);
  token = "nobody";
  assert.equal((await within(api.refreshCredentials(), "the answer")).res, "authenticationFailed");
  input.send(3);
  assert.deepEqual(data(await read(values, 1)), [3]);
  token = "berta/b1";
  assert.equal((await within(api.refreshCredentials(), "the answer")).res, "success");
  await ended(values, false, "identity");
  assert.equal(record.sockets.length, 1);
});
