//! The conformance suite: one list of cases, every backend, real servers, injected faults.
//!
//! A [case](case::Case) is a sentence and a function over a [`Harness`](harness::Harness): one cluster of its
//! own, with a server to break and nodes on [lines](harness::Line) to cut, stall and heal. The binary runs every
//! case on every backend as `<backend>::<sentence>`.
//!
//! - **A new case**: an `async fn` in the file of its subject below `cases/`, and a line in that file's list.
//!   It waits for conditions ([`wait`]), never for time; that nothing more arrives is shown by a
//!   [fence](wait::fence). See it fail once: break the line in core that it guards.
//! - **A new backend**: a dependency in this crate's manifest, a file below `harness/`, and a line in
//!   [`HARNESSES`](harness::HARNESSES). What it cannot do its driver declares, and such cases are shown as not
//!   applicable.

pub mod case;
pub mod cases;
pub mod certificates;
#[cfg(feature = "docker")]
pub mod docker;
pub mod example;
pub mod faulty;
pub(crate) mod files;
pub mod guest;
pub mod harness;
pub mod log_checks;
pub mod log_link;
pub mod losses;
pub mod nats_config;
pub mod nats_control;
pub mod nats_server;
pub mod pool;
pub(crate) mod process;
pub mod proxy;
pub(crate) mod rabbitmq_config;
pub mod rabbitmq_control;
pub mod rabbitmq_server;
pub(crate) mod rabbitmq_stream;
pub mod redis_config;
pub mod redis_control;
pub mod redis_server;
pub mod server;
pub mod silent;
pub mod soak;
pub mod wait;
