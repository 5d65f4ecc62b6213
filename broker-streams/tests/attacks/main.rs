//! Attacks: what a hostile client, a bad moment or careless user code could do to the server, and must not.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../x1/extended.rs"]
mod extended;
mod panics;
mod parked;
mod slow;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
