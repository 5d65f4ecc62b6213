//! How much a ring keeps: as many entries as its most demanding reader may have waiting.
//!
//! It follows the readers: a larger capacity holds from the moment when its reader takes a seat, and ends when that one
//! leaves; a ring whose readers all ask for less keeps less.

use super::place::{SEATS, bit};

/// How many entries are kept for a reader of the newest message only: that one, and the gaps that may stand behind it.
pub(super) const KEPT: u32 = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// How many entries. Of no meaning while there is no reader.
    most: u32,
    /// The capacity of each seat; `None` while all have the hub's.
    of_seats: Option<Box<[u32; SEATS as usize]>>,
    /// The bytes of payload in the ring, where they are limited.
    pub(super) bytes: u32,
}

impl Limits {
    #[inline]
    pub(super) fn most(&self) -> usize {
        self.most as usize
    }

    /// A reader takes a seat, beside those that are `taken`.
    pub(super) fn add(&mut self, seat: u8, capacity: u32, hub: u32, taken: u64) {
        if capacity != hub || self.of_seats.is_some() {
            self.of_seats.get_or_insert_with(|| Box::new([hub; SEATS as usize]))[seat as usize] = capacity;
        }
        self.most = if taken == 0 { capacity } else { self.most.max(capacity) };
    }

    /// A reader has left; these are still `taken`.
    pub(super) fn remove(&mut self, taken: u64) {
        match &self.of_seats {
            Some(_) if taken == 0 => self.of_seats = None,
            Some(capacities) => self.most = largest(capacities, taken),
            None => {}
        }
    }

    /// Whether it is what these seats need.
    #[cfg(test)]
    pub(super) fn check(&self, hub: u32, taken: u64) {
        let expected = self.of_seats.as_ref().map_or(hub, |capacities| largest(capacities, taken));
        assert!(taken == 0 || self.most == expected, "{self:?}");
    }
}

fn largest(capacities: &[u32; SEATS as usize], taken: u64) -> u32 {
    let of = |seat: u8| capacities[seat as usize];
    (0..SEATS as u8).filter(|seat| taken & bit(*seat) != 0).map(of).max().unwrap_or(0)
}
