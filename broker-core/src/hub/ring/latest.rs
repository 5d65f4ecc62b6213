//! Conflation: a reader that lags skips to the newest message, and receives what it skipped as a number.

use super::{
    Cursor, State,
    state::{Slot, put_gaps},
};
use crate::{
    Gap, GapCause, Message,
    hub::{Entry, Notice, Tally},
};

/// What was skipped, by what it was. A loss remains a loss.
#[derive(Debug, Default)]
struct Skipped {
    messages: u64,
    lost: u64,
    link_lost: bool,
    dropped: bool,
    /// Lost on the way, how many is unknown.
    unknown: bool,
}

impl Skipped {
    /// What the ring has dropped; of gaps of unknown size one reports all.
    fn dropped(tally: Tally) -> Self {
        Self {
            messages: tally.messages.wrapping_sub(tally.lost),
            lost: tally.lost,
            link_lost: tally.unknown > 0,
            ..Self::default()
        }
    }

    fn add(&mut self, entry: &Entry) {
        let gap = match entry {
            Entry::Notice(notice) => match &**notice {
                Notice::Gap(gap) => gap,
                Notice::Malformed(_) => return self.messages += 1,
            },
            Entry::Message(_) => return self.messages += 1,
        };
        match (gap.missed, gap.cause) {
            (Some(missed), _) => self.lost = self.lost.saturating_add(missed),
            (None, GapCause::LinkLost) => self.link_lost = true,
            (None, GapCause::Dropped) => self.dropped = true,
            (None, _) => self.unknown = true,
        }
    }

    /// In the order in which they are yielded.
    fn gaps(&self) -> impl DoubleEndedIterator<Item = Gap> {
        let number = |number: u64, cause| (number > 0).then_some(Gap::new(Some(number), cause));
        let some = |is: bool, cause| is.then_some(Gap::new(None, cause));
        [
            some(self.link_lost, GapCause::LinkLost),
            some(self.dropped, GapCause::Dropped),
            some(self.unknown, GapCause::Skipped),
            number(self.lost, GapCause::Skipped),
            number(self.messages, GapCause::Conflated),
        ]
        .into_iter()
        .flatten()
    }
}

impl State {
    /// Puts the newest message into the batch, behind gaps for all that lies before it. Where there is no message, the
    /// next gap, as for every reader. `missed` is what the ring has dropped of it.
    #[cold]
    pub(super) fn read_latest(
        &mut self,
        cursor: &mut Cursor,
        batch: &mut Vec<Entry>,
        missed: Tally,
        passed_over: impl Fn(&Message) -> bool,
        garbage: &mut impl Extend<Entry>,
    ) {
        let start = (cursor.position - self.first) as usize;
        let is_for_it = |slot: &Slot| matches!(&slot.entry, Entry::Message(message) if !passed_over(message));
        let newest = self.slots.range(start..).rposition(is_for_it);
        let Some(newest) = newest else {
            self.read(cursor, batch, 1);
            return put_gaps(missed, batch);
        };
        let mut skipped = Skipped::dropped(missed);
        let is_passed_over =
            |slot: &&Slot| matches!(&slot.entry, Entry::Message(message) if passed_over(message));
        let before = self.slots.range(start..start + newest).filter(|slot| !is_passed_over(slot));
        before.for_each(|slot| skipped.add(&slot.entry));
        self.jump(cursor, cursor.position + newest as u64, garbage);
        self.read(cursor, batch, 1);
        batch.extend(skipped.gaps().rev().map(Entry::gap));
    }
}
