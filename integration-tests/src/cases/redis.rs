//! The cases about Redis alone.

use broker_conformance::case::Case;

mod cluster;
mod connecting;
mod failover_load;
mod idle;
mod load_balancer;
mod log;
mod log_refusals;
mod roles;
mod sentinel;
mod sentinel_refusals;
mod sharded;

/// Every case about Redis alone.
pub(crate) const CASES: &[&[Case]] = &[
    cluster::CASES,
    connecting::CASES,
    idle::CASES,
    load_balancer::CASES,
    log::CASES,
    log_refusals::CASES,
    roles::CASES,
    sentinel::CASES,
    sentinel_refusals::CASES,
    sharded::CASES,
];
