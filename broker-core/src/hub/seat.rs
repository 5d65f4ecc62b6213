//! Seat: where the readers of a session are, so that it can close them.

use std::sync::Arc;

use super::{Hub, Ring, WakeList};

/// What a session closes: the seat of a stream or a listener, or those of a set of channels.
#[derive(Clone)]
pub(crate) enum Seat {
    One(Arc<Ring>, u8),
    /// Boxed, so that one has the size that it would have alone.
    Many(Box<Arc<dyn Seats>>),
}

/// The seats of a set of channels.
pub(crate) trait Seats: Send + Sync {
    /// Closes each of them, and wakes the reader.
    fn close(&self, hub: &Hub, wakes: &mut WakeList);
}

impl Seat {
    pub(crate) fn close(&self, hub: &Hub, wakes: &mut WakeList) {
        match self {
            Self::One(ring, seat) => hub.close_seat(ring, *seat, wakes),
            Self::Many(seats) => seats.close(hub, wakes),
        }
    }
}

const _: () = assert!(size_of::<Seat>() == 16);
