//! NodeId and MessageId: who sent a message, and which one it was.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// A process in the cluster, or rather one [`Broker`](crate::Broker) in it: random, new at every start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

impl NodeId {
    pub(crate) fn random() -> Self {
        // Without the system's random source the clock and a counter still tell nodes apart.
        static FALLBACK: AtomicU64 = AtomicU64::new(1);
        let random = getrandom::u64().unwrap_or_else(|_| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            now.as_nanos() as u64 ^ FALLBACK.fetch_add(1, Ordering::Relaxed) << 56
        });
        Self(random)
    }

    pub(crate) const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The id as a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// A message's id: the node that posted it and its number there. The same message has the same id everywhere. Their order
/// says nothing about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    pub(crate) origin: NodeId,
    pub(crate) number: u64,
}

impl MessageId {
    /// The node that posted the message.
    #[must_use]
    pub const fn origin(self) -> NodeId {
        self.origin
    }

    /// The message's number at that node.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.origin, self.number)
    }
}
