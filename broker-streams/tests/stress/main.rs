//! Many of everything: opens that race with revocations, cuts of a socket, sockets at the end.

#![allow(clippy::unwrap_used, reason = "a test")]

mod cuts;
mod ends;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../x1/extended.rs"]
mod extended;
mod races;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
