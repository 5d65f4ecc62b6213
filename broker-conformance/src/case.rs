//! Case: one sentence about every backend, and the function that proves it.

use std::{fmt, panic::Location};

use broker_core::driver::{Capabilities, Confirmation, OrderGuarantee, PermissionScope};
use futures_util::future::BoxFuture;

use crate::{entry::Entry, harness::Harness};

/// One case: its name is a sentence, its function proves it on a fresh cluster.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The sentence, in snake case.
    pub name: &'static str,
    /// The promises of the design that it proves, by number.
    pub promises: &'static [u8],
    /// What it needs beyond the contract.
    pub needs: &'static [Need],
    /// Proves it.
    pub run: Run,
}

/// A case's function, with its future boxed.
pub type Run = fn(&dyn Harness) -> BoxFuture<'_, Outcome>;

impl Case {
    /// A case that every backend must pass.
    #[must_use]
    pub const fn new(name: &'static str, promises: &'static [u8], run: Run) -> Self {
        Self { name, promises, needs: &[], run }
    }

    /// The same case, for those that have what it needs.
    #[must_use]
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Why the case does not apply to a backend; `None` when it does.
    #[must_use]
    pub fn not_applicable(&self, entry: &Entry) -> Option<String> {
        let lacks = |need: Need| (entry.lacks)(need);
        self.not_applicable_to(&entry.capabilities, lacks)
    }

    /// The same, for links that promise this and a server that lacks that.
    pub(crate) fn not_applicable_to(
        &self,
        capabilities: &Capabilities,
        lacks: impl Fn(Need) -> Option<&'static str>,
    ) -> Option<String> {
        let mut reasons =
            self.needs.iter().filter_map(|need| need.lacking(capabilities).or_else(|| lacks(*need)));
        reasons.next().map(|reason| format!("not applicable: {reason}"))
    }
}

/// What a case needs beyond the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// A server that the case has to itself: to kill, start and pause, and to count what is open there.
    OwnServer,
    /// A server that is a process of this machine, and shares its files.
    Process,
    /// A load balancer (HAProxy) that is a process of this machine, to put before servers.
    LoadBalancer,
    /// A pooler (PgBouncer) that is a process of this machine, to put before servers.
    Pooler,
    /// A server that keeps its data when it is killed, and the revocation log with them.
    Durable,
    /// A server that can refuse channels.
    Permissions,
    /// A post that has returned `Ok` arrives everywhere before what another node posts after that, and before what the same
    /// node posts through its next link.
    PostsInTurn,
    /// All that a node receives comes by one path: what is published first arrives first, on whatever channel.
    OnePath,
    /// One order of a channel's messages for all nodes.
    ChannelOrder,
    /// An `Ok` of a post that means that the server took it.
    Confirms,
    /// A log that outlives the links: the server keeps what is revoked.
    Log,
    /// A server, without which no node is connected. Where nodes reach each other directly, one that reaches nobody is
    /// alone, and not away.
    Server,
}

impl Need {
    /// Why what the links promise rules the need out.
    fn lacking(self, capabilities: &Capabilities) -> Option<&'static str> {
        match self {
            Self::ChannelOrder if capabilities.ordering != OrderGuarantee::PerChannel => {
                Some("the backend orders per publisher only")
            }
            Self::Confirms if capabilities.confirmation != Confirmation::Accepted => {
                Some("the backend does not confirm what it took")
            }
            Self::Permissions if capabilities.permissions != PermissionScope::Channel => {
                Some("the backend knows no permissions for single channels")
            }
            _ => None,
        }
    }
}

/// What a case ends with.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a case failed, and where. Anything that can be shown turns into one at a `?`.
pub struct Failure {
    reason: String,
    place: &'static Location<'static>,
}

impl<E: fmt::Display> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self { reason: error.to_string(), place: Location::caller() }
    }
}

/// Not `Display`: it would then turn into itself.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    at {}", self.reason, self.place)
    }
}

/// A [`Case`] that is named after its function: `case!(a_post_arrives, [1, 2])`.
#[macro_export]
macro_rules! case {
    ($function:ident, $promises:expr) => {
        $crate::case::Case::new(stringify!($function), &$promises, |harness| Box::pin($function(harness)))
    };
}
#[doc(inline)]
pub use crate::case;
