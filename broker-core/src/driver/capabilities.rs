//! Capabilities: what a link promises beyond the contract.

/// What a link promises beyond the contract, with the server that it has. For each field there is a case in the
/// conformance suite, or a test with processes, that fails for a driver that promises too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Which processes can be reached.
    pub reach: Reach,
    /// How far the order of messages on a channel reaches.
    pub ordering: OrderGuarantee,
    /// What the `Ok` of a global post means.
    pub confirmation: Confirmation,
    /// What the server's permissions are about.
    pub permissions: PermissionScope,
}

impl Capabilities {
    /// The least that a link can promise: the order of each publisher, nothing confirmed, no permissions for single
    /// channels.
    #[must_use]
    pub const fn new(reach: Reach) -> Self {
        Self {
            reach,
            ordering: OrderGuarantee::PerPublisher,
            confirmation: Confirmation::Sent,
            permissions: PermissionScope::Server,
        }
    }

    /// The same with this reach.
    #[must_use]
    pub const fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// The same with this order.
    #[must_use]
    pub const fn ordering(mut self, ordering: OrderGuarantee) -> Self {
        self.ordering = ordering;
        self
    }

    /// The same with this meaning of `Ok`.
    #[must_use]
    pub const fn confirmation(mut self, confirmation: Confirmation) -> Self {
        self.confirmation = confirmation;
        self
    }

    /// The same with these permissions.
    #[must_use]
    pub const fn permissions(mut self, permissions: PermissionScope) -> Self {
        self.permissions = permissions;
        self
    }
}

/// Which processes can be reached through a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// The brokers of this process only.
    Process,
    /// Every process that is connected to the same server.
    Cluster,
}

/// How far the order of messages on a channel reaches. The weakest already keeps one publisher's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderGuarantee {
    /// Each publisher's messages in the order it posted them; two publishers may be seen interleaved in
    /// two ways by two nodes.
    PerPublisher,
    /// All nodes see all messages of a channel in one order.
    PerChannel,
}

/// What the `Ok` of a global post means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirmation {
    /// The post was sent.
    Sent,
    /// The server took the post.
    Accepted,
}

/// What the server's permissions are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PermissionScope {
    /// The server as a whole: a user of the broker may use every channel.
    Server,
    /// Single channels: a user can be granted one and refused another.
    Channel,
}
