//! Limits: what a browser may do, and how long it may take.

use std::time::Duration;

/// What the server grants to one browser.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a browser may take to read what it is sent.
    pub slow: Duration,
    /// A browser that has said nothing for so long is gone; it is asked three times before.
    pub silent: Duration,
    /// Strokes a second, in the long run.
    pub strokes_a_second: f64,
    /// Strokes at once.
    pub strokes_at_once: f64,
    /// The line under the board is sent no more often: it changes with everybody who comes or goes.
    pub status_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slow: Duration::from_secs(10),
            silent: Duration::from_secs(60),
            strokes_a_second: 60.0,
            strokes_at_once: 120.0,
            status_pause: Duration::from_millis(100),
        }
    }
}
