/** A server of the project, a client whose frames are kept and checked, and a client that controls it. */
import { test } from "node:test";
import { connect } from "../../src/index.js";
import { within } from "./eventually.js";
import { start } from "./process.js";
import { proxy } from "./proxy.js";
import { Record } from "./recorded.js";

/** Reconnects at once, as waiting is tested elsewhere. */
export const AT_ONCE = { random: () => 0 };

/** With `life` there is a proxy before the server, `way`, which cuts connections after so many frames. */
export async function real(t, { flags = [], life, plain, tamper, headers, ...options } = {}) {
  const server = await start(undefined, ...flags);
  const way = life === undefined ? null : await proxy(server.address, life);
  const record = new Record({ plain, tamper, headers });
  const url = way?.url ?? server.url;
  const api = connect(url, { WebSocket: record.WebSocket, testing: AT_ONCE, ...options });
  const controlling = connect(server.url);
  t.after(async () => {
    api.close();
    controlling.close();
    await server.kill();
    await way?.close();
    record.check();
  });
  const control = async (method, args) => {
    const value = await within(controlling.open("control", method, args).then(), `control.${method}`);
    return value?.data;
  };
  return { server, way, api, record, control };
}

/** The same test with a client that agrees on the extension, and with one that does not. */
export function both(name, run) {
  for (const plain of [false, true]) {
    test(`${name}, ${plain ? "plain" : "x1"}`, (t) => run(t, { plain }));
  }
}

/** Waits until what `control` says is so. */
export async function until(ask, so, what) {
  const end = Date.now() + 10000;
  for (;;) {
    const answer = await ask();
    if (so(answer)) return answer;
    if (Date.now() > end) throw new Error(`never: ${what}; it is ${JSON.stringify(answer)}`);
  }
}
