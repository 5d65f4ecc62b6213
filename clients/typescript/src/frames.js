/** Text to frames and back. Pure: no socket, no state. */

/** A text that is not a frame, or not one of this socket. */
export class BadFrame extends Error {}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const RESULTS = new Set([
  "success",
  "endpointNotFound",
  "authenticationFailed",
  "authorizationDeclined",
  "invalidArguments",
]);
const MAX_WORD = 1024;
// What a server offers beyond this is not used, so that it cannot make the client hold more.
const MAX_WINDOW = 1024;
const MAX_BYTES = 1024 * 1024;

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

function need(condition, what) {
  if (!condition) throw new BadFrame(what);
}

function word(value, name) {
  need(typeof value === "string" && value.length <= MAX_WORD, `${name} is not a short text`);
  return value;
}

function address(data) {
  need(typeof data.cid === "string" && UUID.test(data.cid), "cid is not a UUID");
  const frame = { cid: data.cid, en: word(data.en, "en"), m: word(data.m, "m") };
  if (data.p !== undefined && data.p !== null) frame.p = word(data.p, "p");
  return frame;
}

function value(object, name) {
  need(isObject(object) && "data" in object, `${name} is not a value`);
  return { className: word(object.className, "className"), data: object.data };
}

/** Counts by the name of a stream; the least count that is allowed is -1 or 1. */
function counts(object, least) {
  const found = new Map();
  if (!isObject(object)) return found;
  for (const [name, count] of Object.entries(object)) {
    need(Number.isSafeInteger(count) && count >= least, "a count is not a count");
    found.set(name, count);
  }
  return found;
}

function why(object) {
  if (object === undefined || object === null) return undefined;
  need(isObject(object), "why is not an object");
  const { again } = object;
  // A word of a later version: what this client does not know it does not try.
  const known = again === "now" || again === "signin" || isCount(again);
  return { c: word(object.c, "why.c"), again: known ? again : "never" };
}

function agreement(data) {
  if (!isObject(data) || data.x !== 1) return null;
  const limit = (given, fallback, most) => (isCount(given) && given > 0 ? Math.min(given, most) : fallback);
  return {
    window: limit(data.window, 64, MAX_WINDOW),
    bytes: limit(data.bytes, 262144, MAX_BYTES),
    park: limit(data.park, 30000, Number.MAX_SAFE_INTEGER),
  };
}

const PLAIN = {
  ping: () => ({}),
  pong: (data) => ({ x: agreement(data) }),
  // The client's own frame, sent to the client: known, and without a meaning here.
  omsc: () => ({}),
  brm: () => ({}),
  omsr(data) {
    need(RESULTS.has(data.res), "res is not a result");
    const x = isObject(data.x) ? data.x : {};
    const windows = counts(x.w, 1);
    for (const [name, size] of windows) windows.set(name, Math.min(size, MAX_WINDOW));
    return { ...address(data), res: data.res, windows, token: x.t === undefined ? null : word(x.t, "t") };
  },
  cmsc(data) {
    need(data.cr === "done" || data.cr === "error", "cr is not a reason");
    return { ...address(data), cr: data.cr, why: why(data.why) };
  },
  msm(data) {
    const k = data.k === undefined || data.k === null ? undefined : word(data.k, "k");
    return { ...address(data), o: value(data.o, "o"), k };
  },
  msse: (data) => ({ ...address(data), ex: value(data.ex, "ex") }),
};

const EXTRA = {
  flow(data) {
    need(typeof data.cid === "string" && UUID.test(data.cid), "cid is not a UUID");
    need(isCount(data.got), "got is not a count");
    return { cid: data.cid, p: data.p === undefined ? "" : word(data.p, "p"), got: data.got };
  },
  gap(data) {
    need(data.n === undefined || data.n === null || isCount(data.n), "n is not a count");
    return { ...address(data), n: data.n ?? null, c: data.c === undefined ? undefined : word(data.c, "c") };
  },
  authr: (data) => ({ res: word(data.res, "res"), until: isCount(data.until) ? data.until : undefined }),
  rsr(data) {
    need(Array.isArray(data.calls), "calls is not a list");
    const calls = new Map();
    for (const one of data.calls) {
      need(isObject(one) && typeof one.cid === "string" && UUID.test(one.cid), "cid is not a UUID");
      const token = one.t === undefined ? null : word(one.t, "t");
      calls.set(one.cid, { ok: one.ok === true, token, got: counts(one.got, -1) });
    }
    return { calls };
  },
  bye: (data) => ({
    within: isCount(data.within) ? data.within : 0,
    spread: isCount(data.spread) ? Math.min(data.spread, 60000) : 0,
  }),
};

/**
 * The frame in `text`. `extended` says whether the socket agreed on the extension; without it the frames of
 * the extension are unknown. Throws `BadFrame`.
 */
export function decode(text, extended) {
  let envelope;
  try {
    envelope = JSON.parse(text);
  } catch {
    throw new BadFrame("not JSON");
  }
  need(isObject(envelope) && typeof envelope.type === "string", "no type");
  const { type } = envelope;
  const table = extended && Object.hasOwn(EXTRA, type) ? EXTRA : PLAIN;
  need(Object.hasOwn(table, type), "unknown type");
  const bare = type === "ping" || type === "pong" || type === "brm" || type === "omsc";
  need(bare || isObject(envelope.data), "no data");
  return { type, ...table[type](envelope.data) };
}

const frame = (type, data) => JSON.stringify({ type, data });
const withData = (text, json) => `${text.slice(0, -3)},"data":${json}}}}`;

/** The texts of the frames that a client sends, with their members in the protocol's order. */
export const encode = {
  ping: (x) => (x ? '{"type":"ping","data":{"x":1}}' : '{"type":"ping"}'),
  pong: () => '{"type":"pong"}',
  omsc: ({ en, m, cid, args, is, auth, am, x }) => frame("omsc", { en, m, cid, args, is, auth, am, x }),
  cmsc: ({ en, m, cid, p, cr, why: reason }) => frame("cmsc", { en, m, cid, p, cr, why: reason }),
  /** `json` is the text of the value's data, so that it is written once. */
  msm({ en, m, cid }, p, className, json) {
    return withData(frame("msm", { en, m, cid, p, o: { className } }), json);
  },
  msse({ en, m, cid }, p, className, json) {
    return withData(frame("msse", { en, m, cid, p, ex: { className } }), json);
  },
  brm: (req) => frame("brm", { req }),
  flow: (cid, got) => frame("flow", { cid, got }),
  auth: (auth) => frame("auth", { auth }),
  rsm: (calls, auth) => frame("rsm", { calls, auth }),
};

/** How many bytes `text` has as UTF-8. */
export function utf8Length(text) {
  let bytes = text.length;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit > 0x7f) bytes += 1;
    // Each half of a pair counts two bytes, so a pair counts four.
    if (unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff)) bytes += 1;
  }
  return bytes;
}
