//! The entry of the suite on a Redis Cluster with sharded channels.

use broker_conformance::{Entry, case::Need, harness::Harness};
use broker_core::{Capabilities, Confirmation, OrderGuarantee, PermissionScope, Reach};

use super::redis_cluster::{RedisClusterHarness, entry};

pub(super) const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// The entry of the suite for sharded channels.
pub const ENTRY: Entry = entry("redis-sharded", CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(RedisClusterHarness::start(needs, true).await?) as Box<dyn Harness>) })
})
.lacks(|need| (need == Need::OnePath).then_some("each shard has a connection of its own"));
