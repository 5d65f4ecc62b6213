//! What one client may do to the server, and what it may not: each limit at its edge, slow readers, floods, panics.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../x1/extended.rs"]
mod extended;
mod flow;
mod hostile;
mod numbers;
mod panics;
mod requests;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
