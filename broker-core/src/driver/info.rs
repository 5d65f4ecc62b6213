//! LinkInfo, Receipt, ConnectContext: what core and a link exchange around the calls.

use std::{num::NonZero, sync::Arc, time::Duration};

use super::{Capabilities, Inbox};
use crate::{
    ChannelName, NodeId,
    wire::{
        limits::MAX_FRAME,
        names::{DIGESTS, Names, is_reply_channel},
    },
};

/// What a driver gets to open a link with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectContext {
    /// Where the link hands over what it receives.
    pub inbox: Inbox,
    /// The node that opens the link. A server's list of its clients may show it.
    pub node_id: NodeId,
    /// The prefix of the application's channels; empty if it has none. The names that a link gets have it in them
    /// already.
    pub prefix: Arc<str>,
}

impl ConnectContext {
    /// A context without a prefix and with a random node: for tests of a driver, which open a link without a broker.
    #[must_use]
    pub fn new(inbox: Inbox) -> Self {
        Self { inbox, node_id: NodeId::random(), prefix: Arc::default() }
    }

    /// The same for another inbox: for a driver around another one.
    #[must_use]
    pub fn with_inbox(mut self, inbox: Inbox) -> Self {
        self.inbox = inbox;
        self
    }

    /// Whether a channel, by its name on the wire, is one of the broker's own that core subscribes once for each link:
    /// those of the probe, the digests and the announcements. That of replies is like any channel of the application.
    #[must_use]
    pub fn is_own(&self, channel: &str) -> bool {
        Names::new(&self.prefix)
            .strip(channel)
            .is_some_and(|name| name.starts_with('$') && !is_reply_channel(name))
    }

    /// The channel of digests, by its name on the wire: there nodes say what they have posted. A digest must not overtake
    /// what was published before it: a link whose channels come by several paths holds it back.
    #[must_use]
    pub fn digests(&self) -> ChannelName {
        Names::new(&self.prefix).to_wire(DIGESTS)
    }

    pub(crate) fn with_node(mut self, node_id: NodeId, prefix: &str) -> Self {
        (self.node_id, self.prefix) = (node_id, prefix.into());
        self
    }
}

/// What a link has learned about its server. Core asks often, so it is cheap to make.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkInfo {
    /// What the link promises beyond the contract.
    pub capabilities: Capabilities,
    /// The longest frame that the server takes at present, in bytes. Posts are not put together beyond that. A single one
    /// that is longer is sent anyway, so that the server's refusal names it.
    pub max_frame: usize,
    /// How long a connection of the link may carry nothing before the server closes it; `None` if it does not do that,
    /// or does not say. Core posts a heartbeat at least twice in that time.
    pub idle_limit: Option<Duration>,
    /// The version that the server reports: for people to read. Nothing is decided by it.
    pub version: Option<Arc<str>>,
    /// How many calls of [`Link::publish`](super::Link::publish) may be under way at once. Asked once, when the link is
    /// up. Where it is more than one, a post that is refused may leave a gap of one at its receivers: the number that it
    /// had is used again only if all later posts of the channel that are under way are refused, too.
    pub publish_window: NonZero<usize>,
}

impl LinkInfo {
    /// These capabilities; [`MAX_FRAME`], no idle limit, no version, one call at a time.
    #[must_use]
    pub const fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            max_frame: MAX_FRAME,
            idle_limit: None,
            version: None,
            publish_window: NonZero::<usize>::MIN,
        }
    }
}

/// What a successful post returns. Empty today, so ignore it; fields may be added without breaking callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {}

impl Receipt {
    /// A receipt that says nothing but that the post was taken.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}
