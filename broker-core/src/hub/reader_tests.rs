//! Readers that differ, on one ring, against a model: capacities, the newest only, subscriptions that begin later, and a
//! limit in bytes.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::put;
use super::*;
use crate::{
    Codec, Headers, Malformed, MessageId,
    message::{Head, Wire},
};

/// What is put, and what is read.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Message(u64),
    Malformed,
    Gap(Option<u64>, GapCause),
}

impl Item {
    fn entry(&self, bytes: usize) -> Entry {
        match self {
            Self::Message(number) => {
                let head = Head::global(
                    MessageId { origin: NodeId::from_u64(1), number: *number },
                    std::num::NonZero::new(1),
                    Headers::new(),
                    Default::default(),
                );
                let payload = Bytes::from(vec![0; bytes]);
                Entry::Message(Message::from_wire(Wire::new(head, None, Codec::Raw, payload)))
            }
            Self::Malformed => Entry::malformed(Malformed::new("not ours", 1)),
            Self::Gap(missed, cause) => Entry::gap(Gap::new(*missed, *cause)),
        }
    }

    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Message(message) => Self::Message(message.id().number()),
            Entry::Notice(notice) => match &**notice {
                Notice::Gap(gap) => Self::Gap(gap.missed, gap.cause),
                Notice::Malformed(_) => Self::Malformed,
            },
        }
    }

    /// Messages that were here; messages known to be lost; whether some may be.
    fn weight(&self) -> (u64, u64, bool) {
        match self {
            Self::Message(_) | Self::Malformed => (1, 0, false),
            Self::Gap(Some(missed), _) => (0, *missed, false),
            Self::Gap(None, _) => (0, 0, true),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join { capacity: Option<u32>, latest: bool, pending: bool },
    Leave(usize),
    GoLive,
    Put(usize),
    Notice(u8, u64),
    Take(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let join = (proptest::option::of(1..12_u32), any::<bool>(), 0..4_u8);
    prop_oneof![
        2 => join.prop_map(|(capacity, latest, pending)| Step::Join { capacity, latest, pending: pending == 0 }),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => Just(Step::GoLive),
        8 => (0..20_usize).prop_map(Step::Put),
        2 => (0..5_u8, 1..9_u64).prop_map(|(kind, missed)| Step::Notice(kind, missed)),
        4 => (any::<usize>(), 1..6_usize).prop_map(|(who, most)| Step::Take(who, most)),
    ]
}

struct Reader {
    ring: Arc<Ring>,
    cursor: Cursor,
    capacity: usize,
    latest: bool,
    /// Where it stands in the model's log; `None` before its subscription begins.
    position: Option<usize>,
    /// It has not received yet that it has begun.
    unaware: bool,
}

/// Everything that was ever put, and from where on the ring has it.
#[derive(Default)]
struct Log {
    items: Vec<(Item, usize)>,
    first: usize,
}

impl Log {
    fn trim(&mut self, readers: &[Reader], most_bytes: usize, by_bytes: bool) {
        let tail = self.items.len();
        // What nobody stands before is gone.
        let oldest = readers.iter().filter_map(|reader| reader.position).min().unwrap_or(tail);
        self.first = self.first.max(oldest);
        let limit = readers.iter().map(|reader| reader.capacity).max().unwrap_or(0);
        let too_many = |first: usize| {
            let bytes: usize = self.items[first..].iter().map(|(_, bytes)| bytes).sum();
            tail - first > limit || (by_bytes && most_bytes > 0 && bytes > most_bytes)
        };
        while tail - self.first > 1 && too_many(self.first) {
            self.first += 1;
        }
    }

    /// What a reader receives when it looks now.
    fn take(&self, reader: &mut Reader, most: usize) -> Vec<Item> {
        let Some(at) = reader.position else { return Vec::new() };
        if std::mem::take(&mut reader.unaware) {
            return vec![Item::Gap(None, GapCause::Subscribed)];
        }
        let (tail, mut from) = (self.items.len(), at.max(self.first));
        if at == tail {
            return Vec::new();
        }
        if reader.latest {
            let newest = (from..tail).rev().find(|n| matches!(self.items[*n].0, Item::Message(_)));
            if let Some(newest) = newest {
                reader.position = Some(newest + 1);
                let mut items = self.conflated(at, from, newest);
                items.push(self.items[newest].0.clone());
                return items;
            }
        } else {
            from = from.max(tail.saturating_sub(reader.capacity));
        }
        let until = tail.min(from + if reader.latest { 1 } else { most });
        reader.position = Some(until);
        let (messages, lost, unknown) = self.sum(at, from);
        let mut items = Vec::new();
        if messages + lost > 0 {
            items.push(Item::Gap(Some(messages + lost), GapCause::Overflow));
        }
        if unknown {
            items.push(Item::Gap(None, GapCause::LinkLost));
        }
        items.extend(self.items[from..until].iter().map(|(item, _)| item.clone()));
        items
    }

    fn sum(&self, from: usize, until: usize) -> (u64, u64, bool) {
        let weights = self.items[from..until].iter().map(|(item, _)| item.weight());
        weights.fold((0, 0, false), |sum, item| (sum.0 + item.0, sum.1 + item.1, sum.2 | item.2))
    }

    /// The gaps for what lies before the newest; before `first` the ring has forgotten the cause.
    fn conflated(&self, at: usize, first: usize, newest: usize) -> Vec<Item> {
        let (messages, lost, _) = self.sum(at, newest);
        let forgotten = self.sum(at, first).2;
        let has = |cause| self.items[first..newest].iter().any(|(item, _)| *item == Item::Gap(None, cause));
        let mut items = Vec::new();
        for cause in [GapCause::LinkLost, GapCause::Dropped, GapCause::Skipped] {
            if has(cause) || (forgotten && cause == GapCause::LinkLost) {
                items.push(Item::Gap(None, cause));
            }
        }
        if lost > 0 {
            items.push(Item::Gap(Some(lost), GapCause::Skipped));
        }
        if messages > 0 {
            items.push(Item::Gap(Some(messages), GapCause::Conflated));
        }
        items
    }
}

fn take(reader: &mut Reader, most: usize) -> Vec<Item> {
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    match reader.ring.take(&mut reader.cursor, &mut batch, most, &mut cx) {
        Poll::Pending => assert!(batch.is_empty()),
        Poll::Ready(Err(reason)) => panic!("nobody ended it: {reason}"),
        Poll::Ready(Ok(())) => assert!(!batch.is_empty()),
    }
    batch.iter().rev().map(Item::of).collect()
}

fn notice(kind: u8, missed: u64) -> Item {
    match kind {
        0 => Item::Malformed,
        1 => Item::Gap(Some(missed), GapCause::Skipped),
        2 => Item::Gap(None, GapCause::Skipped),
        3 => Item::Gap(None, GapCause::Dropped),
        _ => Item::Gap(None, GapCause::LinkLost),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Every reader receives what its own options say, with exact numbers, whoever shares the ring with it.
    #[test]
    fn readers_that_differ_agree_with_the_model(
        capacity in 1..9_usize,
        most_bytes in prop_oneof![Just(0), 1..60_usize],
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let hub = Hub::new(capacity, most_bytes);
        let channel = ChannelName::new("c").unwrap();
        let (mut readers, mut log): (Vec<Reader>, Log) = (Vec::new(), Log::default());
        for step in steps {
            match step {
                Step::Join { capacity: own, latest, pending } if readers.len() < 60 => {
                    let reads = Reads { capacity: own, latest, pending, queueing: false };
                    let (ring, cursor) = hub.join(&channel, reads).unwrap();
                    let own = own.map_or(capacity, |own| own as usize);
                    let position = (!pending).then_some(log.items.len());
                    let capacity = if latest { own.min(16) } else { own };
                    readers.push(Reader { ring, cursor, capacity, latest, position, unaware: pending });
                }
                Step::Join { .. } => {}
                Step::Leave(who) => {
                    if let Some(who) = who.checked_rem(readers.len()) {
                        let reader = readers.swap_remove(who);
                        hub.leave(&reader.ring, &reader.cursor);
                        log.trim(&readers, most_bytes, false);
                    }
                }
                Step::GoLive => {
                    hub.go_live(&channel);
                    let pending = readers.iter_mut().filter(|reader| reader.position.is_none());
                    pending.for_each(|reader| reader.position = Some(log.items.len()));
                }
                Step::Put(bytes) => {
                    let item = Item::Message(log.items.len() as u64 + 1);
                    put(&hub, "c", item.entry(bytes), PutBy::Link);
                    log.items.push((item, bytes));
                    log.trim(&readers, most_bytes, true);
                }
                Step::Notice(kind, missed) => {
                    let item = notice(kind, missed);
                    put(&hub, "c", item.entry(0), PutBy::Link);
                    log.items.push((item, 0));
                    log.trim(&readers, most_bytes, true);
                }
                Step::Take(who, most) => {
                    if let Some(who) = who.checked_rem(readers.len()) {
                        let reader = &mut readers[who];
                        let expected = log.take(reader, most);
                        prop_assert_eq!(take(reader, most), expected);
                        log.trim(&readers, most_bytes, false);
                    }
                }
            }
            readers.iter().for_each(|reader| reader.ring.check(capacity, most_bytes as u32));
        }
        for reader in readers {
            hub.leave(&reader.ring, &reader.cursor);
        }
        prop_assert!(hub.channels().is_empty());
    }
}
