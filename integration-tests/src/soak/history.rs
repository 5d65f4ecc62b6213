//! History: everything that the nodes said, put together in a form that stays small.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use super::record::Record;

/// Messages from the first to the last, both of them included.
pub type Range = (u64, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    /// What each incarnation of a node posted, by channel.
    pub(super) posted: HashMap<(u32, u32), Posted>,
    /// What each incarnation of a node received, by channel.
    pub(super) received: HashMap<(u32, u32), Received>,
    /// When each was connected and not, in turn.
    pub(super) connected: HashMap<u32, Vec<(bool, u64)>>,
    /// Those that came to their end in good order.
    pub(super) done: Vec<u32>,
}

/// What one publisher posted on one channel.
#[derive(Debug, Default)]
pub(super) struct Posted {
    /// From these times on it posted these numbers.
    pub(super) marks: Vec<(u64, u64)>,
    /// Every post below has an outcome.
    pub(super) known: u64,
    /// Those that were not accepted, and whether they may have been delivered all the same.
    pub(super) failed: BTreeMap<u64, bool>,
}

/// What one subscriber received on one channel.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// When it was subscribed.
    pub(super) since: u64,
    /// What each publisher's messages were, and behind how many gaps each range stands.
    pub(super) ranges: HashMap<u32, Vec<(Range, usize)>>,
    /// The gaps, in order.
    pub(super) gaps: Vec<Gap>,
    /// What came although a higher number of its publisher had come.
    pub(super) backwards: Vec<(u32, u64)>,
}

/// A gap that was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// How many messages it tells of, if it says so.
    pub(super) missed: Option<u64>,
    /// When it was received.
    pub(super) at: u64,
}

impl History {
    /// A node said something.
    pub fn note(&mut self, node: u32, record: Record) {
        match record {
            Record::Subscribed { channel, at } => {
                self.received.entry((node, channel)).or_default().since = at;
            }
            Record::Received { channel, publisher, first, last } => {
                self.received.entry((node, channel)).or_default().add(publisher, first, last);
            }
            Record::Gap { channel, missed, at } => {
                self.received.entry((node, channel)).or_default().gaps.push(Gap { missed, at });
            }
            Record::Backwards { channel, publisher, number } => {
                self.received.entry((node, channel)).or_default().backwards.push((publisher, number));
            }
            Record::Posted { channel, at, next, known } => {
                let posted = self.posted.entry((node, channel)).or_default();
                posted.marks.push((at, next));
                posted.known = known;
            }
            Record::Failed { channel, number, perhaps } => {
                self.posted.entry((node, channel)).or_default().failed.insert(number, perhaps);
            }
            Record::Connected { now, at } => self.connected.entry(node).or_default().push((now, at)),
            Record::Done => self.done.push(node),
        }
    }

    /// Whether a node is connected, by the last it said.
    #[must_use]
    pub fn is_connected(&self, node: u32) -> bool {
        self.connected.get(&node).and_then(|said| said.last()).is_some_and(|(now, _)| *now)
    }

    /// Sums over everything so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let sent =
            self.posted.values().filter_map(|posted| posted.marks.last()).map(|(_, next)| next - 1).sum();
        let failed: usize = self.posted.values().map(|posted| posted.failed.len()).sum();
        let ranges = self.received.values().flat_map(|received| received.ranges.values().flatten());
        let delivered = ranges.map(|((first, last), _)| last - first + 1).sum();
        Totals { sent, failed: failed as u64, delivered }
    }
}

impl Posted {
    /// Every post from this number on began later than that time, for certain.
    pub(super) fn began_after(&self, time: u64) -> u64 {
        self.marks.iter().find(|(at, _)| *at >= time).map_or(u64::MAX, |(_, next)| *next)
    }

    /// How many posts of a range were accepted.
    pub(super) fn accepted(&self, first: u64, until: u64) -> u64 {
        let until = until.min(self.known);
        if first >= until { 0 } else { until - first - self.failed.range(first..until).count() as u64 }
    }

    /// The number behind the first `count` accepted posts of a range.
    pub(super) fn behind(&self, first: u64, until: u64, count: u64) -> u64 {
        let numbers = (first..until).filter(|number| !self.failed.contains_key(number));
        numbers.take(count as usize).last().map_or(first, |last| last + 1)
    }
}

impl Received {
    fn add(&mut self, publisher: u32, first: u64, last: u64) {
        let gaps = self.gaps.len();
        let ranges = self.ranges.entry(publisher).or_default();
        match ranges.last_mut() {
            Some(((_, end), behind)) if *end + 1 == first && *behind == gaps => *end = last,
            _ => ranges.push(((first, last), gaps)),
        }
    }
}

/// Sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// How many messages were posted.
    pub sent: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many were received, over all subscribers.
    pub delivered: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} of them failed, {} delivered", self.sent, self.failed, self.delivered)
    }
}
