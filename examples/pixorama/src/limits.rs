//! Limits: what a browser may do, and how long it may take.

use std::time::{Duration, Instant};

/// What the server grants.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Strokes a second, in the long run, of all people on this server.
    pub strokes_a_second: f64,
    /// Strokes at once.
    pub strokes_at_once: f64,
    /// The line under the board is sent no more often: it changes with everybody who comes or goes.
    pub status_pause: Duration,
    /// What the sockets of browsers may take.
    pub streams: broker_streams::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        let mut streams = broker_streams::Limits::default();
        streams.sockets = 2000;
        // The longest frame is a resume of all calls of a page.
        streams.frame_bytes = 8 << 10;
        streams.calls_per_socket = 64;
        streams.inputs_per_call = 1;
        streams.stall = Duration::from_secs(10);
        streams.parked_calls = 4000;
        Self {
            strokes_a_second: 1000.0,
            strokes_at_once: 2000.0,
            status_pause: Duration::from_millis(100),
            streams,
        }
    }
}

/// A budget that fills up again.
pub(crate) struct Budget {
    a_second: f64,
    at_once: f64,
    left: f64,
    counted: Instant,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(a_second: f64, at_once: f64, now: Instant) -> Self {
        Self { a_second, at_once, left: at_once, counted: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let earned = now.duration_since(self.counted).as_secs_f64() * self.a_second;
        self.left = (self.left + earned).min(self.at_once);
        self.counted = now;
        let enough = self.left >= 1.0;
        self.left -= f64::from(u8::from(enough));
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_its_rate() {
        let began = Instant::now();
        let mut budget = Budget::new(60.0, 120.0, began);
        assert_eq!((0..1000).filter(|_| budget.take(began)).count(), 120);
        let later = began + Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| budget.take(later)).count(), 60);
    }
}
