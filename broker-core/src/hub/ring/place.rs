//! Where a reader stands in a ring, how it reads, and how a ring ends: the parts of a ring's state.

use crate::{CloseReason, hub::Tally};

/// How many subscribers share a ring before the channel gets another: they fit one bit mask, and meet on one lock.
pub(super) const SEATS: u32 = 64;

/// How a reader reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// How many entries wait for it at most; `None`: the hub's capacity.
    pub(crate) capacity: Option<u32>,
    /// Only the newest message.
    pub(crate) latest: bool,
    /// Its subscription begins when the backend has confirmed the channel.
    pub(crate) pending: bool,
    /// What it takes it puts into a queue of its own: a drain waits until it is [released](super::Ring::released).
    pub(crate) queueing: bool,
}

/// A subscriber's place in its ring.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(super) position: u64,
    /// The weight of everything before `position`, had nothing been lost on the way.
    pub(super) seen: Tally,
    pub(super) capacity: u32,
    pub(crate) seat: u8,
    pub(super) latest: bool,
    /// Its subscription has not begun, or not looked since.
    pub(super) pending: bool,
    pub(super) queueing: bool,
}

const _: () = assert!(size_of::<Cursor>() == 40);

/// The end of a ring.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: CloseReason,
    /// Seats that still had something to read when it ended, or to finish, and have not yet.
    pub(super) owing: u64,
}

/// The seats of a ring whose readers stand nowhere yet, and of those who have not looked since they do.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// They wait for the confirmation.
    pub(super) seats: u64,
    /// They are closed meanwhile.
    pub(super) closed: u64,
    /// They have begun, here.
    pub(super) begun: Vec<(u8, Place)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) seen: Tally,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.seats == 0 && self.begun.is_empty()
    }

    /// Where a reader stands, which is not pending any more.
    pub(super) fn remove(&mut self, seat: u8) -> Option<Place> {
        self.seats &= !bit(seat);
        self.closed &= !bit(seat);
        let index = self.begun.iter().position(|(begun, _)| *begun == seat)?;
        Some(self.begun.swap_remove(index).1)
    }
}

/// The bit of a seat in the masks of a ring.
#[inline]
pub(super) const fn bit(seat: u8) -> u64 {
    1 << seat
}
