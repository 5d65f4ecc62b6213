//! The cases about NATS alone.

use broker_conformance::case::Case;

mod cluster;
mod connecting;
mod limits;
mod log;
mod log_refusals;
mod unlogged;

/// Every case about NATS alone.
pub(crate) const CASES: &[&[Case]] =
    &[connecting::CASES, cluster::CASES, limits::CASES, unlogged::CASES, log::CASES, log_refusals::CASES];
