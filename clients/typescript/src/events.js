/** What `events()` gives between the values. */

/** Values are missing here: `n` of them, or null if the server does not know how many; `c` is the cause. */
export class Gap {
  constructor(n, c) {
    this.gap = { n, c };
  }
}

/**
 * The call was opened anew and knows nothing of the past. `unacknowledged` counts, for each input, the values
 * that were sent before and of which nobody knows whether the method took them. They are not sent again.
 */
export class Restarted {
  constructor(unacknowledged) {
    this.restarted = { unacknowledged };
  }
}

/** What to say of two of these with no value between them: the graver one, and all that is missing. */
export function merged(before, after) {
  const grave = [before, after].some((event) => event instanceof Restarted);
  const parts = [before, after].map((event) => (event.restarted ?? event.resumed).unacknowledged);
  const unacknowledged = { ...parts[0] };
  for (const [name, count] of Object.entries(parts[1])) {
    // Null, for a server that counts nothing, stays null.
    const had = unacknowledged[name];
    unacknowledged[name] = had === undefined ? count : had === null || count === null ? null : had + count;
  }
  if (grave) return new Restarted(unacknowledged);
  const cursor = before.resumed.by === "cursor" || after.resumed.by === "cursor";
  return new Resumed(cursor ? "cursor" : "exact", unacknowledged);
}

/**
 * The call goes on. `by` is `"exact"` (the same call: nothing lost, nothing doubled, in both directions) or
 * `"cursor"` (a new call that continues after the last cursor; `unacknowledged` as for a restart).
 */
export class Resumed {
  constructor(by, unacknowledged) {
    this.resumed = { by, unacknowledged };
  }
}
