/** What is taken from the browser or from Node, so that tests can put their own in its place. */

function listen(type, listener) {
  const target = type === "visibilitychange" ? globalThis.document : globalThis;
  if (typeof target?.addEventListener !== "function") return () => {};
  target.addEventListener(type, listener);
  return () => target.removeEventListener(type, listener);
}

// A timer of a browser or of Node waits so long; for more it would not wait at all.
const LONGEST = 2 ** 31 - 1;

/** Runs `run` after `ms`, however long that is. */
function later(run, ms) {
  const timer = {};
  const wait = (left) => {
    const part = Math.min(left, LONGEST);
    timer.id = globalThis.setTimeout(() => (left > part ? wait(left - part) : run()), part);
  };
  wait(ms);
  return timer;
}

/** The platform, with the members of `testing` in place of its own. */
export function platform(WebSocket = globalThis.WebSocket, testing = {}) {
  if (typeof WebSocket !== "function") {
    throw new TypeError("there is no WebSocket here: pass one as options.WebSocket (Node 22 has its own)");
  }
  return {
    WebSocket,
    setTimeout: later,
    clearTimeout: (timer) => globalThis.clearTimeout(timer?.id),
    now: () => performance.now(),
    random: Math.random,
    listen,
    visible: () => globalThis.document?.visibilityState !== "hidden",
    ...testing,
  };
}

/** A random UUID of version 4. `crypto.randomUUID` is missing on pages that were not loaded securely. */
export function uuid() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
