//! Failures: which of the attempts that failed are worth a line in the log. A backend that is away for a day is not told
//! of at every attempt.

use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// How often a failure that goes on is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// What was logged last.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// Since when no link has been up.
    since: Option<Instant>,
    logged: Option<(Instant, String)>,
    /// How many were left out since.
    left_out: u64,
}

impl Failures {
    /// A link has failed, or an attempt to open one. `was_up`: there was a link before it failed.
    pub(crate) fn record(&mut self, backend: &'static str, error: &Error, was_up: bool) {
        let now = Instant::now();
        if was_up {
            *self = Self::default();
        }
        let since = *self.since.get_or_insert(now);
        if !self.is_worth_a_line(now, error) {
            tracing::debug!(backend, "the link is down: {error}");
            return;
        }
        match self.left_out {
            0 => tracing::warn!(backend, "the link is down: {error}"),
            more => tracing::warn!(
                backend,
                "the link has been down for {:.0?}, after {more} more attempts: {error}",
                now - since
            ),
        }
        self.left_out = 0;
    }

    fn is_worth_a_line(&mut self, now: Instant, error: &Error) -> bool {
        let text = error.to_string();
        let is_repeat = |(when, last): &(Instant, String)| *last == text && now - *when < REMINDER;
        if self.logged.as_ref().is_some_and(is_repeat) {
            self.left_out += 1;
            return false;
        }
        self.logged = Some((now, text));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_logged_at_once_and_repeats_are_limited() {
        let (away, wrong) = (ErrorKind::Unavailable, ErrorKind::Forbidden);
        let mut failures = Failures::default();
        let mut lines = 0;
        for _ in 0..100 {
            lines += u32::from(failures.is_worth_a_line(Instant::now(), &Error::new(away, "nobody answers")));
            tokio::time::advance(Duration::from_secs(3)).await;
        }
        assert_eq!(lines, 5, "300 s, one line a minute");
        assert!(failures.is_worth_a_line(Instant::now(), &Error::new(wrong, "wrong password")));
        assert!(!failures.is_worth_a_line(Instant::now(), &Error::new(wrong, "wrong password")));
        // A link that was up in between makes the next failure news.
        failures.record("redis", &Error::new(wrong, "wrong password"), true);
        assert_eq!(failures.left_out, 0);
    }
}
