/** Waiting for a condition, with a limit against hangs. */
const LIMIT = 10000;

/** Waits until `condition` gives something true, and gives it. */
export async function eventually(condition, what = condition.toString()) {
  const end = Date.now() + LIMIT;
  for (;;) {
    const found = condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Waits until what is at work has had many turns: to show that something is not done. */
export async function settled() {
  for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** The result of `promise`, with the limit. */
export function within(promise, what) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`never: ${what}`)), LIMIT);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}
