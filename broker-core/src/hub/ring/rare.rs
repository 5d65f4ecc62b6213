//! Rare: what most rings do not have, in one box, because there may be millions of rings. It is given back when nothing is
//! in it any more.

use super::place::{Capacities, End, Pending};
use crate::hub::{Entry, Tally};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The link was lost: the next entry from a link is preceded by this one.
    pub(super) gap_due: Option<Entry>,
    /// Subscribers read the rest and then end.
    pub(super) ended: Option<End>,
    /// Seats whose subscription begins when the backend has confirmed the channel.
    pub(super) pending: Option<Box<Pending>>,
    /// How many entries wait for each reader; `None` while all have the hub's capacity.
    pub(super) capacities: Option<Box<Capacities>>,
    /// What differs from one message for each entry.
    pub(super) uneven: Option<Box<Uneven>>,
}

/// What entries weigh that are not one message each: see [`uneven`](super::uneven).
#[derive(Debug)]
pub(super) struct Uneven {
    /// Where the first of these entries stands: whoever stands there or before it has seen messages only.
    pub(super) since: u64,
    /// By how much everything put here weighs more than one message each, and everything that is gone.
    pub(super) posted: Tally,
    pub(super) gone: Tally,
}
