//! Entry: what a ring keeps, and how much it weighs.

use std::{
    mem,
    ops::{Add, Sub},
    sync::Arc,
};

use crate::{Gap, GapCause, Malformed, Message};

/// What a ring keeps: 16 bytes, and it must stay so.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Message(Message),
    Notice(Arc<Notice>),
}

const _: () = assert!(mem::size_of::<Entry>() == 16);

/// What stands in a ring that is not a message.
#[derive(Debug)]
pub(crate) enum Notice {
    Gap(Gap),
    Malformed(Malformed),
}

/// Who puts an entry into a ring. A gap that is due after a link was lost stands before the first entry of the next link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutBy {
    Link,
    /// This process: a local post.
    Here,
}

/// How much something weighs in messages, so that what is not read can be reported exactly. Sums wrap around: other nodes
/// choose the numbers, and the difference of two sums stays exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages: those that were here, and those that gaps of known size report.
    pub(crate) messages: u64,
    /// How many of these gaps report.
    pub(crate) lost: u64,
    /// Gaps of unknown size.
    pub(crate) unknown: u32,
}

impl Tally {
    const MESSAGE: Self = Self::of_messages(1);

    pub(crate) const fn of_messages(messages: u64) -> Self {
        Self { messages, lost: 0, unknown: 0 }
    }

    /// Adds an entry.
    pub(crate) fn count(&mut self, entry: &Entry) {
        *self = *self + entry.weight();
    }
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages.wrapping_add(other.messages),
            lost: self.lost.wrapping_add(other.lost),
            unknown: self.unknown.wrapping_add(other.unknown),
        }
    }
}

impl Sub for Tally {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            messages: self.messages.wrapping_sub(other.messages),
            lost: self.lost.wrapping_sub(other.lost),
            unknown: self.unknown.wrapping_sub(other.unknown),
        }
    }
}

impl From<Message> for Entry {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}

impl Entry {
    pub(crate) fn gap(gap: Gap) -> Self {
        Self::Notice(Arc::new(Notice::Gap(gap)))
    }

    pub(crate) fn malformed(malformed: Malformed) -> Self {
        Self::Notice(Arc::new(Notice::Malformed(malformed)))
    }

    #[inline]
    pub(crate) fn weight(&self) -> Tally {
        match self {
            Self::Message(_) => Tally::MESSAGE,
            Self::Notice(notice) => notice.weight(),
        }
    }

    /// By how much it weighs more than one message.
    #[inline]
    pub(crate) fn excess(&self) -> Tally {
        match self {
            Self::Message(_) => Tally::default(),
            Self::Notice(notice) => notice.excess(),
        }
    }

    /// How many bytes of payload it holds.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Message(message) => message.size(),
            Self::Notice(_) => 0,
        }
    }
}

impl Notice {
    fn weight(&self) -> Tally {
        match self {
            Self::Gap(Gap { missed: None, .. }) => Tally { unknown: 1, ..Tally::default() },
            Self::Gap(Gap { missed: Some(missed), .. }) => {
                Tally { messages: *missed, lost: *missed, unknown: 0 }
            }
            Self::Malformed(_) => Tally::MESSAGE,
        }
    }

    pub(crate) fn excess(&self) -> Tally {
        self.weight() - Tally::MESSAGE
    }
}

impl Tally {
    /// The gaps that report what an overflow took.
    pub(crate) fn gaps(self) -> impl DoubleEndedIterator<Item = Gap> {
        let counted = (self.messages > 0).then_some(Gap::new(Some(self.messages), GapCause::Overflow));
        // A gap of unknown size was itself pushed out: however many there were, one reports it.
        let unknown = (self.unknown > 0).then_some(Gap::new(None, GapCause::LinkLost));
        counted.into_iter().chain(unknown)
    }
}
