//! Where a reader stands in a ring, how it reads, how much a ring keeps, and how it ends: the parts of a ring's state.

use crate::{CloseReason, hub::Tally};

/// A bit for each seat of a ring.
pub(super) type Mask = u32;

/// How many subscribers share a ring before the channel gets another: they fit one [`Mask`], and meet on one lock. Most
/// channels have one subscriber, so a mask is small.
pub(super) const SEATS: u32 = Mask::BITS;

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
    /// By how much everything before `position` weighs more than one message each, had nothing been lost on the way.
    /// Boxed, and `None` for nothing: see [`uneven`](super::uneven).
    pub(super) seen: Option<Box<Tally>>,
    /// How many entries wait at most; 0: only the newest message.
    pub(super) capacity: u32,
    pub(crate) seat: u8,
    /// Messages that its stream has yielded and not counted yet, at most one batch of them. It stands here because
    /// here is room for it.
    pub(crate) uncounted: u8,
    /// Its subscription has not begun, or not looked since.
    pub(super) pending: bool,
    pub(super) queueing: bool,
}

const _: () = assert!(size_of::<Cursor>() == 24);

/// The end of a ring.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: CloseReason,
    /// Seats that still had something to read when it ended, or to finish, and have not yet.
    pub(super) owing: Mask,
}

/// The seats of a ring whose readers stand nowhere yet, and of those who have not looked since they do.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// They wait for the confirmation.
    pub(super) seats: Mask,
    /// They are closed meanwhile.
    pub(super) closed: Mask,
    /// They have begun, here.
    pub(super) begun: Vec<(u8, Place)>,
}

/// A position, and by how much everything before it weighs more than one message each.
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

/// The capacity of each seat.
pub(super) type Capacities = [u32; SEATS as usize];

/// How much a ring keeps: see [`limits`](super::limits).
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// How many entries. Of no meaning while there is no reader.
    pub(super) most: u32,
    /// The bytes of payload in the ring, where they are limited.
    pub(super) bytes: u32,
}

impl Limits {
    #[inline]
    pub(super) fn most(&self) -> usize {
        self.most as usize
    }
}

/// The bit of a seat in the masks of a ring.
#[inline]
pub(super) const fn bit(seat: u8) -> Mask {
    1 << seat
}
