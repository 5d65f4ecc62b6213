//! The manners of the client, against a server that does what a test says. By the ids of the behaviours.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod credentials;
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use broker_streams_client::{CallError, CallStream, Client};

/// Opens a call in a task of its own.
fn open(client: &Client, method: &str) -> tokio::task::JoinHandle<Result<CallStream<i64>, CallError>> {
    let call = client.call("numbers", method);
    tokio::spawn(async move { call.open::<i64>().await })
}
