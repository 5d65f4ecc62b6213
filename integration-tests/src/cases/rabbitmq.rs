//! The cases about RabbitMQ alone.

use broker_conformance::case::Case;

mod connecting;
mod faults;
mod limits;
mod log;

/// Every case about RabbitMQ alone.
pub(crate) const CASES: &[&[Case]] = &[connecting::CASES, faults::CASES, limits::CASES, log::CASES];
