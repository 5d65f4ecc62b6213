//! Tests of the receiver of digests, with a sender.

use super::*;
use crate::{
    ChannelName, Error, ErrorKind, Receipt,
    loss::digest_sender::{DigestSender, Sending},
    wire::digest::Span,
    wire::frame,
};

const OWN: NodeId = NodeId::from_u64(99);
const NODE: NodeId = NodeId::from_u64(1);
const OTHER: NodeId = NodeId::from_u64(2);
/// The interval of its digests, in milliseconds.
const INTERVAL: u32 = 5000;

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

/// Whether something is missing, and since when a digest covers everything.
fn receive(receiver: &mut DigestReceiver, round: &[(u64, Digest)], back: u64) -> Vec<(bool, Option<u64>)> {
    let proofs = round.iter().map(|(number, digest)| receiver.receive(NODE, *number, digest, back));
    proofs.map(|proof| (proof.missing, proof.since)).collect()
}

const UNKNOWN: (bool, Option<u64>) = (false, None);
const MISSING: (bool, Option<u64>) = (true, None);

fn since(probe_epoch: u64) -> (bool, Option<u64>) {
    (false, Some(probe_epoch))
}

#[test]
fn a_round_of_digests_covers_all_posts_since_the_last() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    let mut round = |count| confirm(sender.next(NODE, spans(count), INTERVAL));
    assert_eq!(receive(&mut receiver, &round(1), 5), [UNKNOWN], "the first one received");
    let second = round(400);
    assert_eq!(second.len(), 3);
    assert_eq!(receive(&mut receiver, &second, 6), [since(5); 3]);
    assert_eq!(receive(&mut receiver, &round(0), 7), [since(6)], "one more, and empty");
    assert_eq!(round(0), [], "then silence");
    assert_eq!(receive(&mut receiver, &round(1), 8), [since(7)]);
    assert_eq!(receiver.count, 8, "two of the second round are long, and count twice");
}

#[test]
fn any_lost_digest_is_detected_at_the_next() {
    for lost in 0..3 {
        let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
        let mut round = |count| confirm(sender.next(NODE, spans(count), INTERVAL));
        receive(&mut receiver, &round(1), 1);
        let mut second = round(400);
        second.remove(lost);
        let mut proofs = receive(&mut receiver, &second, 2);
        proofs.extend(receive(&mut receiver, &round(0), 3));
        let missing = proofs.iter().filter(|(missing, _)| *missing).count();
        assert_eq!(missing, 1, "{lost} lost: {proofs:?}");
        assert_eq!(receive(&mut receiver, &round(1), 4).last(), Some(&since(3)));
    }
}

#[test]
fn a_failed_round_is_sent_again_and_nothing_counts_as_missing() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1);
    drop(sender.next(NODE, spans(400), INTERVAL)); // the link broke
    let again = confirm(sender.next(NODE, spans(2), INTERVAL));
    let total: usize = again.iter().map(|(_, digest)| digest.spans.len()).sum();
    assert_eq!(total, 402);
    assert_eq!(receive(&mut receiver, &again, 2), [since(1); 3]);
}

#[test]
fn a_failed_round_that_arrived_is_neither_proof_nor_loss() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1);
    let failed = sender.next(NODE, spans(1), INTERVAL).into_iter().map(|(frame, _)| {
        let (wire, header) = frame::decode(&frame.freeze()).unwrap();
        (header.number, Digest::decode(&wire.payload).unwrap())
    });
    let failed: Vec<_> = failed.collect();
    assert_eq!(receive(&mut receiver, &failed, 2), [since(1)]);
    assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(0), INTERVAL)), 3), [UNKNOWN]);
    assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 4), [since(3)]);
}

#[test]
fn too_many_unconfirmed_spans_become_an_unknown_loss() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1);
    let flood = confirm(sender.next(NODE, spans(200_001), INTERVAL));
    assert_eq!(receive(&mut receiver, &flood, 2), [MISSING]);
}

fn asked(sender: &mut DigestSender, ask: u64) -> Vec<(u64, Digest)> {
    sender.asked(ask);
    confirm(sender.next(NODE, Vec::new(), INTERVAL))
}

#[test]
fn an_answer_proves_what_was_posted_after_the_question() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receiver.ask(70, 4);
    receiver.ask(71, 5);
    assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1), [UNKNOWN]);
    // An answer to others, one to the first question, one to both; the older one changes nothing.
    for (ask, proven) in [(9, 1), (70, 1), (71, 4), (70, 5)] {
        assert_eq!(receive(&mut receiver, &asked(&mut sender, ask), 1), [since(proven)], "{ask}");
    }
    assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1), [since(5)]);
    assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 6), [since(5)]);
    assert_eq!(receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 6), [since(6)]);
}

#[test]
fn the_first_round_of_a_node_is_empty_and_answers_are_too() {
    let mut sender = DigestSender::default();
    let first = confirm(sender.next(NODE, Vec::new(), INTERVAL));
    assert_eq!((first.len(), first[0].0, first[0].1.after, first[0].1.begin), (1, 1, 0, 1));
    assert_eq!(confirm(sender.next(NODE, Vec::new(), INTERVAL)), []);
    assert_eq!(asked(&mut sender, 7)[0].1.answers, [7]);
    assert_eq!(confirm(sender.next(NODE, Vec::new(), INTERVAL)), []);
    (0..1000).for_each(|ask| sender.asked(ask % 500));
    let round = confirm(sender.next(NODE, spans(400), INTERVAL));
    assert_eq!(round[0].1.answers, (0..64).collect::<Vec<_>>());
    assert!(round.len() > 1 && round[1..].iter().all(|(_, digest)| digest.answers.is_empty()));
    assert_eq!(
        confirm(sender.next(NODE, Vec::new(), 0))[0].1.next,
        0,
        "it closes, whatever there is to report"
    );
}

#[test]
fn who_does_not_answer_is_asked_again_and_then_given_up() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receiver.ask(70, 4);
    assert!(receiver.ask_again(4, 1), "the first question of a link, twice");
    receiver.ask(71, 5);
    assert!(!receiver.ask_again(4, 2), "nobody is known");
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 3);
    assert!(!receiver.ask_again(3, 1), "it need not answer: its digest is new enough");
    assert!((1..TRIES).all(|tries| receiver.ask_again(4, tries)));
    assert!(!receiver.ask_again(4, TRIES));
    assert!(!receiver.ask_again(4, 1), "given up");
    receiver.received_from(NODE);
    assert!(receiver.ask_again(4, 1), "it is there again");
    receive(&mut receiver, &asked(&mut sender, 71), 3);
    assert!(!receiver.ask_again(5, 1));
}

#[test]
fn a_node_that_owes_a_digest_and_is_silent_is_noticed_once() {
    let second = Duration::from_secs(1);
    let seconds = |receiver: &mut DigestReceiver| (0..60).filter(|_| receiver.look(second)).count();
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receiver.received_from(OTHER);
    assert_eq!(seconds(&mut receiver), 0, "it has never sent a digest");
    receive(&mut receiver, &confirm(sender.next(NODE, Vec::new(), INTERVAL)), 1);
    assert_eq!(seconds(&mut receiver), 0, "it owes none");
    receiver.received_from(NODE);
    assert_eq!((0..16).position(|_| receiver.look(second)), Some(15), "after three intervals");
    assert_eq!(seconds(&mut receiver), 0, "told once");
    receiver.received_from(NODE);
    for posted in [1, 0] {
        assert!(!(0..14).any(|_| receiver.look(second)));
        receive(&mut receiver, &confirm(sender.next(NODE, spans(posted), INTERVAL)), 1);
    }
    assert_eq!(seconds(&mut receiver), 0, "an empty digest has followed");
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1);
    assert_eq!(seconds(&mut receiver), 1, "none has");
    receiver.received_from(NODE);
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), 0)), 1);
    assert_eq!((seconds(&mut receiver), receiver.nodes.len()), (0, 0), "it has closed");
}

/// How often a node was noticed that has fallen silent, in as many looks.
fn noticed(receiver: &mut DigestReceiver) -> usize {
    (0..60).filter(|_| receiver.look(Duration::from_secs(1))).count()
}

/// On a cluster a message and a digest take two connections.
#[test]
fn empty_digests_that_a_message_overtook_settle_nothing() {
    for (known, looks) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
        let first = confirm(sender.next(NODE, Vec::new(), INTERVAL));
        let late = [asked(&mut sender, 7), asked(&mut sender, 8)];
        if known {
            receive(&mut receiver, &first, 1);
        }
        receiver.received_from(NODE);
        (0..looks).for_each(|_| assert!(!receiver.look(Duration::from_secs(1))));
        late.iter().for_each(|round| _ = receive(&mut receiver, round, 1));
        assert_eq!(noticed(&mut receiver), 1, "killed; known before: {known}, looks in between: {looks}");
        // Had it not been killed, two digests would have followed.
        receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1);
        receive(&mut receiver, &confirm(sender.next(NODE, Vec::new(), INTERVAL)), 1);
        assert_eq!(noticed(&mut receiver), 0);
    }
}

#[test]
fn an_empty_digest_settles_what_a_lost_or_a_refused_one_has_listed() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receive(&mut receiver, &confirm(sender.next(NODE, Vec::new(), INTERVAL)), 1);
    receiver.received_from(NODE);
    confirm(sender.next(NODE, spans(1), INTERVAL));
    let behind = confirm(sender.next(NODE, Vec::new(), INTERVAL));
    assert_eq!(receive(&mut receiver, &behind, 1), [MISSING], "told on every channel");
    assert_eq!(noticed(&mut receiver), 0, "and not again");
    receiver.received_from(NODE);
    for (_, outcome) in sender.next(NODE, spans(1), INTERVAL) {
        outcome.send(Err(Error::new(ErrorKind::Forbidden, "no digest of this length"))).unwrap();
    }
    receive(&mut receiver, &asked(&mut sender, 7), 1);
    assert_eq!(noticed(&mut receiver), 0, "it lives, and is quiet");
}

#[test]
fn a_node_of_short_intervals_may_be_silent_for_longer_than_three() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), 100)), 1);
    let mut looks = (0..60).map(|_| receiver.look(Duration::from_millis(100)));
    // The first look sees that it was heard.
    assert_eq!(looks.position(|silent| silent), Some(40));
}

#[test]
fn a_node_is_never_silent_for_itself() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(NODE));
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1);
    assert!(!(0..60).any(|_| receiver.look(Duration::from_secs(1))));
}

#[test]
fn nodes_that_are_gone_make_room_for_others() {
    let mut receiver = DigestReceiver::new(OWN);
    let digest = |spans| Digest { after: 0, begin: 1, next: INTERVAL, answers: Vec::new(), spans };
    for node in 0..NODES as u64 {
        let spans = if node < 10 { Vec::new() } else { spans(1) };
        receiver.receive(NodeId::from_u64(node), 1, &digest(spans), 1);
    }
    receiver.look(Duration::ZERO);
    assert!((0..3).any(|_| receiver.look(Duration::from_secs(10))));
    receiver.receive(NodeId::from_u64(u64::MAX), 1, &digest(Vec::new()), 1);
    // Ten that owe nothing, this node itself, and the new one.
    assert_eq!(receiver.nodes.len(), 12);
    assert!(size_of::<(NodeId, Node)>() <= 64);
}

#[test]
fn the_highest_number_that_a_frame_can_name_is_a_number() {
    let mut receiver = DigestReceiver::new(OWN);
    let digest = Digest { after: u64::MAX, begin: 1, next: INTERVAL, answers: Vec::new(), spans: Vec::new() };
    for _ in 0..2 {
        assert!(!receiver.receive(NODE, u64::MAX, &digest, 0).missing);
    }
}

#[test]
fn answers_do_not_make_digests_rarer() {
    let (mut sender, mut receiver) = (DigestSender::default(), DigestReceiver::new(OWN));
    for ask in 1..=3 {
        sender.asked(ask);
        let round = confirm(sender.next(NODE, spans(400), INTERVAL));
        assert_eq!(round.len(), 3, "only the first part names the question");
        receive(&mut receiver, &round, 1);
    }
    assert_eq!(receiver.count, 0);
    receive(&mut receiver, &confirm(sender.next(NODE, spans(1), INTERVAL)), 1);
    assert_eq!(receiver.count, 1);
}
