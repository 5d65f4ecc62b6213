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

/// How much something weighs in messages, so that what an overflow lost can be reported exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages, one by one.
    pub(crate) messages: u64,
    /// Gaps of unknown size.
    pub(crate) unknown: u64,
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        // Saturating: the number comes from other nodes, and may be anything.
        let messages = self.messages.saturating_add(other.messages);
        Self { messages, unknown: self.unknown + other.unknown }
    }
}

impl Sub for Tally {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        let messages = self.messages.saturating_sub(other.messages);
        Self { messages, unknown: self.unknown - other.unknown }
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

    pub(crate) fn weight(&self) -> Tally {
        match self {
            Self::Notice(notice) => match **notice {
                Notice::Gap(Gap { missed: None, .. }) => Tally { messages: 0, unknown: 1 },
                Notice::Gap(Gap { missed: Some(missed), .. }) => Tally { messages: missed, unknown: 0 },
                Notice::Malformed(_) => Tally { messages: 1, unknown: 0 },
            },
            Self::Message(_) => Tally { messages: 1, unknown: 0 },
        }
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
