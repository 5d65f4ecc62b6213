//! Place and View: what a cursor of the revocation log says, whether it still is true of the log, and the page behind it.

use broker_core::driver::{LogCursor, LogDiscontinuity, LogPage};
use bytes::Bytes;

/// Behind a record, or before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// That of the log: another one after it was deleted.
    epoch: String,
    pub(super) number: i64,
    mark: i64,
}

impl Place {
    /// Reads a cursor, which may be any text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (epoch, rest) = text.split_once('/')?;
        let (number, mark) = rest.split_once('/')?;
        let number = number.parse().ok().filter(|number| *number >= 0)?;
        let place = Self { epoch: epoch.to_owned(), number, mark: mark.parse().ok()? };
        // There is one way to write it.
        (place.text() == text).then_some(place)
    }

    fn text(&self) -> String {
        format!("{}/{}/{}", self.epoch, self.number, self.mark)
    }
}

/// A record.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) mark: i64,
    /// The mark of the one before.
    pub(super) before: i64,
    pub(super) record: Bytes,
}

/// The log at one moment, with the records from some number on: two more than a page has, if there are as many. One is
/// there to be checked, and one shows that there is more.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) epoch: String,
    /// The newest record that ever was.
    pub(super) last: i64,
    pub(super) mark: i64,
    pub(super) entries: Vec<Entry>,
}

impl View {
    /// The page after a place, from whose number on the view is.
    pub(super) fn after(self, place: &Place, most: usize) -> Result<LogPage, LogDiscontinuity> {
        if place.epoch != self.epoch {
            return Err(LogDiscontinuity::Replaced);
        }
        if place.number > self.last || (place.number == self.last && place.mark != self.mark) {
            return Err(LogDiscontinuity::RolledBack);
        }
        let next = place.number + 1;
        // The record at the place may have grown too old; the one behind it knows its mark.
        let known = match self.entries.first() {
            Some(entry) if entry.number == place.number => Some(entry.mark),
            Some(entry) if entry.number == next => Some(entry.before),
            _ if place.number == self.last => Some(self.mark),
            _ => return Err(LogDiscontinuity::Trimmed),
        };
        if known != Some(place.mark) {
            return Err(LogDiscontinuity::RolledBack);
        }
        let view =
            Self { entries: self.entries.into_iter().filter(|entry| entry.number >= next).collect(), ..self };
        let whole = (next..=view.last).zip(&view.entries).all(|(number, entry)| entry.number == number);
        let counted = view.entries.len() as i64;
        // No more than a page, and not all there were: the rest is gone.
        let complete = view.entries.len() > most || place.number + counted == view.last;
        if whole && complete { Ok(view.page(most)) } else { Err(LogDiscontinuity::Trimmed) }
    }

    /// The first page of what the view has.
    pub(super) fn page(mut self, most: usize) -> LogPage {
        let more = self.entries.len() > most;
        self.entries.truncate(most);
        let (number, mark) = match self.entries.last() {
            Some(entry) if more => (entry.number, entry.mark),
            // Whatever was behind them is gone.
            _ => (self.last, self.mark),
        };
        let cursor = LogCursor::new(Place { epoch: self.epoch, number, mark }.text());
        let records = self.entries.into_iter().map(|entry| entry.record).collect();
        LogPage { records, cursor, more, broken: None, created: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: &str = "7f2c";

    /// A log whose record n has the mark 10 n, with what is kept of it from a number on.
    fn view(kept: std::ops::Range<i64>, last: i64, from: i64) -> View {
        let entry = |number: i64| {
            let record = Bytes::from(number.to_string());
            Entry { number, mark: number * 10, before: (number - 1) * 10, record }
        };
        let entries = kept.filter(|number| *number >= from).map(entry).take(5).collect();
        View { epoch: EPOCH.to_owned(), last, mark: last * 10, entries }
    }

    fn place(number: i64, mark: i64) -> Place {
        Place { epoch: EPOCH.to_owned(), number, mark }
    }

    fn read(page: &LogPage) -> (Vec<String>, String, bool) {
        let text = |record: &Bytes| String::from_utf8_lossy(record).into_owned();
        (page.records.iter().map(text).collect(), page.cursor.place().unwrap().to_owned(), page.more)
    }

    #[test]
    fn a_cursor_may_be_any_text() {
        assert_eq!(Place::parse("7f2c/3/-30"), Some(place(3, -30)));
        for hostile in [
            "",
            "/",
            "//",
            "7f2c",
            "7f2c/3",
            "7f2c/-1/0",
            "7f2c/3/x",
            "7f2c/03/1",
            "7f2c/+3/1",
            " / / ",
            "7f2c/3/30/4",
        ] {
            assert_eq!(Place::parse(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let (records, cursor, more) = read(&view(1..6, 5, 0).page(3));
        assert_eq!((records.join(","), cursor.as_str(), more), ("1,2,3".to_owned(), "7f2c/3/30", true));
        let (records, cursor, more) =
            read(&view(1..6, 5, 3).after(&Place::parse(&cursor).unwrap(), 3).unwrap());
        assert_eq!((records.join(","), cursor.as_str(), more), ("4,5".to_owned(), "7f2c/5/50", false));
        let (records, cursor, more) =
            read(&view(1..6, 5, 5).after(&Place::parse(&cursor).unwrap(), 3).unwrap());
        assert_eq!((records.len(), cursor.as_str(), more), (0, "7f2c/5/50", false));
    }

    #[test]
    fn every_record_comes_once_however_many_pages_there_are() {
        for last in 0..12 {
            let (mut all, mut place) = (Vec::new(), None);
            loop {
                let page = match &place {
                    None => view(1..last + 1, last, 0).page(3),
                    Some(at @ Place { number, .. }) => view(1..last + 1, last, *number).after(at, 3).unwrap(),
                };
                let (records, cursor, more) = read(&page);
                assert!(!more || records.len() == 3);
                all.extend(records);
                place = Place::parse(&cursor);
                if !more {
                    break;
                }
            }
            assert_eq!(all, (1..=last).map(|number| number.to_string()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_log_without_records_has_a_place() {
        let (records, cursor, more) = read(&view(1..1, 0, 0).page(3));
        assert_eq!((records.len(), cursor.as_str(), more), (0, "7f2c/0/0", false));
        let (records, ..) = read(&view(1..3, 2, 0).after(&place(0, 0), 3).unwrap());
        assert_eq!(records, ["1", "2"]);
        // All of it has grown too old.
        assert_eq!(read(&view(1..1, 7, 0).page(3)).1, "7f2c/7/70");
        assert!(view(1..1, 7, 7).after(&place(7, 70), 3).is_ok());
    }

    #[test]
    fn a_record_that_was_read_may_grow_too_old() {
        let (records, ..) = read(&view(4..6, 5, 3).after(&place(3, 30), 3).unwrap());
        assert_eq!(records, ["4", "5"]);
    }

    #[test]
    fn what_a_place_has_lost_is_told() {
        use LogDiscontinuity::{Replaced, RolledBack, Trimmed};
        let other = Place { epoch: "0".to_owned(), ..place(3, 30) };
        for (view, place, lost) in [
            (view(1..6, 5, 3), other, Replaced),
            (view(1..6, 5, 6), place(6, 60), RolledBack),
            // Restored, and grown again: as far, farther, and without the record itself.
            (view(1..6, 5, 5), place(5, 51), RolledBack),
            (view(1..6, 5, 3), place(3, 31), RolledBack),
            (view(4..6, 5, 3), place(3, 31), RolledBack),
            (view(5..6, 5, 3), place(3, 30), Trimmed),
            (view(1..1, 5, 3), place(3, 30), Trimmed),
            // The newest are gone, and one in the middle.
            (view(1..5, 5, 3), place(3, 30), Trimmed),
        ] {
            assert_eq!(view.after(&place, 3).unwrap_err(), lost, "{place:?}");
        }
        let mut holed = view(1..7, 6, 3);
        holed.entries.remove(2);
        assert_eq!(holed.after(&place(3, 30), 3).unwrap_err(), Trimmed);
    }
}
