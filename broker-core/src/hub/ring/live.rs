//! Subscriptions that do not wait for their confirmation: each begins at the moment when it comes.

use super::{Cursor, Ring, State, place::bit};
use crate::{
    Gap, GapCause,
    hub::{Entry, WakeList},
};

impl State {
    pub(super) fn add_pending(&mut self, seat: u8) {
        self.rare_mut().pending.get_or_insert_default().seats |= bit(seat);
    }

    /// The session of a seat is closed: it stays silent.
    pub(super) fn close_pending(&mut self, seat: u8) {
        if let Some(pending) = self.pending_mut() {
            pending.closed |= bit(seat) & pending.seats;
        }
    }

    /// A pending reader looks: whether its subscription has begun. Then the gap that says so is in the batch.
    pub(super) fn look(&mut self, cursor: &mut Cursor, batch: &mut Vec<Entry>) -> bool {
        let Some(pending) = self.pending_mut().filter(|pending| pending.seats & bit(cursor.seat) == 0) else {
            return false;
        };
        let Some(place) = pending.remove(cursor.seat) else { return false };
        self.tidy();
        cursor.stand(place);
        cursor.pending = false;
        batch.push(Entry::gap(Gap::new(None, GapCause::Subscribed)));
        true
    }
}

impl Ring {
    /// The channel is confirmed: what is put from here on is for those, too, who did not wait for it.
    pub(in crate::hub) fn go_live(&self, wakes: &mut WakeList) {
        let mut state = self.lock();
        if state.ended().is_some() {
            return;
        }
        let place = state.end_place();
        let Some(pending) = state.pending_mut() else { return };
        let (mut seats, closed) = (std::mem::take(&mut pending.seats), std::mem::take(&mut pending.closed));
        let begun = seats;
        while seats != 0 {
            pending.begun.push((seats.trailing_zeros() as u8, place));
            seats &= seats - 1;
        }
        state.caught_up |= begun;
        state.silent &= !(begun & !closed);
        state.wake_waiting(wakes);
    }
}
