//! DigestReceiver: which digests of other nodes have been received through one link, and so which are missing.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::{NodeId, wire::digest::Digest};

/// How many nodes are remembered. With more all are forgotten, and counting begins anew.
const NODES: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DigestReceiver {
    nodes: HashMap<NodeId, Last, RandomState>,
    /// How many digests were received since the last query.
    pub(crate) count: u32,
}

/// The last digest received from a node.
#[derive(Clone, Copy, Debug)]
struct Last {
    number: u64,
    /// When it was received: the newest probe epoch that had come back by then.
    probe_epoch: u64,
    /// The round it belongs to, and since when that round covers everything.
    begin: u64,
    since: Option<u64>,
}

/// What a digest proves beyond what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// A digest before it is missing, and so anything may be.
    pub(crate) missing: bool,
    /// All that it covers was posted after this probe epoch had come back here: a channel subscribed before that should
    /// have received it. `None` when that is unknown.
    pub(crate) since: Option<u64>,
}

impl DigestReceiver {
    pub(crate) fn receive(
        &mut self,
        origin: NodeId,
        number: u64,
        digest: &Digest,
        probe_epoch: u64,
    ) -> Proof {
        self.count = self.count.saturating_add(1);
        let (begin, after) = (digest.begin, digest.after);
        let proof = match self.nodes.get(&origin) {
            None => Proof { missing: false, since: None },
            Some(last) => {
                let next = if last.begin == begin { last.number + 1 } else { begin };
                let missing = after > last.number || number > next;
                let since = if last.begin == begin { last.since } else { Some(last.probe_epoch) };
                // Only what was posted after the last digest received is known to be that.
                let known = !missing && (last.begin == begin || after == last.number);
                Proof { missing, since: since.filter(|_| known) }
            }
        };
        if self.nodes.len() >= NODES && !self.nodes.contains_key(&origin) {
            self.nodes = HashMap::default();
        }
        self.nodes.insert(origin, Last { number, probe_epoch, begin, since: proof.since });
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ChannelName, Receipt,
        loss::digest_sender::{DigestSender, Sending},
        wire::digest::Span,
        wire::frame,
    };

    const NODE: NodeId = NodeId::from_u64(1);

    fn spans(count: u64) -> Vec<Span> {
        let channel = ChannelName::internal("n".repeat(200));
        (1..=count).map(|last| Span { channel: channel.clone(), epoch: 1, first: last, last }).collect()
    }

    fn confirm(round: Vec<Sending>) -> Vec<(u64, Digest)> {
        let sent = round.into_iter().map(|(frame, outcome)| {
            outcome.send(Ok(Receipt::new())).unwrap();
            let (wire, header) = frame::decode(&frame.freeze()).unwrap();
            (header.number, Digest::decode(&wire.payload).unwrap())
        });
        sent.collect()
    }

    fn receive(receiver: &mut DigestReceiver, round: &[(u64, Digest)], probe_epoch: u64) -> Vec<Proof> {
        round.iter().map(|(number, digest)| receiver.receive(NODE, *number, digest, probe_epoch)).collect()
    }

    const UNKNOWN: Proof = Proof { missing: false, since: None };
    const MISSING: Proof = Proof { missing: true, since: None };

    fn since(probe_epoch: u64) -> Proof {
        Proof { missing: false, since: Some(probe_epoch) }
    }

    #[test]
    fn a_round_of_digests_covers_all_posts_since_the_last() {
        let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::default());
        let mut round = |count| confirm(sender.next(NODE, spans(count)));
        assert_eq!(receive(&mut receiver, &round(1), 5), [UNKNOWN], "the first one received");
        let second = round(400);
        assert_eq!(second.len(), 3);
        assert_eq!(receive(&mut receiver, &second, 6), [since(5); 3]);
        assert_eq!(receive(&mut receiver, &round(0), 7), [since(6)], "one more, and empty");
        assert_eq!(round(0), [], "then silence");
        assert_eq!(receive(&mut receiver, &round(1), 8), [since(7)]);
        assert_eq!(receiver.count, 6);
    }

    #[test]
    fn any_lost_digest_is_detected_at_the_next() {
        for lost in 0..3 {
            let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::default());
            let mut round = |count| confirm(sender.next(NODE, spans(count)));
            receive(&mut receiver, &round(1), 1);
            let mut second = round(400);
            second.remove(lost);
            let mut proofs = receive(&mut receiver, &second, 2);
            proofs.extend(receive(&mut receiver, &round(0), 3));
            let missing = proofs.iter().filter(|proof| proof.missing).count();
            assert_eq!(missing, 1, "{lost} lost: {proofs:?}");
            assert_eq!(receive(&mut receiver, &round(1), 4).last(), Some(&since(3)));
        }
    }

    #[test]
    fn a_failed_round_is_sent_again_and_nothing_counts_as_missing() {
        let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::default());
        receive(&mut receiver, &confirm(sender.next(NODE, spans(1))), 1);
        drop(sender.next(NODE, spans(400))); // the link broke
        let again = confirm(sender.next(NODE, spans(2)));
        let total: usize = again.iter().map(|(_, digest)| digest.spans.len()).sum();
        assert_eq!(total, 402);
        assert_eq!(receive(&mut receiver, &again, 2), [since(1); 3]);
    }

    #[test]
    fn a_failed_round_that_arrived_is_neither_proof_nor_loss() {
        let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::default());
        receive(&mut receiver, &confirm(sender.next(NODE, spans(1))), 1);
        let failed = sender.next(NODE, spans(1)).into_iter().map(|(frame, _)| {
            let (wire, header) = frame::decode(&frame.freeze()).unwrap();
            (header.number, Digest::decode(&wire.payload).unwrap())
        });
        let failed: Vec<_> = failed.collect();
        assert_eq!(receive(&mut receiver, &failed, 2), [since(1)]);
        assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(0))), 3), [UNKNOWN]);
        assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(1))), 4), [since(3)]);
    }

    #[test]
    fn too_many_unconfirmed_spans_become_an_unknown_loss() {
        let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::default());
        receive(&mut receiver, &confirm(sender.next(NODE, spans(1))), 1);
        let flood = confirm(sender.next(NODE, spans(200_001)));
        assert_eq!(receive(&mut receiver, &flood, 2), [MISSING]);
    }
}
