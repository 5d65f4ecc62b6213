//! What the client does with a server that knows the extension.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod resume;
#[path = "../support/mod.rs"]
mod support;
mod windows;

use broker_streams_client::{CallError, CallEvents, CallStream, Client, Event};
use serde_json::json;
use support::{Opening, within};
use tokio::task::JoinHandle;

fn open(client: &Client) -> JoinHandle<Result<CallStream<i64>, CallError>> {
    let call = client.call("numbers", "all").resume();
    tokio::spawn(call.open::<i64>())
}

/// The next event of a stream that is a value.
async fn value(events: &mut CallEvents<i64>) -> i64 {
    match within(events.next()).await {
        Some(Ok(Event::Value(value))) => value,
        other => panic!("not a value: {other:?}"),
    }
}

/// Lets the client do what it can do without any time passing.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn flow(call: &Opening, got: u64) -> serde_json::Value {
    json!({"type": "flow", "data": {"cid": call.cid(), "got": got}})
}
