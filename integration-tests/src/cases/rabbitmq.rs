//! The cases about RabbitMQ alone.

use broker_conformance::case::Case;

mod cluster;
mod connecting;
mod faults;
mod limits;
mod log;

/// Every case about RabbitMQ alone.
pub(crate) const CASES: &[&[Case]] = &[connecting::CASES, faults::CASES, limits::CASES, log::CASES];

/// Every case about a cluster of RabbitMQ alone.
pub(crate) const CLUSTER_CASES: &[&[Case]] = &[cluster::CASES];
