//! OwnDigests: the digests of this node in its outbox: when the next round is due, what it answers, and to which channel it
//! goes.

use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, Completion};
use crate::{
    ChannelName, NodeId,
    driver::Outgoing,
    loss::{digest_sender::DigestSender, sequencer::Sequencer},
    wire::names::{DIGESTS, Names},
};

/// See the module.
#[derive(Debug)]
pub(super) struct OwnDigests {
    node: NodeId,
    wire_name: ChannelName,
    sender: DigestSender,
    /// One is to be sent, if there is something to report.
    due: bool,
    /// The time between two, in milliseconds, as they name it.
    interval: u32,
    /// When the last round was made, and how long it was.
    last: Option<(Instant, usize)>,
}

impl OwnDigests {
    pub(super) fn new(node: NodeId, names: &Names, interval: Duration) -> Self {
        let (wire_name, sender) = (names.to_wire(DIGESTS), DigestSender::default());
        Self { node, wire_name, sender, due: false, interval: milliseconds(interval), last: None }
    }

    /// A round is due. It answers these questions.
    pub(super) fn report(&mut self, asked: Vec<u64>) {
        self.due = true;
        asked.into_iter().for_each(|ask| self.sender.asked(ask));
    }

    /// From now on the time between two.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = milliseconds(interval);
    }

    /// The node closes: the next round is the last.
    pub(super) fn close(&mut self) {
        self.interval = 0;
    }

    pub(super) fn last(&self) -> Option<(Instant, usize)> {
        self.last
    }

    /// Whether a round is to be made now. With several batches under way the outcome of the last one may still be to come:
    /// then at the next look.
    pub(super) fn take_due(&mut self) -> bool {
        let now = self.due && !self.sender.is_pending();
        self.due &= !now;
        now
    }

    /// Makes the next round.
    pub(super) fn add_to(&mut self, batch: &mut Batch, sequencer: &mut Sequencer) {
        let (mut bytes, made) = (0, batch.frames.len());
        for (frame, outcome) in self.sender.next(self.node, sequencer.take_spans(), self.interval) {
            bytes += frame.len();
            batch.add(Outgoing::new(self.wire_name.clone(), frame.freeze()), Completion::new(outcome));
        }
        if batch.frames.len() > made {
            self.last = Some((Instant::now(), bytes));
        }
    }
}

/// What a digest can name: 0 has a meaning of its own.
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}
