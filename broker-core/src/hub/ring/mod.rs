//! Ring: what a channel keeps for its subscribers here, and a cursor for each of them.
//!
//! A message is stored once, however many subscribe; a subscriber holds only its position. A slot counts the
//! cursors that stand on it, `caught_up` has a bit for each that has read everything: so appending costs the same for
//! one subscriber as for thirty-two, and what everyone has passed is dropped at once.
//!
//! Whenever the lock is free (asserted by [`Ring::check`] in tests):
//! 1. the counts of all slots plus the bits of `caught_up` are the seats taken, but for those whose subscription has not
//!    begun ([`live`]);
//! 2. the first slot's count is above zero;
//! 3. the weights of what is gone and of what is in the ring are those of what was posted ([`uneven`]);
//! 4. a seat that waits is taken, and it has a waker exactly when it waits;
//! 5. the ring is no longer than the largest capacity of its readers ([`limits`]), and holds no more bytes of payload
//!    than the hub allows, unless it holds one entry.

mod ending;
mod latest;
mod limits;
mod live;
mod place;
mod rare;
mod state;
mod uneven;

pub(crate) use place::{Cursor, Reads};

use std::{
    mem,
    num::NonZero,
    sync::{Arc, OnceLock, PoisonError},
    task::{Context, Poll},
};

use super::{Entry, MessageSeq, ProbeEpochs, PutBy, WakeList};
use crate::{
    ChannelName, CloseReason, Message, NodeId,
    runtime::{
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicU32, Ordering},
        },
        user_code::contain,
    },
    wire::digest::Span,
};

use limits::KEPT;
use place::{Mask, SEATS, bit};
use state::State;

/// A channel's first ring, or one more in the chain behind it.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) channel: ChannelName,
    /// Further rings of a channel with more than [`SEATS`] subscribers.
    pub(super) next: OnceLock<Arc<Ring>>,
    state: Mutex<State>,
    /// Seats whose subscriber has taken more than one entry, and not yielded all of them. Set under the lock.
    holding: AtomicU32,
    /// How many hold on to it without a seat. Raised under the shard's lock, and looked at under it before the ring is
    /// taken away.
    pub(super) pins: AtomicU32,
}

impl Ring {
    pub(super) fn new(channel: ChannelName) -> Self {
        Self {
            channel,
            next: OnceLock::new(),
            state: Mutex::default(),
            holding: AtomicU32::new(0),
            pins: AtomicU32::new(0),
        }
    }

    /// No code of others runs under this lock, so a poisoned one is as good as new.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat at the tail; `None` when all are taken. "Subscribed" begins at one exact entry because
    /// seat and position are taken under one lock.
    pub(super) fn join(&self, reads: Reads, hub_capacity: u32) -> Option<Cursor> {
        let mut state = self.lock();
        let seat = (!state.taken).trailing_zeros();
        if seat == SEATS {
            return None;
        }
        let Reads { latest, pending, queueing, .. } = reads;
        let most = reads.capacity.unwrap_or(hub_capacity);
        let (kept, capacity) = if latest { (most.min(KEPT), 0) } else { (most, most) };
        let seat = seat as u8;
        state.add_capacity(seat, kept, hub_capacity);
        let bit = bit(seat);
        state.taken |= bit;
        if pending {
            state.add_pending(seat);
        } else {
            state.caught_up |= bit;
        }
        state.listening &= !bit;
        state.silent |= bit;
        self.holding.fetch_and(!bit, Ordering::SeqCst);
        if state.wakers.len() <= seat as usize {
            state.wakers.push(None);
        }
        let mut cursor = Cursor { position: 0, seen: None, capacity, seat, uncounted: 0, pending, queueing };
        cursor.stand(state.end_place());
        Some(cursor)
    }

    /// Moves the cursor behind everything that is here.
    pub(crate) fn skip(&self, cursor: &mut Cursor) {
        let mut garbage = Vec::new();
        self.skip_into(cursor, &mut garbage);
        drop_all(garbage);
    }

    /// The same. What no other reader needs is put into `garbage`: its `Drop` is foreign code.
    pub(crate) fn skip_into(&self, cursor: &mut Cursor, garbage: &mut impl Extend<Entry>) {
        let mut state = self.lock();
        state.remove(cursor, garbage);
        state.caught_up |= bit(cursor.seat);
        cursor.stand(state.end_place());
    }

    /// The subscription of a seat begins: that of a listener, or of a stream.
    pub(crate) fn begin(&self, seat: u8, listening: bool) {
        let mut state = self.lock();
        state.silent &= !(1 << seat);
        state.listening |= Mask::from(listening) << seat;
    }

    /// Gives the seat back. Whether no reader is left, and whether the end of the ring waited for it.
    pub(super) fn leave(&self, cursor: &Cursor, wakes: &mut WakeList) -> (bool, bool) {
        let mut state = self.lock();
        let bit = bit(cursor.seat);
        let owed = state.note_finished(bit);
        state.taken &= !bit;
        state.waiting &= !bit;
        wakes.wakers.extend(state.wakers[cursor.seat as usize].take());
        state.remove(cursor, &mut wakes.garbage);
        state.remove_capacity();
        state.drop_oldest(0, wakes);
        if state.taken == 0 {
            wakes.garbage.extend(state.take_gap_due());
            state.forget_uneven();
        }
        (state.taken == 0, owed)
    }

    /// Why the ring has ended, if it has.
    pub(crate) fn end_reason(&self) -> Option<CloseReason> {
        self.lock().ended().map(|end| end.reason.clone())
    }

    /// Compares a message of the link with what was received before it. How many are missing; `None` for a repeat.
    pub(super) fn compare(&self, seq: &MessageSeq) -> Option<u64> {
        let mut state = self.lock();
        if state.taken == 0 || state.ended().is_some() {
            return Some(0);
        }
        state.tracker.get_or_insert_default().message(seq.origin, seq.epoch, seq.sequence)
    }

    /// Compares what a node says it has posted with what was received of it. How many messages are missing.
    pub(super) fn compare_span(&self, origin: NodeId, span: &Span, probe_epochs: ProbeEpochs) -> u64 {
        let mut state = self.lock();
        let Some(subscribed) = state.subscribed.filter(|_| state.taken != 0 && state.ended().is_none())
        else {
            return 0;
        };
        let coverage = probe_epochs.coverage(subscribed.get());
        let tracker = state.tracker.get_or_insert_default();
        let missing = tracker.digest(origin, span, coverage);
        if mem::take(&mut tracker.has_evicted) {
            state.subscribed = NonZero::new(probe_epochs.begun);
        }
        missing
    }

    /// The channel is subscribed at the backend, and was before the next probe epoch begins. Whether that is new.
    pub(super) fn set_subscribed(&self, probe_epoch: u64) -> bool {
        let mut state = self.lock();
        let new = state.subscribed.is_none();
        state.subscribed = state.subscribed.or(NonZero::new(probe_epoch));
        new
    }

    /// The channel is not subscribed any more: whatever comes next is the beginning.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.subscribed = None;
        let tracker = state.tracker.take();
        drop(state);
        drop(tracker);
    }

    /// The last subscriber is gone, and the ring stays because it is pinned: gives back the memory of its bursts.
    pub(super) fn rest(&self) {
        self.reset();
        let slots = mem::take(&mut self.lock().slots);
        drop(slots);
    }

    /// Appends an entry for everyone who has a seat.
    pub(super) fn put(&self, entry: impl Into<Entry>, from: PutBy, most_bytes: u32, wakes: &mut WakeList) {
        let mut state = self.lock();
        if state.taken == 0 || state.ended().is_some() {
            wakes.too_late |= state.ended().is_some();
            wakes.garbage.push(entry.into());
            return;
        }
        let due = if from == PutBy::Link { state.take_gap_due() } else { None };
        if let Some(gap) = due {
            state.push(gap, most_bytes, wakes);
        }
        state.push(entry, most_bytes, wakes);
        state.wake_waiting(wakes);
    }

    /// The link of this channel is lost: the gap is delivered as soon as the channel is subscribed again.
    pub(super) fn mark_gap(&self, gap: Entry) {
        let mut state = self.lock();
        if state.taken != 0 {
            state.rare_mut().gap_due = Some(gap);
        }
    }

    /// The channel is subscribed again: delivers the gap that is due, unless it was already delivered before an entry.
    pub(super) fn flush_gap(&self, most_bytes: u32, wakes: &mut WakeList) {
        let mut state = self.lock();
        if let Some(gap) = state.take_gap_due() {
            state.push(gap, most_bytes, wakes);
            state.wake_waiting(wakes);
        }
    }

    /// Wakes everyone.
    pub(super) fn wake_all(&self, wakes: &mut WakeList) {
        self.lock().wake_waiting(wakes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().taken == 0
    }

    /// Puts up to `most` entries on top of the empty `batch`, the next one topmost, or registers the waker. What
    /// nobody else will read is moved out, the rest cloned. What an overflow took stands before them as gaps. An error
    /// is the end.
    #[cfg(test)]
    pub(crate) fn take(
        &self,
        cursor: &mut Cursor,
        batch: &mut Vec<Entry>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>> {
        self.take_unless(cursor, batch, most, |_| false, cx)
    }

    /// The same for a reader that passes over some messages: none of these is the newest for it.
    #[inline]
    pub(crate) fn take_unless(
        &self,
        cursor: &mut Cursor,
        batch: &mut Vec<Entry>,
        most: usize,
        passed_over: impl Fn(&Message) -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>> {
        let mut garbage = Vec::new();
        let taken = self.take_and_skip(cursor, batch, most, passed_over, &mut garbage, cx);
        if !garbage.is_empty() {
            drop_all(garbage);
        }
        taken
    }

    /// The same. What the reader skips is put into `garbage`: its `Drop` is foreign code.
    #[inline(always)]
    pub(crate) fn take_and_skip(
        &self,
        cursor: &mut Cursor,
        batch: &mut Vec<Entry>,
        most: usize,
        passed_over: impl Fn(&Message) -> bool,
        garbage: &mut impl Extend<Entry>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>> {
        let mut replaced = None; // dropped after the lock: a waker is foreign code
        let mut state = self.lock();
        if cursor.pending {
            if state.look(cursor, batch) {
                self.note_taken(cursor, batch);
                return Poll::Ready(Ok(()));
            }
        } else if cursor.position < state.tail() {
            state.read_next(cursor, batch, most, passed_over, garbage);
            self.note_taken(cursor, batch);
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = state.ended() {
            return Poll::Ready(Err(end.reason.clone()));
        }
        let place = &mut state.wakers[cursor.seat as usize];
        if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            replaced = place.replace(cx.waker().clone());
        }
        // Last: to clone a waker is foreign code, which may panic.
        state.waiting |= bit(cursor.seat);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Under the lock: a drain waits until all that was taken is yielded.
    #[inline]
    fn note_taken(&self, cursor: &Cursor, batch: &[Entry]) {
        if batch.len() > 1 || cursor.queueing {
            self.holding.fetch_or(bit(cursor.seat), Ordering::SeqCst);
        }
    }

    /// The invariants of the module's first lines.
    #[cfg(test)]
    pub(super) fn check(&self, capacity: usize, most_bytes: u32) {
        let mut state = self.lock();
        let readers: u32 = state.slots.iter().map(state::Slot::readers).sum();
        let nowhere = state.pending_mut().map_or(0, |pending| pending.seats);
        assert_eq!(nowhere & (!state.taken | state.caught_up), 0);
        let stand = (state.taken & !nowhere).count_ones();
        assert_eq!(readers + state.caught_up.count_ones(), stand);
        assert_eq!(state.caught_up & !state.taken, 0);
        assert!(state.slots.front().is_none_or(|slot| slot.readers() > 0));
        let held = state.slots.iter().fold(super::Tally::default(), |sum, slot| sum + slot.entry.excess());
        let (gone, posted) =
            state.uneven().map_or_else(Default::default, |uneven| (uneven.gone, uneven.posted));
        assert_eq!(gone + held, posted);
        assert_eq!(state.waiting & !state.taken, 0);
        for seat in 0..SEATS as u8 {
            let waker = state.wakers.get(seat as usize).is_some_and(Option::is_some);
            assert_eq!(waker, state.waiting & bit(seat) != 0);
        }
        state.check_limits(capacity as u32);
        assert!(state.slots.len() <= state.limits.most() || state.slots.is_empty());
        let bytes: u32 = state.slots.iter().map(state::Slot::bytes).sum();
        assert_eq!(bytes, state.limits.bytes);
        assert!(most_bytes == 0 || bytes <= most_bytes || state.slots.len() == 1, "{bytes} bytes");
    }
}

/// Drops messages of others, outside of every lock.
fn drop_all(garbage: Vec<Entry>) {
    garbage.into_iter().for_each(|entry| contain("a message that was dropped", || drop(entry)));
}
