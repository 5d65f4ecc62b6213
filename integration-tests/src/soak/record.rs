//! Record: one line of what a node says about itself. Numbers with blanks between, so that it is quick to write.

/// One thing that a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It subscribed to a channel; confirmed by this time.
    Subscribed {
        /// Which.
        channel: u32,
        /// Microseconds since 1970.
        at: u64,
    },
    /// It received these messages of a publisher, all of them and in order.
    Received {
        /// Where.
        channel: u32,
        /// The publisher.
        publisher: u32,
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// It received a gap, after everything it reported as received before, and before all else.
    Gap {
        /// Where.
        channel: u32,
        /// How many messages, if that was told.
        missed: Option<u64>,
        /// When it was received, in microseconds since 1970.
        at: u64,
    },
    /// It received a message whose number is not above the last one of that publisher.
    Backwards {
        /// Where.
        channel: u32,
        /// The publisher.
        publisher: u32,
        /// Its number.
        number: u64,
    },
    /// How far its own posts are.
    Posted {
        /// Where.
        channel: u32,
        /// Microseconds since 1970.
        at: u64,
        /// Every post from this number on began later than that.
        next: u64,
        /// Every post below this number has an outcome: accepted, unless said otherwise before.
        known: u64,
    },
    /// A post of its own failed.
    Failed {
        /// Where.
        channel: u32,
        /// Its number.
        number: u64,
        /// It may have been delivered all the same.
        perhaps: bool,
    },
    /// It is connected from this time on, or not any more.
    Connected {
        /// Whether.
        now: bool,
        /// Microseconds since 1970.
        at: u64,
    },
    /// It has said everything.
    Done,
}

impl Record {
    /// The line, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        match *self {
            Self::Subscribed { channel, at } => format!("S {channel} {at}"),
            Self::Received { channel, publisher, first, last } => {
                format!("H {channel} {publisher} {first} {last}")
            }
            // 0 for a gap of unknown size: one of no messages is never told.
            Self::Gap { channel, missed, at } => format!("G {channel} {} {at}", missed.unwrap_or(0)),
            Self::Backwards { channel, publisher, number } => format!("B {channel} {publisher} {number}"),
            Self::Posted { channel, at, next, known } => format!("P {channel} {at} {next} {known}"),
            Self::Failed { channel, number, perhaps } => {
                format!("F {channel} {number} {}", u8::from(perhaps))
            }
            Self::Connected { now, at } => format!("C {} {at}", u8::from(now)),
            Self::Done => "D".to_owned(),
        }
    }

    /// Reads a line; `None` for one that a killed process did not finish.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_at_checked(1)?;
        let numbers: Vec<u64> = rest.split_whitespace().map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let small = |n: u64| u32::try_from(n).ok();
        Some(match (kind, &numbers[..]) {
            ("S", &[channel, at]) => Self::Subscribed { channel: small(channel)?, at },
            ("H", &[channel, publisher, first, last]) => {
                Self::Received { channel: small(channel)?, publisher: small(publisher)?, first, last }
            }
            ("G", &[channel, missed, at]) => {
                Self::Gap { channel: small(channel)?, missed: Some(missed).filter(|n| *n > 0), at }
            }
            ("B", &[channel, publisher, number]) => {
                Self::Backwards { channel: small(channel)?, publisher: small(publisher)?, number }
            }
            ("P", &[channel, at, next, known]) => Self::Posted { channel: small(channel)?, at, next, known },
            ("F", &[channel, number, perhaps]) => {
                Self::Failed { channel: small(channel)?, number, perhaps: perhaps != 0 }
            }
            ("C", &[now, at]) => Self::Connected { now: now != 0, at },
            ("D", []) => Self::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_and_reading_round_trips() {
        for record in [
            Record::Subscribed { channel: 1, at: 2 },
            Record::Received { channel: 1, publisher: 2, first: 3, last: 4 },
            Record::Gap { channel: 1, missed: Some(7), at: 2 },
            Record::Gap { channel: 1, missed: None, at: 3 },
            Record::Backwards { channel: 1, publisher: 2, number: 3 },
            Record::Posted { channel: 1, at: 2, next: 3, known: 4 },
            Record::Failed { channel: 1, number: 2, perhaps: true },
            Record::Connected { now: true, at: 5 },
            Record::Done,
        ] {
            assert_eq!(Record::parse(&record.line()), Some(record));
        }
        for line in ["", "é", "H 1 2 3", "X", "S 1 x", "S 1 2 3", "S 99999999999 1"] {
            assert_eq!(Record::parse(line), None, "{line}");
        }
    }
}
