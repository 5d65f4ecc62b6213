//! Uneven: how much the entries of a ring weigh where that is not one message each.
//!
//! A reader that was overtaken receives the exact weight of what it has lost. As long as only messages are put, that is the
//! number of entries, and nothing has to be counted. From the first gap on, the ring counts the difference, and so
//! does each reader that has passed it. Once everyone has read everything there is nothing to compare any more, and the ring
//! forgets the difference; what a reader still holds of it is then not looked at.

use super::{Cursor, place::Place, rare::Uneven, state::State};
use crate::hub::{Notice, Tally};

impl State {
    /// A notice is put at the tail.
    #[cold]
    pub(super) fn count_posted(&mut self, notice: &Notice) {
        let (excess, tail) = (notice.excess(), self.tail());
        if self.slots.is_empty() {
            self.forget_uneven();
        }
        if excess != Tally::default() {
            let new = || Box::new(Uneven { since: tail, posted: Tally::default(), gone: Tally::default() });
            let uneven = self.rare_mut().uneven.get_or_insert_with(new);
            uneven.posted = uneven.posted + excess;
        }
    }

    /// The notice at the front is taken out.
    #[cold]
    pub(super) fn count_gone(&mut self, notice: &Notice) {
        if let Some(uneven) = self.rare.as_mut().and_then(|rare| rare.uneven.as_mut()) {
            uneven.gone = uneven.gone + notice.excess();
        }
    }

    /// Everyone has read everything.
    #[cold]
    pub(super) fn forget_uneven(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.uneven = None;
            self.tidy();
        }
    }

    /// What a reader has seen that stands here.
    fn seen_at(&self, position: u64, seen: Option<Tally>) -> Tally {
        let has_passed = self.uneven().is_some_and(|uneven| position > uneven.since);
        seen.filter(|_| has_passed).unwrap_or_default()
    }

    /// Where a reader stands that has read everything, or wants nothing of it.
    pub(super) fn end_place(&self) -> Place {
        let posted = self.uneven().map_or(Tally::default(), |uneven| uneven.posted);
        Place { position: self.tail(), seen: posted }
    }

    /// The weight of the entries before the first one that a reader has not read.
    #[cold]
    pub(super) fn overtake(&self, cursor: &mut Cursor) -> Tally {
        let seen = self.seen_at(cursor.position, cursor.seen.as_deref().copied());
        let gone = self.uneven().map_or(Tally::default(), |uneven| uneven.gone);
        let missed = Tally::of_messages(self.first - cursor.position) + gone - seen;
        cursor.stand(Place { position: self.first, seen: gone });
        missed
    }

    /// Where a reader will stand behind its next entries.
    #[cold]
    pub(super) fn place_behind(&self, cursor: &Cursor, count: usize) -> Place {
        let position = cursor.position + count as u64;
        if self.uneven().is_none() {
            return Place { position, seen: Tally::default() };
        }
        let start = (cursor.position - self.first) as usize;
        let seen = self.seen_at(cursor.position, cursor.seen.as_deref().copied());
        let slots = self.slots.range(start..start + count);
        let seen = slots.fold(seen, |seen, slot| seen + slot.entry.excess());
        Place { position, seen }
    }

    /// A reader has read on, and stands here.
    #[cold]
    pub(super) fn note_seen(&mut self, cursor: &mut Cursor, place: Place) {
        if self.slots.is_empty() {
            self.forget_uneven();
            cursor.seen = None;
        } else {
            cursor.stand(place);
        }
    }
}

impl Cursor {
    pub(super) fn stand(&mut self, place: Place) {
        self.position = place.position;
        self.seen = (place.seen != Tally::default()).then(|| Box::new(place.seen));
    }
}
