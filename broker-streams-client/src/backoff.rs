//! Backoff: how long the client waits before the next attempt, and where its random numbers come from.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Waits that grow from attempt to attempt, each a random part of the whole ("full jitter").
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(15);

    pub(crate) fn next(&mut self) -> Duration {
        let longest = Self::FIRST.saturating_mul(1 << self.attempts.min(6)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        jitter(longest)
    }

    /// The same, but no wait before the first attempt.
    pub(crate) fn next_or_now(&mut self) -> Duration {
        let is_first = self.attempts == 0;
        let wait = self.next();
        if is_first { Duration::ZERO } else { wait }
    }

    /// After an attempt that was worth something.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Whether it waits before the next attempt.
    pub(crate) const fn has_failed(&self) -> bool {
        self.attempts > 0
    }
}

/// A random time of at most the given one.
pub(crate) fn jitter(longest: Duration) -> Duration {
    let [a, b, c, d, ..] = random();
    longest.mul_f64(f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX))
}

/// Random bytes: of the system, or, where that has none, of the seeds of the standard library's hash maps.
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        for half in bytes.chunks_exact_mut(8) {
            half.copy_from_slice(&RandomState::new().hash_one(half.len()).to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_start_anew() {
        let mut backoff = Backoff::default();
        let longest = |backoff: &mut Backoff| {
            let attempts = backoff.attempts;
            (0..200)
                .map(|_| {
                    backoff.attempts = attempts;
                    backoff.next()
                })
                .max()
                .unwrap_or_default()
        };
        for limit in [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000] {
            let limit = Duration::from_millis(limit);
            let found = longest(&mut backoff);
            assert!(found <= limit && found > limit / 2, "{found:?} of {limit:?}");
        }
        backoff.reset();
        assert!(longest(&mut backoff) <= Backoff::FIRST);
    }
}
