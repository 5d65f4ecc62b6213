//! Hostile servers, and callbacks of the application that panic: what they do stays theirs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod callbacks;
#[cfg(feature = "endpoints")]
mod endpoints;
mod frames;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;

use broker_streams_client::{CallError, CallStream, Client};
use tokio::task::JoinHandle;

pub(crate) fn open(client: &Client, method: &str) -> JoinHandle<Result<CallStream<i64>, CallError>> {
    tokio::spawn(client.call("numbers", method).open::<i64>())
}
