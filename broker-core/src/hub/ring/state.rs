//! The state of a ring: its entries, and where the readers stand. Its methods keep the invariants of the ring's page.

use std::{collections::VecDeque, mem, num::NonZero, task::Waker};

use smallvec::SmallVec;

use super::{
    place::{Cursor, End, Limits, Mask, Pending, bit},
    rare::{Rare, Uneven},
};
use crate::{
    Message,
    hub::{Entry, Tally, WakeList},
    loss::tracker::SequenceTracker,
};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) slots: VecDeque<Slot>,
    /// The position of the first slot; positions count up from 0 and are never used again.
    pub(super) first: u64,
    /// Seats that have read everything.
    pub(super) caught_up: Mask,
    pub(super) taken: Mask,
    pub(super) waiting: Mask,
    /// One for each seat up to the highest taken so far. Most channels have one subscriber: it costs no allocation.
    pub(super) wakers: SmallVec<[Option<Waker>; 1]>,
    /// Seats of listeners, which read on by themselves.
    pub(super) listening: Mask,
    /// Seats that yield nothing: their subscription has not begun, or the session of their stream is closed.
    pub(super) silent: Mask,
    /// The sequence numbers received through the present link. Only in the first ring of a chain.
    pub(super) tracker: Option<Box<SequenceTracker>>,
    /// The newest probe epoch when the channel was found subscribed; `None` until then.
    pub(super) subscribed: Option<NonZero<u64>>,
    /// How many entries are kept, and the bytes of payload in them.
    pub(super) limits: Limits,
    pub(super) rare: Option<Box<Rare>>,
}

/// Three whole words, because a part of one would hold up the copy of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    /// The bytes of the entry's payload, and in the lowest eight bits the cursors that stand here: their next entry is
    /// this one. There are at most [`SEATS`](super::place::SEATS).
    marks: u64,
}

const READERS: u64 = 0xff;
/// What an entry counts at most: two of them, and the limit of 1 GiB, fit their type.
const LARGEST: usize = 1 << 30;

impl Slot {
    #[inline]
    pub(super) fn readers(&self) -> u32 {
        (self.marks & READERS) as u32
    }

    #[inline]
    pub(super) fn bytes(&self) -> u32 {
        (self.marks >> 8) as u32
    }
}

impl State {
    pub(super) fn tail(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Appends an entry. `most_bytes` limits the payload that is kept; 0 is no limit, and then nothing is counted.
    #[inline]
    pub(super) fn push(&mut self, entry: impl Into<Entry>, most_bytes: u32, wakes: &mut WakeList) {
        let entry = entry.into();
        if let Entry::Notice(notice) = &entry {
            self.count_posted(notice);
        }
        let bytes = if most_bytes == 0 { 0 } else { entry.size().min(LARGEST) as u32 };
        self.limits.bytes += bytes;
        // Most of the time no reader has caught up, or one: then nothing is to be counted.
        let readers = match mem::take(&mut self.caught_up) {
            0 => 0,
            one if one.is_power_of_two() => 1,
            several => number_of(several),
        };
        self.slots.push_back(Slot { entry, marks: u64::from(bytes) << 8 | u64::from(readers) });
        if self.is_over(most_bytes) {
            self.drop_oldest(most_bytes, wakes);
        }
        self.pop_read(&mut wakes.garbage);
    }

    #[inline]
    fn is_over(&self, most_bytes: u32) -> bool {
        self.slots.len() > self.limits.most() || (most_bytes != 0 && self.limits.bytes > most_bytes)
    }

    /// Drops the oldest until the rest is within the limits; the newest stays.
    pub(super) fn drop_oldest(&mut self, most_bytes: u32, wakes: &mut WakeList) {
        while self.slots.len() > 1 && self.is_over(most_bytes) {
            let lagging = self.slots.front().map_or(0, Slot::readers);
            wakes.garbage.extend(self.pop());
            // Those who stood on it now stand on the next, and find out when they read.
            if let Some(slot) = self.slots.front_mut() {
                slot.marks += u64::from(lagging);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let slot = self.slots.pop_front()?;
        if let Entry::Notice(notice) = &slot.entry {
            self.count_gone(notice);
        }
        self.limits.bytes -= slot.bytes();
        self.first += 1;
        Some(slot.entry)
    }

    /// Drops what every reader has passed.
    #[inline]
    pub(super) fn pop_read(&mut self, garbage: &mut impl Extend<Entry>) {
        while self.slots.front().is_some_and(|slot| slot.readers() == 0) {
            garbage.extend(self.pop());
        }
    }

    pub(super) fn step_off(&mut self, position: u64, seat: u8) {
        match self.slots.get_mut((position - self.first) as usize) {
            Some(slot) => slot.marks -= 1,
            None => self.caught_up &= !bit(seat),
        }
    }

    fn step_on(&mut self, position: u64, seat: u8) {
        match self.slots.get_mut((position - self.first) as usize) {
            Some(slot) => slot.marks += 1,
            None => self.caught_up |= bit(seat),
        }
    }

    /// A reader stands nowhere any more.
    pub(super) fn remove(&mut self, cursor: &Cursor, garbage: &mut impl Extend<Entry>) {
        let position = match self.pending_mut() {
            Some(pending) if cursor.pending => pending.remove(cursor.seat).map(|place| place.position),
            _ => Some(cursor.position),
        };
        self.tidy();
        if let Some(position) = position {
            self.step_off(position.max(self.first), cursor.seat);
            self.pop_read(garbage);
        }
    }

    /// Puts the next entries on top of the batch, of which there are some, behind gaps for those that the reader has lost
    /// or skips.
    #[inline(always)]
    pub(super) fn read_next(
        &mut self,
        cursor: &mut Cursor,
        batch: &mut Vec<Entry>,
        most: usize,
        passed_over: impl Fn(&Message) -> bool,
        garbage: &mut impl Extend<Entry>,
    ) {
        let available = self.tail() - cursor.position;
        if cursor.position >= self.first && available <= u64::from(cursor.capacity) {
            self.read(cursor, batch, most.min(available as usize));
        } else {
            self.read_lagging(cursor, batch, most, passed_over, garbage);
        }
    }

    /// The same for a reader that has lost some of them, or skips some.
    #[cold]
    fn read_lagging(
        &mut self,
        cursor: &mut Cursor,
        batch: &mut Vec<Entry>,
        most: usize,
        passed_over: impl Fn(&Message) -> bool,
        garbage: &mut impl Extend<Entry>,
    ) {
        let mut missed = Tally::default();
        if cursor.position < self.first {
            missed = self.overtake(cursor);
        }
        if cursor.capacity == 0 {
            return self.read_latest(cursor, batch, missed, passed_over, garbage);
        }
        let mut available = (self.tail() - cursor.position) as usize;
        let capacity = cursor.capacity as usize;
        if available > capacity {
            missed = missed + self.jump(cursor, self.tail() - capacity as u64, garbage);
            available = capacity;
        }
        self.read(cursor, batch, available.min(most));
        put_gaps(missed, batch);
    }

    /// Moves a cursor forward over what it will not read. The weight of that.
    pub(super) fn jump(&mut self, cursor: &mut Cursor, to: u64, garbage: &mut impl Extend<Entry>) -> Tally {
        let (from, until) = ((cursor.position - self.first) as usize, (to - self.first) as usize);
        let skipped =
            self.slots.range(from..until).fold(Tally::default(), |sum, slot| sum + slot.entry.weight());
        let place = self.place_behind(cursor, until - from);
        self.step_off(cursor.position, cursor.seat);
        self.step_on(to, cursor.seat);
        cursor.stand(place);
        self.pop_read(garbage);
        skipped
    }

    /// Puts the next entries on top of the batch, the first one topmost.
    #[inline]
    pub(super) fn read(&mut self, cursor: &mut Cursor, batch: &mut Vec<Entry>, count: usize) {
        let uneven = self.uneven().map(|_| self.place_behind(cursor, count));
        let start = (cursor.position - self.first) as usize;
        let next = &mut self.slots[start];
        next.marks -= 1;
        // The front has no readers only if it was ours alone.
        let is_alone = next.readers() == 0 && start == 0;
        match (count, is_alone) {
            (1, false) => batch.push(next.entry.clone()),
            (1, true) => batch.extend(self.pop()),
            _ => self.read_several(start, batch, count),
        }
        cursor.position += count as u64;
        self.step_on(cursor.position, cursor.seat);
        match uneven {
            Some(place) => self.note_seen(cursor, place),
            None => cursor.seen = None,
        }
    }

    #[inline]
    fn read_several(&mut self, start: usize, batch: &mut Vec<Entry>, count: usize) {
        let alone = (0..count).take_while(|index| self.slots[*index].readers() == 0).count();
        batch.extend((start + alone..start + count).rev().map(|index| self.slots[index].entry.clone()));
        let shared = batch.len();
        for _ in 0..alone {
            batch.extend(self.pop());
        }
        batch[shared..].reverse();
    }

    #[inline]
    pub(super) fn wake_waiting(&mut self, wakes: &mut WakeList) {
        while self.waiting != 0 {
            let seat = self.waiting.trailing_zeros() as usize;
            self.waiting &= self.waiting - 1;
            if let Some(waker) = self.wakers[seat].take() {
                wakes.wakers.push(waker);
            }
        }
    }
}

/// What is rare.
impl State {
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    #[inline]
    pub(super) fn ended(&self) -> Option<&End> {
        self.rare.as_ref().and_then(|rare| rare.ended.as_ref())
    }

    #[inline]
    pub(super) fn pending_mut(&mut self) -> Option<&mut Pending> {
        self.rare.as_mut().and_then(|rare| rare.pending.as_deref_mut())
    }

    #[inline]
    pub(super) fn uneven(&self) -> Option<&Uneven> {
        self.rare.as_ref().and_then(|rare| rare.uneven.as_deref())
    }

    #[inline]
    pub(super) fn take_gap_due(&mut self) -> Option<Entry> {
        let gap = self.rare.as_mut()?.gap_due.take();
        self.tidy();
        gap
    }

    /// Something rare may be over.
    pub(super) fn tidy(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.pending.take_if(|pending| pending.is_empty());
            if let Rare { gap_due: None, ended: None, pending: None, capacities: None, uneven: None } = **rare
            {
                self.rare = None;
            }
        }
    }
}

/// Not inlined: where a processor has no instruction for it, counting takes many, and one reader is the common case.
#[inline(never)]
fn number_of(seats: Mask) -> u32 {
    seats.count_ones()
}

/// What was lost or skipped stands on top, as gaps.
#[cold]
pub(super) fn put_gaps(missed: Tally, batch: &mut Vec<Entry>) {
    batch.extend(missed.gaps().rev().map(Entry::gap));
}
