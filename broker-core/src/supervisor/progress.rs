//! Progress: what the writer of the outbox does, and when those who wait for it may take it for stopped.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Why a post fails whose writer has stopped.
pub(super) const STOPPED: &str = "the broker's runtime is blocked or not driven, and has not answered";

/// For how many periods without a step the writer counts as stopped. A period is as long as a batch may take, whatever
/// the backend does: one alone may be a slow batch.
const PERIODS: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How often the writer has taken or finished a batch.
    steps: AtomicU64,
    watched: AtomicBool,
}

impl Progress {
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    /// Whether the watchdog runs.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Acquire)
    }

    pub(super) fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Release);
    }
}

/// Whether the writer does nothing while something waits for it: looked at once in every period.
#[derive(Debug, Default)]
pub(super) struct Silence {
    before: Option<u64>,
    periods: u32,
}

impl Silence {
    /// Looks again; `steps` is what the writer has done, `None` when nothing waits for it.
    pub(super) fn lasts(&mut self, steps: Option<u64>) -> bool {
        self.periods = if steps.is_some() && steps == self.before { self.periods + 1 } else { 0 };
        self.before = steps;
        self.periods >= PERIODS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_two_periods_without_a_step_in_which_something_waits() {
        let mut silence = Silence::default();
        let looks = [None, None, None, Some(7), Some(7), Some(8), Some(8), None, Some(8), Some(8)];
        assert!(looks.into_iter().all(|steps| !silence.lasts(steps)));
        assert!(silence.lasts(Some(8)));
        assert!(silence.lasts(Some(8)), "it lasts");
        assert!(!silence.lasts(Some(9)));
    }
}
