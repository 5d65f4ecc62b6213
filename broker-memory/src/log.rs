//! Log: the records of one revocation log of a bus, with consecutive numbers; the oldest go by age.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use broker_core::driver::{LogCursor, LogDiscontinuity, LogPage, random};
use bytes::Bytes;

/// How many records a page holds.
const PAGE: usize = 1000;

/// See the module.
#[derive(Clone)]
pub(crate) struct Log {
    /// Another one after it was wiped: the numbers then begin anew.
    epoch: u64,
    next: u64,
    kept: VecDeque<(Instant, Bytes)>,
    /// It was wiped, and nobody has read it since.
    wiped: bool,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { epoch: random(), next: 0, kept: VecDeque::new(), wiped: false }
    }

    pub(crate) fn append(&mut self, record: Bytes, retention: Duration) {
        let now = Instant::now();
        while self.kept.front().is_some_and(|(when, _)| now.duration_since(*when) > retention) {
            self.kept.pop_front();
        }
        self.kept.push_back((now, record));
        self.next += 1;
    }

    pub(crate) fn read(&mut self, after: &LogCursor) -> LogPage {
        let first = self.next - self.kept.len() as u64;
        let broken = after.place().and_then(|place| match parse(place) {
            Some((epoch, _)) if epoch != self.epoch => Some(LogDiscontinuity::Replaced),
            Some((_, number)) if number > self.next => Some(LogDiscontinuity::RolledBack),
            Some((_, number)) if number < first => Some(LogDiscontinuity::Trimmed),
            Some(_) => None,
            None => Some(LogDiscontinuity::Replaced),
        });
        let place = after.place().filter(|_| broken.is_none()).and_then(parse);
        let from = place.map_or(first, |(_, number)| number);
        let unread = self.kept.iter().skip((from - first) as usize);
        let records: Vec<Bytes> = unread.take(PAGE).map(|(_, record)| record.clone()).collect();
        let end = from + records.len() as u64;
        let cursor = LogCursor::new(format!("{}/{end}", self.epoch));
        let created = std::mem::take(&mut self.wiped);
        LogPage { records, cursor, more: end < self.next, broken, created }
    }

    /// Makes another log of it. The bus knows that there was one; of a log that is new it knows that there was none.
    pub(crate) fn wipe(&mut self) {
        *self = Self { wiped: true, ..Self::new() };
    }

    /// Drops every record there is.
    pub(crate) fn trim(&mut self) {
        self.kept.clear();
    }
}

fn parse(place: &str) -> Option<(u64, u64)> {
    let (epoch, number) = place.split_once('/')?;
    Some((epoch.parse().ok()?, number.parse().ok()?))
}
