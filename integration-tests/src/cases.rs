//! The cases about one backend alone, a folder for each. Those for all backends are in `broker_conformance::cases`.

mod backend_common;
pub(crate) mod nats;
pub(crate) mod postgres;
pub(crate) mod rabbitmq;
mod reaching;
pub(crate) mod redis;
mod tls;
