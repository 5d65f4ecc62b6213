/** Numbers that look random and are the same for the same seed. */

/** A function that gives a number from 0 up to its argument, which it does not reach. */
export function dice(seed) {
  let state = seed;
  return (n) => {
    state = (state * 48271) % 2147483647;
    return state % n;
  };
}

/** Dice whose seed the test prints. `BROKER_STREAMS_TEST_SEED` repeats a run. */
export function seeded(t) {
  const given = Number(process.env.BROKER_STREAMS_TEST_SEED ?? Date.now());
  const seed = (given % 2147483646) + 1;
  t.diagnostic(`BROKER_STREAMS_TEST_SEED=${seed - 1}`);
  return dice(seed);
}
