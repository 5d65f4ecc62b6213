//! Metrics: what an operator counts, through the crate `metrics`. Without the feature of that name all of it is nothing.
//!
//! No label ever carries the name of a channel or of a user: those come from outside, and there is no end of them.

use std::time::Duration;

use crate::hub::Notice;

/// The counters of one broker. They belong to the recorder that is installed when the broker is made.
#[derive(Clone)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    counters: std::sync::Arc<Counters>,
}

#[cfg(feature = "metrics")]
struct Counters {
    published_local: metrics::Counter,
    published_global: metrics::Counter,
    delivered: metrics::Counter,
    /// By cause, and what they tell as missing.
    gaps: [(metrics::Counter, metrics::Counter); CAUSES.len()],
    conflated: metrics::Counter,
    malformed: metrics::Counter,
    listener_panics: metrics::Counter,
    replies_dropped: metrics::Counter,
    links: metrics::Counter,
    failures: metrics::Counter,
    connected: metrics::Gauge,
    round_trip: metrics::Histogram,
}

/// The causes of a loss.
#[cfg(feature = "metrics")]
const CAUSES: [(crate::GapCause, &str); 4] = [
    (crate::GapCause::Overflow, "overflow"),
    (crate::GapCause::LinkLost, "link_lost"),
    (crate::GapCause::Dropped, "dropped"),
    (crate::GapCause::Skipped, "skipped"),
];

#[cfg(feature = "metrics")]
impl Meter {
    pub(crate) fn new(backend: &'static str) -> Self {
        use metrics::{counter, gauge, histogram};
        let counters = Counters {
            published_local: counter!("broker_published_total", "backend" => backend, "scope" => "local"),
            published_global: counter!("broker_published_total", "backend" => backend, "scope" => "global"),
            delivered: counter!("broker_delivered_total", "backend" => backend),
            gaps: CAUSES.map(|(_, cause)| {
                (
                    counter!("broker_gaps_total", "backend" => backend, "cause" => cause),
                    counter!("broker_missed_total", "backend" => backend, "cause" => cause),
                )
            }),
            conflated: counter!("broker_conflated_total", "backend" => backend),
            malformed: counter!("broker_malformed_total", "backend" => backend),
            listener_panics: counter!("broker_listener_panics_total", "backend" => backend),
            replies_dropped: counter!("broker_replies_dropped_total", "backend" => backend),
            links: counter!("broker_links_total", "backend" => backend),
            failures: counter!("broker_link_failures_total", "backend" => backend),
            connected: gauge!("broker_connected", "backend" => backend),
            round_trip: histogram!("broker_probe_round_trip_seconds", "backend" => backend),
        };
        Self { counters: counters.into() }
    }

    /// A listener's function panicked.
    pub(crate) fn listener_panicked(&self) {
        self.counters.listener_panics.increment(1);
    }

    /// A reply came for no request that waits, or for one that had no room.
    pub(crate) fn reply_dropped(&self) {
        self.counters.replies_dropped.increment(1);
    }

    pub(crate) fn published_here(&self) {
        self.counters.published_local.increment(1);
    }

    pub(crate) fn published(&self, count: u64) {
        self.counters.published_global.increment(count);
    }

    /// A subscriber was handed so many messages.
    pub(crate) fn delivered(&self, count: u64) {
        self.counters.delivered.increment(count);
    }

    /// A subscriber was handed what is not a message.
    pub(crate) fn noticed(&self, notice: &Notice) {
        match notice {
            Notice::Malformed(_) => self.counters.malformed.increment(1),
            Notice::Gap(gap) => self.gap(gap),
        }
    }

    /// Where nothing was lost, no loss is counted.
    fn gap(&self, gap: &crate::Gap) {
        if gap.cause == crate::GapCause::Conflated {
            return self.counters.conflated.increment(gap.missed.unwrap_or(0));
        }
        let all = CAUSES.iter().zip(&self.counters.gaps);
        for (_, (gaps, missed)) in all.filter(|((cause, _), _)| *cause == gap.cause) {
            gaps.increment(1);
            missed.increment(gap.missed.unwrap_or(0));
        }
    }

    pub(crate) fn link_is_up(&self) {
        self.counters.links.increment(1);
        self.counters.connected.set(1.0);
    }

    pub(crate) fn link_is_down(&self, failed: bool) {
        self.counters.connected.set(0.0);
        self.counters.failures.increment(failed.into());
    }

    pub(crate) fn record_round_trip(&self, after: Duration) {
        self.counters.round_trip.record(after);
    }
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "the same calls, and nothing happens")]
impl Meter {
    pub(crate) fn new(_backend: &'static str) -> Self {
        Self {}
    }

    pub(crate) fn listener_panicked(&self) {}

    pub(crate) fn reply_dropped(&self) {}

    pub(crate) fn published_here(&self) {}

    pub(crate) fn published(&self, _count: u64) {}

    pub(crate) fn delivered(&self, _count: u64) {}

    pub(crate) fn noticed(&self, _notice: &Notice) {}

    pub(crate) fn link_is_up(&self) {}

    pub(crate) fn link_is_down(&self, _failed: bool) {}

    pub(crate) fn record_round_trip(&self, _after: Duration) {}
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}
