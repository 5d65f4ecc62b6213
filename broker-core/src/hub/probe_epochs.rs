//! Probe epochs: what was subscribed when. A channel notes the newest that had begun when it was subscribed; a digest proves
//! something about every channel that is older than the epoch after which it was made.

use super::Hub;
use crate::{loss::tracker::Coverage, runtime::sync::atomic::Ordering};

/// Where a digest stands in the probe epochs of this node. Each begins with a post of its own: a heartbeat, or a question
/// to all. What arrives after a heartbeat has come back was sent to a link that had everything that was subscribed when the
/// epoch began; what answers a question was made after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeEpochs {
    /// The newest that has begun.
    pub(crate) begun: u64,
    /// The newest after which the digest was made.
    pub(crate) made_after: u64,
    /// What the digest covers was posted after this one.
    pub(crate) since: Option<u64>,
}

impl ProbeEpochs {
    /// What a channel can claim that was subscribed when this was the newest probe epoch.
    pub(super) fn coverage(&self, subscribed: u64) -> Coverage {
        match self.since {
            Some(since) if subscribed < since => Coverage::Everything,
            _ if subscribed < self.made_after => Coverage::AfterDigest,
            _ => Coverage::AfterReceived,
        }
    }
}

impl Hub {
    /// A probe epoch begins; its number.
    pub(crate) fn begin_probe_epoch(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A probe epoch has come back.
    pub(crate) fn confirm_probe_epoch(&self, probe_epoch: u64) {
        self.back.fetch_max(probe_epoch, Ordering::SeqCst);
    }

    /// Where the probe epochs stand: the newest begun, and the newest that is back.
    pub(crate) fn probe_epochs(&self) -> (u64, u64) {
        (self.begun.load(Ordering::SeqCst), self.back.load(Ordering::SeqCst))
    }

    /// A channel was found subscribed that was not before, when this probe epoch was the newest.
    pub(super) fn note_subscribed(&self, probe_epoch: u64) {
        self.newest.fetch_max(probe_epoch, Ordering::SeqCst);
        self.found_subscribed.notify_one();
    }

    /// The first probe epoch that proves something about every channel that is subscribed now.
    pub(crate) fn wanted_probe_epoch(&self) -> u64 {
        self.newest.load(Ordering::SeqCst) + 1
    }

    /// Waits until one more channel was found subscribed. One waiter; cancel safe.
    pub(crate) async fn one_more_subscribed(&self) {
        self.found_subscribed.notified().await;
    }
}
