//! The hub against a model, and in a storm.

use std::{
    collections::VecDeque,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::{
    Codec, Headers, MessageId,
    message::{Head, Wire},
};

pub(super) fn entry(number: u64) -> Entry {
    let head = Head::global(
        MessageId { origin: NodeId::from_u64(1), number },
        std::num::NonZero::new(1),
        Headers::new(),
        Default::default(),
    );
    Entry::Message(Message::from_wire(Wire::new(head, None, Codec::Raw, Bytes::new())))
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

pub(super) fn put(hub: &Hub, channel: &str, entry: Entry, from: PutBy) {
    let mut wakes = WakeList::default();
    hub.put(channel, entry, from, &mut wakes);
    wakes.finish();
}

/// What one subscriber of the model holds.
struct Reader {
    ring: Arc<Ring>,
    cursor: Cursor,
    /// Numbers posted since it joined and not read yet.
    backlog: VecDeque<u64>,
}

/// Everything that is readable now: what was missed before it, and the numbers.
fn take(reader: &mut Reader, most: usize) -> Option<(Tally, Vec<u64>)> {
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    match reader.ring.take(&mut reader.cursor, &mut batch, most, &mut cx) {
        Poll::Pending => None,
        Poll::Ready(Err(reason)) => panic!("nobody ended it: {reason}"),
        Poll::Ready(Ok(())) => {
            let (mut missed, mut numbers) = (Tally::default(), Vec::new());
            for entry in batch.into_iter().rev() {
                match entry {
                    Entry::Message(message) => numbers.push(message.id().number()),
                    gap if numbers.is_empty() => missed = missed + gap.weight(),
                    other => panic!("not in front: {other:?}"),
                }
            }
            Some((missed, numbers))
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave(usize),
    Put,
    PutPinned,
    Pin,
    Unpin,
    Refuse,
    Take(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Join),
        1 => any::<usize>().prop_map(Step::Leave),
        4 => Just(Step::Put),
        2 => Just(Step::PutPinned),
        1 => Just(Step::Pin),
        1 => Just(Step::Unpin),
        1 => Just(Step::Refuse),
        4 => (any::<usize>(), 1..6_usize).prop_map(|(who, most)| Step::Take(who, most)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A subscriber gets every message since it joined, in order, by whichever way it was put; of what exceeds the
    /// capacity it receives the exact number; and the ring's invariants hold after every step.
    #[test]
    fn the_ring_agrees_with_the_model(capacity in 1..9_usize, steps in proptest::collection::vec(step(), 1..200)) {
        let hub = Hub::new(capacity, 0);
        let channel = name("c");
        let mut readers: Vec<Reader> = Vec::new();
        let (mut pins, mut posted) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Pin => pins.push(hub.pin(&channel).unwrap()),
                Step::Unpin => pins.pop().iter().for_each(|ring| _ = hub.unpin(ring)),
                Step::Refuse => {
                    hub.refuse(&channel, &CloseReason::BrokerClosed);
                    readers.drain(..).for_each(|reader| _ = hub.leave(&reader.ring, &reader.cursor));
                }
                Step::PutPinned => {
                    if let Some(ring) = pins.first() {
                        posted += 1;
                        let mut wakes = WakeList::default();
                        let Entry::Message(message) = entry(posted) else { unreachable!("a message") };
                        hub.put_pinned(ring, message, &mut wakes);
                        prop_assert!(!wakes.too_late);
                        wakes.finish();
                        readers.iter_mut().for_each(|reader| reader.backlog.push_back(posted));
                    }
                }
                Step::Join if readers.len() < 100 => {
                    let (ring, cursor) = hub.join(&channel, Reads::default()).unwrap();
                    readers.push(Reader { ring, cursor, backlog: VecDeque::new() });
                }
                Step::Join => {}
                Step::Leave(who) => {
                    if let Some(who) = who.checked_rem(readers.len()) {
                        let reader = readers.swap_remove(who);
                        let last = hub.leave(&reader.ring, &reader.cursor);
                        prop_assert_eq!(last, readers.is_empty());
                    }
                }
                Step::Put => {
                    posted += 1;
                    put(&hub, "c", entry(posted), PutBy::Link);
                    readers.iter_mut().for_each(|reader| reader.backlog.push_back(posted));
                }
                Step::Take(who, most) => {
                    if let Some(who) = who.checked_rem(readers.len()) {
                        let reader = &mut readers[who];
                        let lost = reader.backlog.len().saturating_sub(capacity);
                        reader.backlog.drain(..lost);
                        let count = most.min(reader.backlog.len());
                        let expected: Vec<u64> = reader.backlog.drain(..count).collect();
                        match take(reader, most) {
                            None => prop_assert!(expected.is_empty() && lost == 0),
                            Some((missed, got)) => {
                                prop_assert_eq!((missed.messages, missed.unknown), (lost as u64, 0));
                                prop_assert_eq!(got, expected);
                            }
                        }
                    }
                }
            }
            readers.iter().for_each(|reader| reader.ring.check(capacity, 0));
            prop_assert_eq!(hub.contains("c"), !readers.is_empty());
        }
        for reader in readers {
            hub.leave(&reader.ring, &reader.cursor);
        }
        prop_assert!(hub.channels().is_empty());
        pins.iter().for_each(|ring| _ = hub.unpin(ring));
        prop_assert!(hub.rings().is_empty());
    }
}

/// What was noted about a channel for its last subscribers is not true for the next: those of before a reconnect would be
/// reported missing.
#[test]
fn a_pinned_channel_begins_anew_with_its_next_subscriber() {
    let (hub, channel, origin) = (Hub::new(8, 0), name("c"), NodeId::from_u64(1));
    let pin = hub.pin(&channel).unwrap();
    let receive = |sequence| {
        let Entry::Message(message) = entry(sequence) else { unreachable!("a message") };
        hub.receive("c", message, &MessageSeq { origin, epoch: 1, sequence }, &mut WakeList::default());
    };
    let (ring, cursor) = hub.join(&channel, Reads::default()).unwrap();
    receive(1);
    assert!(hub.leave(&ring, &cursor));
    hub.set_subscribed(&channel); // of a subscription that is dropped meanwhile
    receive(2);
    let (ring, cursor) = hub.join(&channel, Reads::default()).unwrap();
    let mut reader = Reader { ring, cursor, backlog: VecDeque::new() };
    // A digest of what was posted before it, by a node that counts on what subscribed long ago.
    let span = Span { channel: channel.clone(), epoch: 1, first: 1, last: 8 };
    let probe_epochs = ProbeEpochs { begun: 9, made_after: 9, since: Some(8) };
    hub.compare(origin, &span, probe_epochs, &mut WakeList::default());
    receive(9);
    assert_eq!(take(&mut reader, 32), Some((Tally::default(), vec![9])));
    hub.leave(&reader.ring, &reader.cursor);
    hub.unpin(&pin);
    assert!(hub.rings().is_empty());
}

#[test]
fn two_hundred_subscribers_on_one_channel_receive_everything() {
    let hub = Hub::new(16, 0);
    let channel = name("busy");
    let join = |_| hub.join(&channel, Reads::default()).unwrap();
    let mut readers: Vec<Reader> =
        (0..200).map(join).map(|(ring, cursor)| Reader { ring, cursor, backlog: VecDeque::new() }).collect();
    (1..=10).for_each(|number| put(&hub, "busy", entry(number), PutBy::Here));
    for reader in &mut readers {
        assert_eq!(take(reader, 32), Some((Tally::default(), (1..=10).collect())));
    }
    assert!(readers.drain(..).any(|reader| hub.leave(&reader.ring, &reader.cursor)));
    assert!(hub.channels().is_empty());
}

#[test]
fn the_gap_of_a_lost_link_stands_before_the_first_entry_of_the_next() {
    let hub = Hub::new(16, 0);
    let channel = name("c");
    let (ring, mut cursor) = hub.join(&channel, Reads::default()).unwrap();
    let gap = Entry::gap(Gap::new(None, GapCause::LinkLost));
    put(&hub, "c", entry(1), PutBy::Link);
    hub.mark_gap(&channel, &gap);
    put(&hub, "c", entry(2), PutBy::Here); // a local post: nothing is subscribed again yet
    put(&hub, "c", entry(3), PutBy::Link);
    hub.flush_gap(&channel); // told already
    let mut batch = Vec::new();
    let taken = ring.take(&mut cursor, &mut batch, 32, &mut Context::from_waker(Waker::noop()));
    assert!(taken.is_ready());
    let seen: Vec<String> = batch
        .into_iter()
        .rev()
        .map(|entry| match entry {
            Entry::Message(message) => message.id().number().to_string(),
            Entry::Notice(_) => "gap".to_owned(),
        })
        .collect();
    assert_eq!(seen, ["1", "2", "gap", "3"]);
}

#[test]
fn a_gap_of_unknown_size_survives_an_overflow() {
    let taken = Tally { messages: 7, lost: 0, unknown: 2 };
    let told = [Gap::new(Some(7), GapCause::Overflow), Gap::new(None, GapCause::LinkLost)];
    assert!(taken.gaps().eq(told));
    assert_eq!(Tally::default().gaps().count(), 0);
}

/// Whoever can write to the backend can make a channel report any number.
#[test]
fn what_is_missing_stays_exact_behind_any_number() {
    let hub = Hub::new(4, 0);
    let (ring, cursor) = hub.join(&name("news"), Reads::default()).unwrap();
    let mut reader = Reader { ring, cursor, backlog: VecDeque::new() };
    for missed in [u64::MAX, u64::MAX - 1, u64::from(u32::MAX), 1 << 48] {
        put(&hub, "news", Entry::gap(Gap::new(Some(missed), GapCause::Skipped)), PutBy::Link);
        take(&mut reader, 32).unwrap();
        put(&hub, "news", Entry::gap(Gap::new(Some(5), GapCause::Skipped)), PutBy::Link);
        (1..=10).for_each(|number| put(&hub, "news", entry(number), PutBy::Link));
        let (missed, numbers) = take(&mut reader, 32).unwrap();
        assert_eq!((missed.messages, missed.unknown, numbers), (5 + 6, 0, vec![7, 8, 9, 10]));
    }
}

/// Subscribers come and go on several threads while others post: every message after joining arrives or is
/// counted, and nothing is left.
#[test]
fn load_leaves_nothing_behind_and_no_hole_unreported() {
    const CAPACITY: usize = 8;
    let hub = Hub::new(CAPACITY, 0);
    let channel = name("storm");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (1..=20_000).for_each(|number| put(&hub, "storm", entry(number), PutBy::Link)));
        }
        scope.spawn(|| {
            for number in 1..=20_000 {
                let pin = hub.pin(&channel).unwrap();
                let Entry::Message(message) = entry(number) else { unreachable!("a message") };
                let mut wakes = WakeList::default();
                hub.put_pinned(&pin, message, &mut wakes);
                wakes.finish();
                hub.unpin(&pin);
            }
        });
        for thread in 0..3_u64 {
            let (hub, channel) = (&hub, &channel);
            scope.spawn(move || {
                for round in 0..2_000 {
                    let (ring, cursor) = hub.join(channel, Reads::default()).unwrap();
                    let mut reader = Reader { ring, cursor, backlog: VecDeque::new() };
                    for _ in 0..(thread + round) % 4 {
                        let _ = take(&mut reader, 3);
                        reader.ring.check(CAPACITY, 0);
                    }
                    hub.leave(&reader.ring, &reader.cursor);
                }
            });
        }
    });
    assert!(hub.rings().is_empty());
}

/// The end counts who has still to read; a subscriber that leaves at that moment is counted off. Real threads and many rounds, for
/// it is a matter of nanoseconds.
#[test]
fn a_subscriber_that_leaves_beside_the_end_is_not_waited_for() {
    for round in 0..500 {
        let (hub, news) = (Arc::new(Hub::new(8, 0)), name("news"));
        let seats: Vec<_> = (0..200).map(|_| hub.join(&news, Reads::default()).unwrap()).collect();
        seats.iter().for_each(|(ring, cursor)| ring.begin(cursor.seat, false));
        put(&hub, "news", entry(1), PutBy::Link);
        let barrier = Arc::new(Barrier::new(2));
        let leaving = {
            let (hub, barrier) = (Arc::clone(&hub), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                seats.iter().for_each(|(ring, cursor)| _ = hub.leave(ring, cursor));
            })
        };
        barrier.wait();
        hub.end();
        leaving.join().unwrap();
        assert!(
            hub.drained().now_or_never().is_some(),
            "round {round}: all have left, and one is waited for"
        );
    }
}
