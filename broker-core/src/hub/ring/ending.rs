//! How a ring ends, and whom the end waits for: streams that have something to yield, and listeners in a call.

use super::{
    Ring,
    place::{End, Mask, bit},
    state::State,
};
use crate::{CloseReason, hub::WakeList, runtime::sync::atomic::Ordering};

impl Ring {
    /// Nothing more comes: subscribers read the rest and end.
    pub(in crate::hub) fn end(&self, reason: &CloseReason, wakes: &mut WakeList) {
        let mut state = self.lock();
        state.rare_mut().ended.get_or_insert_with(|| End { reason: reason.clone(), owing: 0 });
        state.wake_waiting(wakes);
    }

    /// The same, and how many have something to read, or to finish; zero when it had ended already.
    pub(in crate::hub) fn end_and_count(&self, reason: &CloseReason, wakes: &mut WakeList) -> usize {
        let mut state = self.lock();
        if state.ended().is_some() {
            return 0;
        }
        let streams = state.taken & !state.listening & !state.silent;
        let unread = streams & (!state.caught_up | self.holding.load(Ordering::SeqCst));
        // One that waits has finished its last call. The others look here once more.
        let calling = state.taken & state.listening & !state.waiting;
        let owing = unread | calling;
        state.rare_mut().ended = Some(End { reason: reason.clone(), owing });
        state.wake_waiting(wakes);
        owing.count_ones() as usize
    }

    /// The subscriber of a seat has yielded all it had taken.
    #[inline]
    pub(in crate::hub) fn released(&self, seat: u8) {
        // Its bit is set and cleared by the subscriber alone, and most of the time it is not set.
        if self.holding.load(Ordering::SeqCst) & bit(seat) != 0 {
            self.holding.fetch_and(!bit(seat), Ordering::SeqCst);
        }
    }

    /// Whether a subscriber has just become one that nobody waits for: the ring has ended, and its stream has yielded
    /// everything, or `finished` says that it is over.
    pub(in crate::hub) fn note_read(&self, seat: u8, finished: bool) -> bool {
        let mut state = self.lock();
        let bit = bit(seat);
        let read = state.caught_up & !state.listening & bit != 0;
        (finished || read) && state.note_finished(bit)
    }

    /// The session of this seat, or its listener, is closed: wakes it so that it looks. Whether the end of the ring
    /// waited for it; a listener finishes its call first.
    pub(in crate::hub) fn close_seat(&self, seat: u8, wakes: &mut WakeList) -> bool {
        let mut state = self.lock();
        state.close_pending(seat);
        let bit = bit(seat);
        if state.waiting & bit != 0 {
            state.waiting &= !bit;
            wakes.wakers.extend(state.wakers[seat as usize].take());
        }
        if state.listening & bit != 0 {
            return false;
        }
        state.silent |= bit;
        state.note_finished(bit)
    }
}

impl State {
    /// Whether the end waited for this seat; it does not any more.
    pub(super) fn note_finished(&mut self, bit: Mask) -> bool {
        let Some(end) = self.rare.as_mut().and_then(|rare| rare.ended.as_mut()) else { return false };
        let owed = end.owing & bit != 0;
        end.owing &= !bit;
        owed
    }
}
