//! Names: a channel's name in the application, and on the wire with the prefix before it.

use std::sync::Arc;

use crate::{ChannelName, NodeId};

/// The prefix and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Empty, or with the dot at its end.
    prefix: Arc<str>,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        Self { prefix: prefix.into() }
    }

    pub(crate) fn to_wire(&self, name: &str) -> ChannelName {
        ChannelName::internal(format!("{}{name}", self.prefix))
    }

    /// As [`to_wire`](Self::to_wire), sharing the name when there is no prefix.
    pub(crate) fn share_to_wire(&self, name: &ChannelName) -> ChannelName {
        if self.prefix.is_empty() { name.clone() } else { self.to_wire(name.as_str()) }
    }

    /// The name in the application; `None` for one that is not ours.
    pub(crate) fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&*self.prefix)
    }
}

/// The channel of announcements of revocations; the log is named after it.
pub(crate) const REVOCATIONS: &str = "$revocations";

/// The channel of the digests of what nodes have posted.
pub(crate) const DIGESTS: &str = "$digests";

/// The channel of one node's probe.
pub(crate) fn probe_channel(node: NodeId) -> ChannelName {
    ChannelName::internal(format!("$node.{node}"))
}

/// The channel to which replies go to one node. Below the node's own name, so that the permissions for that are enough.
pub(crate) fn reply_channel(node: NodeId) -> ChannelName {
    ChannelName::internal(format!("$node.{node}{REPLIES}"))
}

/// Whether a name is that of a node's channel for replies. The only one of the broker's own whose messages go through the
/// hub, as those of users do: numbered, compared with digests, with gaps.
pub(crate) fn is_reply_channel(name: &str) -> bool {
    let node = name.strip_prefix("$node.").and_then(|name| name.strip_suffix(REPLIES));
    node.is_some_and(|node| node.len() == 16 && node.bytes().all(|c| c.is_ascii_hexdigit()))
}

const REPLIES: &str = ".replies";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::MAX_NAME;

    #[test]
    fn no_wire_name_exceeds_the_limit_for_drivers() {
        let (prefix, name) = ("p".repeat(50), "n".repeat(ChannelName::MAX));
        assert!(crate::channel::check_prefix(&prefix).is_ok());
        assert!(crate::channel::check_prefix(&format!("{prefix}p")).is_err());
        assert_eq!(Names::new(&prefix).to_wire(&name).as_str().len(), MAX_NAME);
    }
    #[test]
    fn a_channel_for_replies_is_known_by_its_name() {
        assert!(is_reply_channel(reply_channel(NodeId::from_u64(7)).as_str()));
        for other in [
            "$node.0000000000000007",
            "$node.7.replies",
            "$node.000000000000000g.replies",
            "news.replies",
            "",
        ] {
            assert!(!is_reply_channel(other), "{other}");
        }
    }
}
