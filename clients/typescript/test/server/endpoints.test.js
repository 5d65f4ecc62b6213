/** The legacy streaming endpoints, at the project's own server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ReconnectingEndpoints, StreamingEndpoints } from "../../src/index.js";
import { Clock } from "../support/clock.js";
import { eventually, within } from "../support/eventually.js";
import { start } from "../support/process.js";
import { real, until } from "../support/real.js";
import { data, read } from "../support/scene.js";

/** A connection that is open, unless `open` is false; and what the server has noted. */
async function legacy(t, { key, flags, open = true, testing } = {}) {
  const { server, control } = await real(t, { flags });
  const endpoints = new StreamingEndpoints(server.endpoints, { key, testing });
  t.after(() => endpoints.closeStreamingConnection());
  const noted = (note) =>
    until(
      () => control("notes"),
      (notes) => notes.includes(note),
      note,
    );
  const of = (name) => {
    const values = endpoints.stream(name);
    const says = (value) => endpoints.sendStreamMessage(name, value);
    return { says, hears: async (n = 1) => data(await read(values, n)), next: () => values.next() };
  };
  if (open) await within(endpoints.openStreamingConnection(), "a connection");
  return { server, control, endpoints, of, noted };
}

/** What is sent to an endpoint is ignored: what is sent behind it is answered, and nothing before that. */
async function ignored(of, name) {
  const [it, open] = [of(name), of("streaming")];
  let heard = false;
  it.next().then((item) => (heard = !item.done));
  it.says(1);
  open.says(2);
  assert.deepEqual(await open.hears(), [2]);
  assert.equal(heard, false);
}

async function echoes(of, name) {
  const it = of(name);
  for (const n of [1, 2, 3]) it.says(n);
  assert.deepEqual(await it.hears(3), [1, 2, 3]);
}

async function who(of) {
  const it = of("streaming");
  it.says("who");
  return (await it.hears())[0];
}

test("LG-1, LG-3 and LG-14 objects echoed in order, by an endpoint and by a module's", async (t) => {
  const { of } = await legacy(t);
  const [own, modules] = [of("streaming"), of("module.streaming")];
  for (const n of [1, 2, 3]) {
    own.says(n);
    modules.says(n * 10);
  }
  assert.deepEqual(await own.hears(3), [1, 2, 3]);
  assert.deepEqual(await modules.hears(3), [10, 20, 30]);
});

test("LG-5, LG-6, LG-12 and LG-20 not signed in: ignored; signed in, reconnected: echoed", async (t) => {
  let key;
  const { endpoints, of } = await legacy(t, { key: () => key });
  await ignored(of, "login");
  endpoints.closeStreamingConnection();
  key = "anna/a1";
  await within(endpoints.openStreamingConnection(), "a connection");
  await echoes(of, "login");
  assert.equal(await who(of), "anna");
});

test("a live connection signs in, and out again", async (t) => {
  let key;
  const { endpoints, of } = await legacy(t, { key: () => key });
  assert.equal(await who(of), null);
  key = "anna/a1";
  await endpoints.updateKey();
  await echoes(of, "login");
  key = null;
  await endpoints.updateKey();
  await ignored(of, "login");
  assert.equal(await who(of), null);
});

test("LG-8 and LG-9 a scope that is missing: ignored; with it: processed", async (t) => {
  const lacks = await legacy(t, { key: "anna/a1/other" });
  await ignored(lacks.of, "scoped");
  const has = await legacy(t, { key: "anna/a1/admin" });
  await echoes(has.of, "scoped");
});

test("LG-11 and LG-15 the server knows when a connection is opened, and when it is closed", async (t) => {
  const { endpoints, control, of, noted } = await legacy(t);
  for (const name of ["streaming", "module.streaming"]) await noted(`${name} opened`);
  assert.ok(!(await control("notes")).includes("login opened"));
  const ended = of("streaming").next();
  endpoints.closeStreamingConnection();
  assert.equal((await within(ended, "the end")).done, true);
  for (const name of ["streaming", "module.streaming"]) await noted(`${name} closed`);
});

test("LG-17 and LG-18 a server that stops closes one connection, and several", async (t) => {
  const { server, control } = await real(t);
  const lost = [];
  for (let n = 0; n < 3; n += 1) {
    const endpoints = new StreamingEndpoints(server.endpoints);
    endpoints.addStatusListener((status, error) => lost.push([n, status, error?.name]));
    await within(endpoints.openStreamingConnection(), "a connection");
  }
  assert.equal(await control("sockets"), 4);
  await server.stop();
  await eventually(() => lost.filter(([, , name]) => name === "SocketLost").length === 3, "three losses");
});

test("LG-21 and LG-23 an invalid key: not authenticated, also after messages", async (t) => {
  const { of } = await legacy(t, { key: "nobody" });
  assert.equal(await who(of), null);
  await echoes(of, "streaming");
  assert.equal(await who(of), null);
});

test("LG-37 a server without an authenticator: nobody is authenticated", async (t) => {
  const { of } = await legacy(t, { key: "anna/a1", flags: ["--no-authenticator"] });
  assert.equal(await who(of), null);
  await ignored(of, "login");
});

test("a message that fails at the server leaves the connection alone, and its text there", async (t) => {
  const { of } = await legacy(t);
  const it = of("streaming");
  it.says("fail");
  it.says("count");
  assert.deepEqual(await it.hears(), [2]);
});

test("a sign-out cuts the connection of that user", async (t) => {
  const anna = await legacy(t, { key: "anna/a1" });
  const berta = new StreamingEndpoints(anna.server.endpoints, { key: "berta/b1" });
  t.after(() => berta.closeStreamingConnection());
  await within(berta.openStreamingConnection(), "a connection");
  await anna.control("revoke", { user: "anna" });
  await eventually(() => anna.endpoints.status === "disconnected", "anna is disconnected");
  assert.equal(berta.status, "connected");
});

test("a connection that is lost is made again after 5 s, to a server that was started again", async (t) => {
  const clock = new Clock();
  const { server, endpoints, of } = await legacy(t, { open: false, testing: clock.testing });
  const told = [];
  const keeps = new ReconnectingEndpoints(endpoints, (one) => told.push(one), { testing: clock.testing });
  t.after(() => keeps.close());
  keeps.connect();
  await eventually(() => endpoints.status === "connected", "a connection");
  await echoes(of, "streaming");
  await server.kill();
  await eventually(() => told.some((one) => one.retryInSeconds === 5), "a wait");
  const again = await start(server.address);
  t.after(() => again.kill());
  for (let second = 0; second < 5; second += 1) clock.advance(1000);
  await eventually(() => endpoints.status === "connected", "another connection");
  assert.deepEqual(told.map((one) => one.retryInSeconds).filter(Boolean), [5, 4, 3, 2, 1]);
  await echoes(of, "streaming");
});
