//! Slow clients: those that are alive are not taken for dead.

use std::time::Duration;

use broker_streams::{Endpoint, Failure, Incoming, Limits, Out, method};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::memory::ALONE;
use crate::support::{Raw, Server, open, value};

async fn long(out: Out<String>) -> Result<(), Failure> {
    Ok(out.send("x".repeat(12 << 20)).await?)
}

#[tokio::test]
async fn a_client_that_speaks_while_it_reads_a_long_value_is_not_silent() {
    let _alone = ALONE.lock().await;
    let mut limits = Limits::default();
    limits.silence = Duration::from_secs(3);
    let test = Endpoint::new("test").method("long", long);
    let server = Server::start(|streams| streams.limits(limits).endpoint(test)).await;
    let mut raw = server.connect().await;
    // What is behind the first value waits in the server, which does not read meanwhile.
    for number in 0..3 {
        raw.json(&open(number, "test", "long", &json!({}), &[])).await;
    }
    // For longer than the silence, in which it speaks and reads nothing.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        raw.text(r#"{"type":"ping"}"#).await;
        sleep(Duration::from_millis(100)).await;
    }
    let mut values = 0;
    while values < 3 {
        values += u32::from(raw.next().await["type"] == "msm");
    }
}

/// Gives its input to another task, and ends when the input is full.
async fn gives_away(input: Incoming<String>, _out: Out<i64>) {
    tokio::spawn(async move {
        let _input = input;
        std::future::pending::<()>().await;
    });
    sleep(Duration::from_millis(500)).await;
}

#[tokio::test]
async fn a_call_that_ends_while_its_input_is_full_keeps_no_socket_waiting() {
    let mut limits = Limits::default();
    limits.hold = Duration::from_secs(3600);
    limits.silence = Duration::from_secs(3600);
    let test = Endpoint::new("test").method("givesAway", method(gives_away).inputs(["input"]));
    let server = Server::start(|streams| streams.limits(limits).endpoint(test)).await;
    let mut raw: Raw = server.connect().await;
    raw.json(&open(1, "test", "givesAway", &json!({}), &["input"])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    raw.json(&value(1, "givesAway", "input", "String", &json!("x".repeat(300 << 10)))).await;
    assert_eq!(raw.frames(2).await, ["close done", "close done of input"]);
    raw.silent().await;
}
