//! The cases about PostgreSQL alone.

use broker_conformance::case::Case;

mod cancels;
mod connecting;
mod log;
mod prepared;
mod server;
mod sql;
mod standby;

/// Every case about PostgreSQL alone.
pub(crate) const CASES: &[&[Case]] = &[
    cancels::CASES,
    connecting::CASES,
    log::CASES,
    prepared::CASES,
    server::CASES,
    sql::CASES,
    standby::CASES,
];
