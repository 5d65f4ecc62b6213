//! Counts: what a server sees, by kind, and when.

use std::time::Duration;

use tokio::time::Instant;

/// What a post is for, by its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On a channel of the users.
    User,
    /// `$digests`: what a node says it has posted, and the questions for that.
    Digest,
    /// `$node.…`: the heartbeats of one node.
    Node,
    /// `$revocations`.
    Revocation,
}

impl Kind {
    pub(crate) fn of(channel: &str) -> Self {
        if !channel.contains('$') {
            Self::User
        } else if channel.contains("$digests") {
            Self::Digest
        } else if channel.contains("$revocations") {
            Self::Revocation
        } else {
            Self::Node
        }
    }
}

/// Frames to the server, and from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that nodes sent.
    pub posts: u64,
    /// Their bytes, without the names of channels.
    pub bytes: u64,
    /// Frames that the server sent to nodes.
    pub deliveries: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
}

/// How long one of the steps is in which moments are counted.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone, Debug)]
pub struct Counts {
    since: Instant,
    kinds: [Traffic; 4],
    /// Attempts to connect, in each `STEP`.
    pub connects: Vec<u64>,
    /// Names that were asked for, in each step.
    pub names: Vec<u64>,
    /// The bytes of digests that each node is sent, in each step.
    pub digest_bytes: Vec<u64>,
    /// Calls to subscribe.
    pub subscribe_calls: u64,
    /// Names to unsubscribe.
    pub unsubscribed: u64,
    /// For how long the server was at work.
    pub busy: Duration,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            kinds: [Traffic::default(); 4],
            connects: Vec::new(),
            names: Vec::new(),
            digest_bytes: Vec::new(),
            subscribe_calls: 0,
            unsubscribed: 0,
            busy: Duration::ZERO,
        }
    }

    /// What there was of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Traffic {
        self.kinds[kind as usize]
    }

    pub(crate) fn posted(&mut self, kind: Kind, bytes: usize, receivers: usize) {
        let (bytes, receivers) = (bytes as u64, receivers as u64);
        let traffic = &mut self.kinds[kind as usize];
        traffic.posts += 1;
        traffic.bytes += bytes;
        traffic.deliveries += receivers;
        traffic.delivered_bytes += receivers * bytes;
        if kind == Kind::Digest {
            *self.now(|counts| &mut counts.digest_bytes) += bytes;
        }
    }

    pub(crate) fn connected(&mut self) {
        *self.now(|counts| &mut counts.connects) += 1;
    }

    pub(crate) fn subscribed(&mut self, names: usize) {
        self.subscribe_calls += 1;
        *self.now(|counts| &mut counts.names) += names as u64;
    }

    fn now(&mut self, steps: impl FnOnce(&mut Self) -> &mut Vec<u64>) -> &mut u64 {
        let step = (self.since.elapsed().as_millis() / STEP.as_millis()) as usize;
        let steps = steps(self);
        if steps.len() <= step {
            steps.resize(step + 1, 0);
        }
        &mut steps[step]
    }

    /// Since the counts began.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }
}
