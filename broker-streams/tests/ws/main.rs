//! The behaviours of Serverpod's streaming methods, by their ids, against a raw socket.

#![allow(clippy::unwrap_used, reason = "a test")]

mod ends;
mod failures;
mod opens;
mod sockets;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod values;
