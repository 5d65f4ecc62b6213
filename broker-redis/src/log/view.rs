//! View: the stream as one look at it showed it, and whether a reader's place is still one.

use broker_core::driver::{LogBreak, LogPage};
use bytes::Bytes;
use redis::Value;

use super::{
    EPOCH, FIELD,
    place::{Id, Place},
};

/// The stream at one moment, and its entries after a place.
#[derive(Debug)]
pub(crate) struct View {
    /// The identities of the stream: more than one if several nodes made it at the same time.
    epochs: Vec<String>,
    /// How many entries were ever added.
    added: u64,
    /// How many there are.
    length: u64,
    /// The id that was given out last.
    pub(crate) last: Id,
    /// The entries that were asked for, oldest first.
    entries: Vec<Entry>,
    /// As many of them as were asked for: there may be more.
    full: bool,
}

#[derive(Debug)]
struct Entry {
    id: Id,
    records: Vec<Bytes>,
}

impl View {
    /// From the answers to `XINFO GROUPS`, `XINFO STREAM` and `XRANGE … COUNT count`. `None`: they are not.
    pub(crate) fn new([groups, stream, range]: [Value; 3], count: usize) -> Option<Self> {
        let (Value::Array(groups), Value::Array(range)) = (groups, range) else { return None };
        let names = groups.iter().filter_map(|group| text(field(group, "name")?));
        let entries: Vec<Entry> = range.into_iter().map(entry).collect::<Option<_>>()?;
        let view = Self {
            epochs: names.filter(|name| name.starts_with(EPOCH)).map(str::to_owned).collect(),
            added: number(field(&stream, "entries-added")?)?,
            length: number(field(&stream, "length")?)?,
            last: Id::parse(text(field(&stream, "last-generated-id")?)?)?,
            full: entries.len() >= count,
            entries,
        };
        // The server keeps it so; a place counted from anything else would not hold.
        (view.length <= view.added && view.entries.len() as u64 <= view.length).then_some(view)
    }

    /// Whether it has an identity. One that another program made has none, nor has one that an append made.
    pub(crate) fn has_epoch(&self) -> bool {
        !self.epochs.is_empty()
    }

    /// Why this place is none any more; `None`: it is one. What was added since must be what was returned.
    pub(crate) fn lost(&self, place: &Place) -> Option<LogBreak> {
        if !self.epochs.contains(&place.epoch) {
            return Some(LogBreak::Replaced);
        }
        let found = self.entries.len() as u64;
        match self.added.checked_sub(place.added) {
            None => Some(LogBreak::RolledBack),
            // Ids go by the clock: what is added after a fall back has newer ones, and there is too much of it.
            Some(unread) if self.last < place.id || found > unread => Some(LogBreak::RolledBack),
            Some(unread) if unread > self.length || (found < unread && !self.full) => Some(LogBreak::Trimmed),
            Some(_) => None,
        }
    }

    /// The page after a place that is one, or from the oldest entry on.
    pub(crate) fn page(self, place: Option<Place>, broken: Option<LogBreak>) -> LogPage {
        let (epoch, before) = match place {
            Some(place) => (place.epoch, place.added),
            None => (self.epochs.into_iter().next().unwrap_or_default(), self.added - self.length),
        };
        let added = before + self.entries.len() as u64;
        let more = added < self.added;
        // At the end the entry with the last id may be gone, and the place is behind it all the same.
        let reached = self.entries.last().filter(|_| more);
        let id = reached.map_or(self.last, |entry| entry.id);
        let records = self.entries.into_iter().flat_map(|entry| entry.records).collect();
        LogPage { records, cursor: Place { epoch, id, added }.cursor(), more, broken }
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
