//! SequenceTracker: the last sequence number received from each node on one channel. Detects what is missing and what is a repeat.
//!
//! Two generations of nodes: when the younger is full it becomes the older, and what was the older is forgotten. So
//! the memory has a bound however many nodes come and go, and those that post are remembered.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::{NodeId, wire::digest::Span};

/// How many nodes one generation remembers.
const GENERATION: usize = 512;

/// Which messages a channel should have received, of those that a digest covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Those that follow one it has received. The others may be from before it was subscribed.
    AfterReceived,
    /// And from now on all that come after those of the digest.
    AfterDigest,
    /// All: it was subscribed before the first of them was posted.
    Everything,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SequenceTracker {
    young: HashMap<NodeId, Last, RandomState>,
    old: HashMap<NodeId, Last, RandomState>,
    /// A node has been evicted: a node without an entry may have posted before.
    pub(crate) has_evicted: bool,
}

/// The last message received from a node.
#[derive(Clone, Copy, Debug)]
struct Last {
    epoch: u32,
    sequence: u64,
    /// The first one received, until a digest has said what came before it; then 0.
    first: u64,
}

impl SequenceTracker {
    /// A message arrived. How many are missing before it; `None` for a repeat.
    pub(crate) fn message(&mut self, origin: NodeId, epoch: u32, sequence: u64) -> Option<u64> {
        let Some(last) = self.find(origin) else {
            self.insert(origin, Last { epoch, sequence, first: sequence });
            return Some(0);
        };
        if (epoch, sequence) <= (last.epoch, last.sequence) {
            return None;
        }
        // A new epoch begins at 1. A digest ahead of it covers the end of the one before it.
        let before = if epoch == last.epoch { last.sequence } else { 0 };
        (last.epoch, last.sequence) = (epoch, sequence);
        Some(sequence - before - 1)
    }

    /// A digest says what a node has posted. How many messages of it are missing.
    pub(crate) fn digest(&mut self, origin: NodeId, span: &Span, coverage: Coverage) -> u64 {
        let (epoch, sequence) = (span.epoch, span.last);
        let Some(last) = self.find(origin) else {
            if coverage != Coverage::AfterReceived {
                self.insert(origin, Last { epoch, sequence, first: 0 });
            }
            return if coverage == Coverage::Everything { span.last + 1 - span.first } else { 0 };
        };
        if epoch < last.epoch {
            return 0;
        }
        let mut missing = 0;
        if coverage == Coverage::Everything && epoch == last.epoch {
            missing = last.first.saturating_sub(span.first);
        }
        last.first = 0;
        let before = if epoch == last.epoch { last.sequence } else { 0 };
        if sequence > before {
            missing += sequence - before;
            (last.epoch, last.sequence) = (epoch, sequence);
        }
        missing
    }

    /// A node of the older generation comes back into the younger.
    fn find(&mut self, origin: NodeId) -> Option<&mut Last> {
        if !self.old.is_empty()
            && let Some(last) = self.old.remove(&origin)
        {
            self.insert(origin, last);
        }
        self.young.get_mut(&origin)
    }

    fn insert(&mut self, origin: NodeId, last: Last) {
        if self.young.len() >= GENERATION {
            self.has_evicted |= !self.old.is_empty();
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(origin, last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Coverage::*, *};
    use crate::ChannelName;

    const A: NodeId = NodeId::from_u64(1);
    const B: NodeId = NodeId::from_u64(2);

    fn span(epoch: u32, first: u64, last: u64) -> Span {
        Span { channel: ChannelName::internal("news"), epoch, first, last }
    }

    #[test]
    fn a_jump_is_counted_and_a_repeat_is_recognised() {
        let mut tracker = SequenceTracker::default();
        assert_eq!(tracker.message(A, 1, 7), Some(0), "what came before the first is not ours");
        assert_eq!(tracker.message(A, 1, 8), Some(0));
        assert_eq!(tracker.message(B, 1, 1), Some(0), "every node counts for itself");
        assert_eq!(tracker.message(A, 1, 12), Some(3));
        assert_eq!(tracker.message(A, 1, 12), None);
        assert_eq!(tracker.message(A, 1, 9), None, "late, and reported as missing already");
        assert_eq!(tracker.message(A, 1, 13), Some(0));
    }

    #[test]
    fn a_new_epoch_begins_at_one() {
        let mut tracker = SequenceTracker::default();
        assert_eq!(tracker.message(A, 1, 70), Some(0));
        assert_eq!(tracker.message(A, 3, 1), Some(0));
        assert_eq!(tracker.message(A, 5, 3), Some(2));
        assert_eq!(tracker.message(A, 4, 9), None, "an epoch that is over");
    }

    #[test]
    fn a_digest_reports_a_lost_tail_once() {
        let mut tracker = SequenceTracker::default();
        assert_eq!(tracker.message(A, 1, 5), Some(0));
        assert_eq!(tracker.digest(A, &span(1, 3, 8), AfterReceived), 3);
        assert_eq!(tracker.digest(A, &span(1, 3, 8), Everything), 0);
        assert_eq!(tracker.message(A, 1, 8), None, "reported as missing");
        assert_eq!(tracker.message(A, 1, 9), Some(0));
        assert_eq!(tracker.digest(A, &span(1, 9, 9), Everything), 0);
        assert_eq!(tracker.digest(A, &span(2, 1, 4), AfterReceived), 4, "a whole epoch went by unheard");
        assert_eq!(tracker.digest(A, &span(1, 9, 12), Everything), 0, "an epoch that is over");
    }

    #[test]
    fn a_digest_reports_losses_before_the_first_message_only_with_proof() {
        for (coverage, missing) in [(Everything, 2), (AfterDigest, 0)] {
            let mut tracker = SequenceTracker::default();
            assert_eq!(tracker.message(A, 1, 5), Some(0));
            assert_eq!(tracker.digest(A, &span(1, 3, 5), coverage), missing);
            assert_eq!(tracker.digest(A, &span(1, 3, 5), Everything), 0, "reported once");
            let mut untracked = SequenceTracker::default();
            assert_eq!(untracked.digest(A, &span(1, 3, 4), coverage), missing);
            assert_eq!(untracked.message(A, 1, 6), Some(1), "the digest is where counting begins");
        }
    }

    #[test]
    fn a_digest_from_before_the_subscription_proves_nothing() {
        let mut tracker = SequenceTracker::default();
        assert_eq!(tracker.digest(A, &span(1, 3, 4), AfterReceived), 0);
        assert_eq!(tracker.message(A, 1, 9), Some(0));
        assert_eq!(tracker.digest(A, &span(1, 5, 9), AfterReceived), 0);
    }

    #[test]
    fn memory_is_bounded_and_active_nodes_are_kept() {
        let mut tracker = SequenceTracker::default();
        for number in 1..10_000 {
            assert_eq!(tracker.message(A, 1, number), Some(0));
            assert_eq!(tracker.message(NodeId::from_u64(number + 10), 1, 1), Some(0));
            assert!(tracker.young.len() + tracker.old.len() <= 2 * GENERATION + 1);
        }
        assert!(tracker.has_evicted);
    }

    proptest! {
        /// Whatever gets lost, is repeated or begins a new epoch: what is received and what is reported add up to what was
        /// posted, and nothing is received twice.
        #[test]
        fn received_and_reported_messages_add_up(steps in proptest::collection::vec((0..6_u8, 1..4_u64), 0..200)) {
            let mut tracker = SequenceTracker::default();
            let (mut posted, mut accounted, mut epoch, mut sequence, mut covered) = (0, 0, 1, 0, 0);
            for (step, count) in steps {
                match step {
                    0 => sequence += count, // lost
                    1 if sequence > 0 => {
                        accounted += tracker.message(A, epoch, sequence.saturating_sub(count).max(1)).map_or(0, |n| n + 1);
                    }
                    2 if sequence > covered => {
                        accounted += tracker.digest(A, &span(epoch, covered + 1, sequence), Everything);
                        covered = sequence;
                    }
                    3 => {
                        // Covered before it ends.
                        if sequence > covered {
                            accounted += tracker.digest(A, &span(epoch, covered + 1, sequence), Everything);
                        }
                        posted += sequence;
                        (epoch, sequence, covered) = (epoch + 1, 0, 0);
                    }
                    _ => {
                        sequence += 1;
                        let before = tracker.message(A, epoch, sequence);
                        prop_assert!(before.is_some(), "a new one taken for a repeat");
                        accounted += before.map_or(0, |n| n + 1);
                    }
                }
            }
            if sequence > covered {
                accounted += tracker.digest(A, &span(epoch, covered + 1, sequence), Everything);
            }
            prop_assert_eq!(accounted, posted + sequence);
        }
    }
}
