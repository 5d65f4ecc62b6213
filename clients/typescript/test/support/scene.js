/** A server, a client and their clock, put away at the end of a test. */
import { connect } from "../../src/index.js";
import { Clock } from "./clock.js";
import { eventually, within } from "./eventually.js";
import { serve } from "./server.js";

export async function scene(t, { pong, ...options } = {}) {
  const server = await serve({ pong });
  const clock = new Clock();
  const api = connect(server.url, { testing: clock.testing, ...options });
  t.after(async () => {
    api.close();
    await server.close();
  });
  return { server, clock, api };
}

/** All values of a call, and the error that it ended with, if any. */
export async function all(stream) {
  const values = [];
  try {
    for await (const value of stream) values.push(value);
  } catch (error) {
    return { values, error };
  }
  return { values, error: undefined };
}

export const data = (values) => values.map((value) => value.data);

/** The next `n` items of an iterator. */
export async function read(values, n) {
  const found = [];
  while (found.length < n) found.push((await within(values.next(), "a value")).value);
  return found;
}

/** Waits for the loss to be noticed, and lets the wait before the next attempt pass. */
export async function away(api, clock) {
  await eventually(() => api.status.current.state === "waiting", "a wait");
  clock.advance(api.status.current.ms);
}
