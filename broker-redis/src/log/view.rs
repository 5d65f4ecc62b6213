//! View: the stream at one moment, and whether a reader's place in it is still one.

use broker_core::driver::{LogDiscontinuity, LogPage};
use bytes::Bytes;
use redis::Value;

use super::{
    EPOCH, FIELD,
    place::{Id, Place},
};

/// The stream at one moment, and its entries after a place.
#[derive(Debug)]
pub(crate) struct View {
    head: Head,
    /// The entries that were asked for, oldest first.
    entries: Vec<Entry>,
    /// As many of them as were asked for: there may be more.
    full: bool,
}

/// What there is to know of the stream itself. Of two that are the same nothing was added or deleted in between:
/// the one makes `added` grow, the other `length` shrink, and another stream has another identity.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The identities of the stream: more than one if several nodes made it at the same time.
    epochs: Vec<String>,
    /// How many entries were ever added.
    added: u64,
    /// How many there are.
    length: u64,
    /// The id that was given out last.
    last: Id,
}

#[derive(Debug)]
struct Entry {
    id: Id,
    records: Vec<Bytes>,
}

impl Head {
    /// From the answers to `XINFO GROUPS` and `XINFO STREAM`. `None`: they are not.
    pub(crate) fn new(groups: &Value, stream: &Value) -> Option<Self> {
        let Value::Array(groups) = groups else { return None };
        let names = groups.iter().filter_map(|group| text(field(group, "name")?));
        let head = Self {
            epochs: names.filter(|name| name.starts_with(EPOCH)).map(str::to_owned).collect(),
            added: number(field(stream, "entries-added")?)?,
            length: number(field(stream, "length")?)?,
            last: Id::parse(text(field(stream, "last-generated-id")?)?)?,
        };
        // The server keeps it so; a place counted from anything else would not hold.
        (head.length <= head.added).then_some(head)
    }

    /// Whether it has an identity. One that another program made has none, nor has one that an append made.
    pub(crate) fn has_epoch(&self) -> bool {
        !self.epochs.is_empty()
    }
}

impl View {
    /// With the answer to `XRANGE … COUNT count` at the same moment. `None`: it is not.
    pub(crate) fn new(head: Head, range: Value, count: usize) -> Option<Self> {
        let Value::Array(range) = range else { return None };
        let entries: Vec<Entry> = range.into_iter().map(entry).collect::<Option<_>>()?;
        let full = entries.len() >= count;
        (entries.len() as u64 <= head.length).then_some(Self { head, entries, full })
    }

    /// The id that was given out last.
    pub(crate) fn last(&self) -> Id {
        self.head.last
    }

    /// Why this place is none any more; `None`: it is one. What was added since must be what was returned.
    pub(crate) fn lost(&self, place: &Place) -> Option<LogDiscontinuity> {
        if !self.head.epochs.contains(&place.epoch) {
            return Some(LogDiscontinuity::Replaced);
        }
        let found = self.entries.len() as u64;
        match self.head.added.checked_sub(place.added) {
            None => Some(LogDiscontinuity::RolledBack),
            // Ids go by the clock: what is added after a fall back has newer ones, and there is too much of it.
            Some(unread) if self.head.last < place.id || found > unread => Some(LogDiscontinuity::RolledBack),
            Some(unread) if unread > self.head.length || (found < unread && !self.full) => {
                Some(LogDiscontinuity::Trimmed)
            }
            Some(_) => None,
        }
    }

    /// The page after a place that is one, or from the oldest entry on.
    pub(crate) fn page(self, place: Option<Place>, broken: Option<LogDiscontinuity>) -> LogPage {
        let (epoch, before) = match place {
            Some(place) => (place.epoch, place.added),
            None => {
                (self.head.epochs.into_iter().next().unwrap_or_default(), self.head.added - self.head.length)
            }
        };
        let added = before + self.entries.len() as u64;
        let more = added < self.head.added;
        // At the end the entry with the last id may be gone, and the place is behind it all the same.
        let reached = self.entries.last().filter(|_| more);
        let id = reached.map_or(self.head.last, |entry| entry.id);
        let records = self.entries.into_iter().flat_map(|entry| entry.records).collect();
        LogPage { records, cursor: Place { epoch, id, added }.cursor(), more, broken, created: false }
    }
}

/// An entry. One that another program wrote counts, and has no record.
fn entry(value: Value) -> Option<Entry> {
    let Value::Array(parts) = value else { return None };
    let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
    let id = Id::parse(text(&id)?)?;
    let Value::Array(fields) = fields else { return None };
    let (mut records, mut fields) = (Vec::new(), fields.into_iter());
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match (name, value) {
            (Value::BulkString(name), Value::BulkString(record)) if name == FIELD.as_bytes() => {
                records.push(record.into());
            }
            _ => {}
        }
    }
    Some(Entry { id, records })
}

/// A field of a map.
pub(crate) fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(fields) = map else { return None };
    fields.iter().find(|(key, _)| text(key) == Some(name)).map(|(_, value)| value)
}

pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    let Value::Int(number) = value else { return None };
    u64::try_from(*number).ok()
}

#[cfg(test)]
mod tests;
