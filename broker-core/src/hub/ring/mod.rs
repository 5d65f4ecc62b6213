//! Ring: what a channel keeps for its subscribers here, and a cursor for each of them.
//!
//! A message is stored once, however many subscribe; a subscriber holds only its position. A slot counts the
//! cursors that stand on it, `caught_up` has a bit for each that has read everything: so appending costs the same for
//! one subscriber as for sixty-four, and what everyone has passed is dropped at once.
//!
//! Whenever the lock is free (asserted by [`Ring::check`] in tests):
//! 1. the counts of all slots plus the bits of `caught_up` are the seats taken;
//! 2. the first slot's count is above zero;
//! 3. `gone` plus the weights in the ring is `posted`;
//! 4. a seat that waits is taken, and it has a waker exactly when it waits;
//! 5. the ring is no longer than the capacity.

mod ending;

use std::{
    collections::VecDeque,
    mem,
    num::NonZero,
    sync::{Arc, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use smallvec::SmallVec;

use super::{Entry, MessageSeq, ProbeEpochs, PutBy, Tally, WakeList};
use crate::{
    ChannelName, CloseReason, NodeId,
    loss::tracker::SequenceTracker,
    runtime::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    wire::digest::Span,
};

/// How many subscribers share a ring before the channel gets another: they fit one bit mask, and meet on one lock.
const SEATS: u32 = 64;

/// A channel's first ring, or one more in the chain behind it.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) channel: ChannelName,
    /// Further rings of a channel with more than [`SEATS`] subscribers.
    pub(super) next: OnceLock<Arc<Ring>>,
    state: Mutex<State>,
    /// Seats whose subscriber has taken more than one entry, and not yielded all of them. Set under the lock.
    holding: AtomicU64,
    /// How many hold on to it without a seat. Raised under the shard's lock, and looked at under it before the ring is
    /// taken away.
    pub(super) pins: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    slots: VecDeque<Slot>,
    /// The position of the first slot; positions count up from 0 and are never used again.
    first: u64,
    /// Seats that have read everything.
    caught_up: u64,
    /// The weight of everything before `first`.
    gone: Tally,
    /// The weight of everything ever put here.
    posted: Tally,
    taken: u64,
    waiting: u64,
    /// One for each seat up to the highest taken so far. Most channels have one subscriber: it costs no allocation.
    wakers: SmallVec<[Option<Waker>; 1]>,
    /// The link was lost: the next entry from a link is preceded by this one.
    gap_due: Option<Entry>,
    /// Seats of listeners, which read on by themselves.
    listening: u64,
    /// Seats that yield nothing: their subscription has not begun, or the session of their stream is closed.
    silent: u64,
    /// Subscribers read the rest and then end. Boxed: it is rare, and large.
    ended: Option<Box<End>>,
    /// The sequence numbers received through the present link. Only in the first ring of a chain.
    tracker: Option<Box<SequenceTracker>>,
    /// The newest probe epoch when the channel was found subscribed; `None` until then.
    subscribed: Option<NonZero<u64>>,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Cursors that stand here: their next entry is this one. At most [`SEATS`], but a slot is three whole words
    /// because a part of one would hold up the copy of it.
    readers: usize,
}

/// A subscriber's place in its ring.
#[derive(Debug)]
pub(crate) struct Cursor {
    position: u64,
    /// The weight of everything before `position`, had nothing been lost on the way.
    seen: Tally,
    pub(crate) seat: u8,
}

/// The end of a ring.
#[derive(Debug)]
struct End {
    reason: CloseReason,
    /// Seats that still had something to read when it ended, or to finish, and have not yet.
    owing: u64,
}

impl Ring {
    pub(super) fn new(channel: ChannelName) -> Self {
        Self {
            channel,
            next: OnceLock::new(),
            state: Mutex::default(),
            holding: AtomicU64::new(0),
            pins: AtomicUsize::new(0),
        }
    }

    /// No code of others runs under this lock, so a poisoned one is as good as new.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat at the tail; `None` when all are taken. "Subscribed" begins at one exact entry because
    /// seat and position are taken under one lock.
    pub(super) fn join(&self) -> Option<Cursor> {
        let mut state = self.lock();
        let seat = (!state.taken).trailing_zeros();
        if seat == SEATS {
            return None;
        }
        let bit = 1 << seat;
        state.taken |= bit;
        state.caught_up |= bit;
        state.listening &= !bit;
        state.silent |= bit;
        self.holding.fetch_and(!bit, Ordering::SeqCst);
        if state.wakers.len() <= seat as usize {
            state.wakers.push(None);
        }
        Some(Cursor { position: state.tail(), seen: state.posted, seat: seat as u8 })
    }

    /// Moves the cursor behind everything that is here.
    pub(crate) fn skip(&self, cursor: &mut Cursor) {
        let mut garbage = Vec::new(); // dropped after the lock
        let mut state = self.lock();
        let position = cursor.position.max(state.first);
        state.step_off(position, cursor.seat);
        state.caught_up |= 1 << cursor.seat;
        while state.slots.front().is_some_and(|slot| slot.readers == 0) {
            garbage.extend(state.pop());
        }
        (cursor.position, cursor.seen) = (state.tail(), state.posted);
        drop(state);
    }

    /// The subscription of a seat begins: that of a listener, or of a stream.
    pub(crate) fn begin(&self, seat: u8, listening: bool) {
        let mut state = self.lock();
        state.silent &= !(1 << seat);
        state.listening |= u64::from(listening) << seat;
    }

    /// Gives the seat back. Whether nobody is left, and whether the end of the ring waited for it.
    pub(super) fn leave(&self, cursor: &Cursor, wakes: &mut WakeList) -> (bool, bool) {
        let mut state = self.lock();
        let bit = 1 << cursor.seat;
        let owed = state.note_finished(bit);
        state.taken &= !bit;
        state.waiting &= !bit;
        wakes.wakers.extend(state.wakers[cursor.seat as usize].take());
        let position = cursor.position.max(state.first);
        state.step_off(position, cursor.seat);
        state.caught_up &= !bit;
        while state.slots.front().is_some_and(|slot| slot.readers == 0) {
            wakes.garbage.extend(state.pop());
        }
        if state.taken == 0 {
            wakes.garbage.extend(state.gap_due.take());
        }
        (state.taken == 0, owed)
    }

    /// Why the ring has ended, if it has.
    pub(crate) fn end_reason(&self) -> Option<CloseReason> {
        self.lock().ended.as_ref().map(|end| end.reason.clone())
    }

    /// Compares a message of the link with what was received before it. How many are missing; `None` for a repeat.
    pub(super) fn compare(&self, seq: &MessageSeq) -> Option<u64> {
        let mut state = self.lock();
        if state.taken == 0 || state.ended.is_some() {
            return Some(0);
        }
        state.tracker.get_or_insert_default().message(seq.origin, seq.epoch, seq.sequence)
    }

    /// Compares what a node says it has posted with what was received of it. How many messages are missing.
    pub(super) fn compare_span(&self, origin: NodeId, span: &Span, probe_epochs: ProbeEpochs) -> u64 {
        let mut state = self.lock();
        let Some(subscribed) = state.subscribed.filter(|_| state.taken != 0 && state.ended.is_none()) else {
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

    /// The channel is subscribed at the backend, and was before the next probe epoch begins.
    pub(super) fn set_subscribed(&self, probe_epoch: u64) {
        let mut state = self.lock();
        state.subscribed = state.subscribed.or(NonZero::new(probe_epoch));
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
    pub(super) fn put(&self, entry: impl Into<Entry>, from: PutBy, capacity: usize, wakes: &mut WakeList) {
        let mut state = self.lock();
        if state.taken == 0 || state.ended.is_some() {
            wakes.too_late |= state.ended.is_some();
            wakes.garbage.push(entry.into());
            return;
        }
        let due = if from == PutBy::Link { state.gap_due.take() } else { None };
        if let Some(gap) = due {
            state.push(gap, capacity, wakes);
        }
        state.push(entry, capacity, wakes);
        state.wake_waiting(wakes);
    }

    /// The link of this channel is lost: the gap is delivered as soon as the channel is subscribed again.
    pub(super) fn mark_gap(&self, gap: Entry) {
        let mut state = self.lock();
        if state.taken != 0 {
            state.gap_due = Some(gap);
        }
    }

    /// The channel is subscribed again: delivers the gap that is due, unless it was already delivered before an entry.
    pub(super) fn flush_gap(&self, capacity: usize, wakes: &mut WakeList) {
        let mut state = self.lock();
        if let Some(gap) = state.gap_due.take() {
            state.push(gap, capacity, wakes);
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
    pub(crate) fn take(
        &self,
        cursor: &mut Cursor,
        batch: &mut Vec<Entry>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>> {
        let mut replaced = None; // dropped after the lock: a waker is foreign code
        let mut state = self.lock();
        let mut missed = Tally::default();
        if cursor.position < state.first {
            missed = state.gone - cursor.seen;
            (cursor.position, cursor.seen) = (state.first, state.gone);
        }
        let available = (state.tail() - cursor.position) as usize;
        if available > 0 {
            state.read(cursor, batch, available.min(most));
            missed.gaps().rev().for_each(|gap| batch.push(Entry::gap(gap)));
            if batch.len() > 1 {
                self.holding.fetch_or(1 << cursor.seat, Ordering::SeqCst);
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = &state.ended {
            return Poll::Ready(Err(end.reason.clone()));
        }
        let place = &mut state.wakers[cursor.seat as usize];
        if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            replaced = place.replace(cx.waker().clone());
        }
        // Last: to clone a waker is foreign code, which may panic.
        state.waiting |= 1 << cursor.seat;
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// The invariants of the module's first lines.
    #[cfg(test)]
    pub(super) fn check(&self, capacity: usize) {
        let state = self.lock();
        let readers: usize = state.slots.iter().map(|slot| slot.readers).sum();
        assert_eq!(readers + state.caught_up.count_ones() as usize, state.taken.count_ones() as usize);
        assert_eq!(state.caught_up & !state.taken, 0);
        assert!(state.slots.front().is_none_or(|slot| slot.readers > 0));
        let held = state.slots.iter().fold(Tally::default(), |sum, slot| sum + slot.entry.weight());
        assert_eq!(state.gone + held, state.posted);
        assert_eq!(state.waiting & !state.taken, 0);
        for seat in 0..SEATS as usize {
            let waker = state.wakers.get(seat).is_some_and(Option::is_some);
            assert_eq!(waker, state.waiting & 1 << seat != 0);
        }
        assert!(state.slots.len() <= capacity);
    }
}

impl State {
    fn tail(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    #[inline]
    fn push(&mut self, entry: impl Into<Entry>, capacity: usize, wakes: &mut WakeList) {
        let entry = entry.into();
        self.posted = self.posted + entry.weight();
        // Most of the time nobody has caught up: then nothing is to be counted.
        let readers =
            if self.caught_up == 0 { 0 } else { mem::take(&mut self.caught_up).count_ones() as usize };
        self.slots.push_back(Slot { entry, readers });
        if self.slots.len() > capacity {
            let lagging = self.slots.front().map_or(0, |slot| slot.readers);
            wakes.garbage.extend(self.pop());
            // Those who stood on it now stand on the next, and find out when they read. There is one: a ring keeps at
            // least the entry that was put last.
            if let Some(slot) = self.slots.front_mut() {
                slot.readers += lagging;
            }
        }
        // What nobody stands before is dropped at once.
        while self.slots.front().is_some_and(|slot| slot.readers == 0) {
            wakes.garbage.extend(self.pop());
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        self.gone = self.gone + self.slots.front()?.entry.weight();
        self.first += 1;
        self.slots.pop_front().map(|slot| slot.entry)
    }

    fn step_off(&mut self, position: u64, seat: u8) {
        match self.slots.get_mut((position - self.first) as usize) {
            Some(slot) => slot.readers -= 1,
            None => self.caught_up &= !(1 << seat),
        }
    }

    fn read(&mut self, cursor: &mut Cursor, batch: &mut Vec<Entry>, count: usize) {
        self.step_off(cursor.position, cursor.seat);
        let start = (cursor.position - self.first) as usize;
        // The front has no readers only if it was ours alone.
        let alone = (0..count).take_while(|index| self.slots[*index].readers == 0).count();
        batch.extend((start + alone..start + count).rev().map(|index| {
            let entry = self.slots[index].entry.clone();
            cursor.seen = cursor.seen + entry.weight();
            entry
        }));
        let shared = batch.len();
        for _ in 0..alone {
            cursor.seen = cursor.seen + self.slots[0].entry.weight();
            batch.extend(self.pop());
        }
        batch[shared..].reverse();
        cursor.position += count as u64;
        match self.slots.get_mut((cursor.position - self.first) as usize) {
            Some(slot) => slot.readers += 1,
            None => self.caught_up |= 1 << cursor.seat,
        }
    }

    #[inline]
    fn wake_waiting(&mut self, wakes: &mut WakeList) {
        while self.waiting != 0 {
            let seat = self.waiting.trailing_zeros() as usize;
            self.waiting &= self.waiting - 1;
            if let Some(waker) = self.wakers[seat].take() {
                wakes.wakers.push(waker);
            }
        }
    }
}
