//! The conformance suite: one list of cases, every backend, real servers, injected faults.

pub mod case;
pub mod cases;
pub mod certificates;
#[cfg(feature = "docker")]
pub mod docker;
pub mod harness;
pub mod proxy;
pub mod redis_config;
pub mod redis_control;
pub mod redis_server;
pub mod server;
pub mod wait;
