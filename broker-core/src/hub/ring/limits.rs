//! How much a ring keeps: as many entries as its most demanding reader may have waiting.
//!
//! It follows the readers: a larger capacity holds from the moment when its reader takes a seat, and ends when that one
//! leaves; a ring whose readers all ask for less keeps less.

use super::{
    place::{Capacities, Mask, SEATS, bit},
    state::State,
};

/// How many entries are kept for a reader of the newest message only: that one, and the gaps that may stand behind it.
pub(super) const KEPT: u32 = 16;

impl State {
    /// A reader takes a seat, beside those that are taken.
    pub(super) fn add_capacity(&mut self, seat: u8, capacity: u32, hub: u32) {
        if capacity != hub || self.capacities().is_some() {
            let new = || Box::new([hub; SEATS as usize]);
            self.rare_mut().capacities.get_or_insert_with(new)[seat as usize] = capacity;
        }
        self.limits.most = if self.taken == 0 { capacity } else { self.limits.most.max(capacity) };
    }

    /// A reader has left its seat.
    pub(super) fn remove_capacity(&mut self) {
        let Some(capacities) = self.capacities() else { return };
        if self.taken == 0 {
            self.rare_mut().capacities = None;
            self.tidy();
        } else {
            self.limits.most = largest(capacities, self.taken);
        }
    }

    fn capacities(&self) -> Option<&Capacities> {
        self.rare.as_ref().and_then(|rare| rare.capacities.as_deref())
    }

    /// Whether the limit is what the seats need.
    #[cfg(test)]
    pub(super) fn check_limits(&self, hub: u32) {
        let expected = self.capacities().map_or(hub, |capacities| largest(capacities, self.taken));
        assert!(self.taken == 0 || self.limits.most == expected, "{:?}", self.limits);
    }
}

fn largest(capacities: &Capacities, taken: Mask) -> u32 {
    let of = |seat: u8| capacities[seat as usize];
    (0..SEATS as u8).filter(|seat| taken & bit(*seat) != 0).map(of).max().unwrap_or(0)
}
