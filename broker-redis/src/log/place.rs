//! Place: where a reader stands in the stream, and how a cursor says so.

use std::fmt;

use broker_core::driver::LogCursor;

/// The id of an entry: the server's time in milliseconds, and a number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) ms: u64,
    number: u64,
}

impl Id {
    /// No entry comes after it, and the server refuses to look for one.
    const MAX: Self = Self { ms: u64::MAX, number: u64::MAX };

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (ms, number) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// A place in one stream, with what it takes to find out that the stream is another one by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The identity of the stream.
    pub(crate) epoch: String,
    /// Everything up to here has been read.
    pub(crate) id: Id,
    /// How many entries had ever been added to the stream, up to here.
    pub(crate) added: u64,
}

impl Place {
    /// What a cursor says; `None` for text that this driver has not written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let epoch = parts.next()?.to_owned();
        let id = Id::parse(parts.next()?).filter(|id| *id < Id::MAX)?;
        let added = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { epoch, id, added })
    }

    pub(crate) fn cursor(&self) -> LogCursor {
        LogCursor::new(format!("{}/{}/{}", self.epoch, self.id, self.added))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_holds_its_position() {
        let place = Place { epoch: "epoch-1".to_owned(), id: Id { ms: 1700, number: 3 }, added: 9 };
        assert_eq!(place.cursor().place(), Some("epoch-1/1700-3/9"));
        assert_eq!(Place::parse("epoch-1/1700-3/9"), Some(place));
    }

    #[test]
    fn other_text_is_no_cursor() {
        for text in [
            "",
            "epoch-1",
            "epoch-1/1700-3",
            "epoch-1/1700-3/",
            "epoch-1/1700-3/9/",
            "epoch-1/1700-3/9/9",
            "epoch-1/1700/9",
            "epoch-1/-/9",
            "epoch-1/+/9",
            "epoch-1/1700-3-3/9",
            "epoch-1/-1--1/9",
            "epoch-1/18446744073709551615-18446744073709551615/9",
            "epoch-1/18446744073709551616-0/9",
            "epoch-1/1700-3/18446744073709551616",
            "epoch-1/1700-3 + COUNT 1/9",
            "epoch-1/é-ß/🦀",
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_compared_as_numbers() {
        let [low, middle, high] = ["99-100", "100-2", "100-10"].map(|text| Id::parse(text).unwrap());
        assert!(low < middle && middle < high);
    }
}
