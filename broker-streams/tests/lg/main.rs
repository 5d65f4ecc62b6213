//! The behaviours of Serverpod's streaming endpoints, by their ids, against a raw socket.

#![allow(clippy::unwrap_used, reason = "a test")]

mod access;
mod bounds;
mod ends;
mod messages;
mod server;
#[allow(dead_code, reason = "its other half is for calls")]
#[path = "../support/mod.rs"]
mod support;
