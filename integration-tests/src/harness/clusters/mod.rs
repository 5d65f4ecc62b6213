//! Clusters: our entries of the suite on brokers of several members, a file below this one for each topology. Node *i*
//! of a case is on member *i*. They start slowly, so that they run only where they are named.

use broker_conformance::Entry;

pub mod nats_cluster;
pub mod rabbitmq_cluster;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_sharded;

/// Every topology of the suite.
pub const CLUSTERS: &[Entry] = &[
    nats_cluster::ENTRY,
    rabbitmq_cluster::ENTRY,
    redis_cluster::ENTRY,
    redis_sentinel::ENTRY,
    redis_sharded::ENTRY,
];
