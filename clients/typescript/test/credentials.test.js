/** Credentials: asked for at every attempt, refreshed once, never where they do not belong. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallRefused, ConnectFailed } from "../src/index.js";
import { all, scene } from "./support/scene.js";
import { eventually, within } from "./support/eventually.js";
import { X1 } from "./support/server.js";

/** Refuses `answers` calls with `res`, and gives the credentials that were sent. */
async function refused(server, res, answers) {
  const peer = await server.peer();
  const sent = [];
  for (let n = 0; n < answers; n += 1) {
    const open = await peer.next("omsc");
    sent.push(open.auth);
    peer.refuse(open, res);
  }
  return { peer, sent };
}

test("CL-51 and CL-52 a call marked anonymous sends no credentials; the provider is not asked", async (t) => {
  let asked = 0;
  const credentials = () => {
    asked += 1;
    return "Bearer a";
  };
  const { server, api } = await scene(t, { credentials });
  const reading = all(api.call.a.b({}, { anonymous: true }));
  const peer = await server.peer();
  const open = await peer.opened();
  assert.equal("auth" in open, false);
  assert.equal(asked, 0);
  peer.end(open);
  await reading;
});

test("CL-54 ... a protected endpoint then answers authenticationFailed: no refresh", async (t) => {
  let refreshed = 0;
  const credentials = { get: () => "Bearer a", refresh: () => ((refreshed += 1), true) };
  const { server, api } = await scene(t, { credentials });
  const reading = all(api.call.a.b({}, { anonymous: true }));
  await refused(server, "authenticationFailed", 1);
  const { error } = await within(reading, "the refusal");
  assert.equal(error.res, "authenticationFailed");
  assert.equal(refreshed, 0);
});

test("CL-55 ... and calls that are not marked send them still", async (t) => {
  const { server, api } = await scene(t, { credentials: async () => "Bearer a" });
  const calls = [all(api.call.a.b({}, { anonymous: true })), all(api.call.a.c())];
  const peer = await server.peer();
  const sent = {};
  for (let n = 0; n < 2; n += 1) {
    const open = await peer.opened();
    sent[open.m] = open.auth;
    peer.end(open);
  }
  await Promise.all(calls);
  assert.deepEqual(sent, { b: undefined, c: "Bearer a" });
});

test("cookies: the server is told to use them", async (t) => {
  const { server, api } = await scene(t, { cookies: true });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened();
  assert.equal(open.am, "cookie");
  peer.end(open);
  await reading;
});

test("a refusal: one refresh and one retry, with the new credential", async (t) => {
  let now = 1;
  const credentials = { get: () => `Bearer ${now}`, refresh: async () => ((now += 1), true) };
  const { server, api } = await scene(t, { credentials });
  const reading = all(api.call.a.b());
  const { peer, sent } = await refused(server, "authenticationFailed", 1);
  const open = await peer.opened();
  assert.deepEqual([...sent, open.auth], ["Bearer 1", "Bearer 2"]);
  peer.end(open);
  assert.equal((await within(reading, "the end")).error, undefined);
});

test("a function that gives another credential after a refusal has refreshed", async (t) => {
  const asked = [];
  const credentials = ({ refused: again }) => {
    asked.push(again);
    return again ? "Bearer new" : "Bearer old";
  };
  const { server, api } = await scene(t, { credentials });
  const reading = all(api.call.a.b());
  const { peer, sent } = await refused(server, "authenticationFailed", 1);
  const open = await peer.opened();
  assert.deepEqual([...sent, open.auth], ["Bearer old", "Bearer new"]);
  assert.deepEqual(asked, [false, true]);
  peer.end(open);
  await reading;
});

test("CL-77 a provider that cannot refresh: no retry", async (t) => {
  for (const credentials of ["Bearer a", () => "Bearer a", { get: () => "Bearer a" }]) {
    const { server, api } = await scene(t, { credentials });
    const reading = all(api.call.a.b());
    const { peer } = await refused(server, "authenticationFailed", 1);
    assert.ok((await within(reading, "the refusal")).error instanceof CallRefused);
    assert.equal(peer.count("omsc"), 1);
  }
});

test("CL-78 success: no refresh and no retry", async (t) => {
  let refreshed = 0;
  const credentials = { get: () => "Bearer a", refresh: () => ((refreshed += 1), true) };
  const { server, api } = await scene(t, { credentials });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  peer.end(await peer.opened());
  await reading;
  assert.deepEqual([refreshed, peer.count("omsc")], [0, 1]);
});

test("the second refusal is final", async (t) => {
  let now = 1;
  const credentials = { get: () => `Bearer ${now}`, refresh: () => ((now += 1), true) };
  const { server, api } = await scene(t, { credentials });
  const reading = all(api.call.a.b());
  await refused(server, "authenticationFailed", 2);
  assert.equal((await within(reading, "the refusal")).error.res, "authenticationFailed");
  assert.equal(now, 2);
});

test("CL-80 the refresh fails: the first error", async (t) => {
  const failing = () => {
    throw new Error("secret");
  };
  for (const refresh of [failing, () => false]) {
    const { server, api } = await scene(t, { credentials: { get: () => "Bearer a", refresh } });
    const reading = all(api.call.a.b());
    const { peer } = await refused(server, "authenticationFailed", 1);
    assert.equal((await within(reading, "the refusal")).error.res, "authenticationFailed");
    assert.equal(peer.count("omsc"), 1);
  }
});

test("CL-82 other refusals: no refresh and no retry", async (t) => {
  for (const res of ["endpointNotFound", "authorizationDeclined", "invalidArguments"]) {
    let refreshed = 0;
    const credentials = { get: () => "Bearer a", refresh: () => ((refreshed += 1), true) };
    const { server, api } = await scene(t, { credentials });
    const reading = all(api.call.a.b());
    await refused(server, res, 1);
    assert.equal((await within(reading, "the refusal")).error.res, res);
    assert.equal(refreshed, 0);
  }
});

test("calls refused at once share one refresh", async (t) => {
  let now = 1;
  const credentials = { get: () => `Bearer ${now}`, refresh: async () => ((now += 1), true) };
  const { server, api } = await scene(t, { credentials });
  const calls = Array.from({ length: 3 }, () => all(api.call.a.b()));
  const { peer } = await refused(server, "authenticationFailed", 3);
  for (let n = 0; n < 3; n += 1) peer.end(await peer.opened());
  await within(Promise.all(calls), "the ends");
  assert.equal(now, 2);
});

test("a provider that fails, or does not answer: ConnectFailed", async (t) => {
  const failing = await scene(t, { credentials: () => Promise.reject(new Error("secret")) });
  const { error } = await within(all(failing.api.call.a.b()), "the error");
  assert.ok(error instanceof ConnectFailed);
  assert.ok(!error.message.includes("secret"));
  const silent = await scene(t, { credentials: () => new Promise(() => {}) });
  const reading = all(silent.api.call.a.b());
  await silent.clock.until(30000);
  silent.clock.advance(30000);
  assert.ok((await within(reading, "the error")).error instanceof ConnectFailed);
});

test("x1: the credentials of a socket change", async (t) => {
  let now = 1;
  const { server, api } = await scene(t, { pong: X1, credentials: () => `Bearer ${now}` });
  assert.equal(await api.refreshCredentials(), undefined);
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened({});
  now = 2;
  const refreshed = api.refreshCredentials();
  assert.deepEqual(await peer.next("auth"), { auth: "Bearer 2" });
  peer.send("authr", { res: "success", until: 1234 });
  assert.deepEqual(await within(refreshed, "the answer"), { res: "success", until: 1234 });
  peer.end(open);
  await reading;
});

test("x1: a server that does not answer new credentials: an error, and the calls go on", async (t) => {
  const { server, clock, api } = await scene(t, { pong: X1, credentials: "Bearer a" });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened({});
  const refreshed = api.refreshCredentials();
  await peer.next("auth");
  clock.advance(15000);
  await assert.rejects(within(refreshed, "the error"), { name: "ConnectTimedOut" });
  peer.end(open);
  assert.equal((await within(reading, "the end")).error, undefined);
});

test("a plain server never sees that credentials change", async (t) => {
  const { server, api } = await scene(t, { credentials: "Bearer a" });
  const reading = all(api.call.a.b());
  const peer = await server.peer();
  const open = await peer.opened();
  assert.equal(await api.refreshCredentials(), undefined);
  peer.end(open);
  await reading;
  await eventually(() => peer.count("omsc") === 1);
  assert.equal(peer.count("auth"), 0);
});
