//! Our backends in the [conformance suite](broker_conformance), on real servers, with injected faults.
//!
//! - [`harness`]: the entries of the suite, a file for each backend.
//! - [`servers`]: server programs and containers that a test starts and breaks, a folder for each backend.
//! - `cases`: what holds of one backend alone, a folder for each.
//! - [`soak`]: several nodes for minutes under faults that are drawn from a seed, and an oracle.
//! - [`faulty`]: drivers with one thing wrong, which the suite must catch.
//!
//! **A new backend** is a file below `harness/` with its line in [`ENTRIES`](harness::ENTRIES). Where it has a server,
//! that is a folder below `servers/`; what no other backend has is a folder below `cases/`.

pub(crate) mod cases;
pub mod example;
pub mod faulty;
pub mod harness;
pub mod servers;
pub mod silent;
pub mod soak;
