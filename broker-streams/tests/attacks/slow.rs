//! Slow clients: those that are alive are not taken for dead.

use std::time::Duration;

use broker_streams::{Endpoint, Failure, Incoming, Limits, Out, method};
use futures_util::SinkExt;
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep},
};
use tokio_tungstenite::{MaybeTlsStream, tungstenite::Message};

use crate::support::{Raw, Server, open, soon, value};

async fn long(out: Out<String>) -> Result<(), Failure> {
    Ok(out.send("x".repeat(12 << 20)).await?)
}

#[tokio::test]
async fn a_client_that_speaks_while_it_reads_a_long_value_is_not_silent() {
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

/// Sends a long value, and waits.
async fn long_once(out: Out<String>) -> Result<(), Failure> {
    out.send("x".repeat(5500)).await?;
    std::future::pending().await
}

#[tokio::test]
async fn a_client_that_opens_calls_without_end_and_reads_nothing_is_cut() {
    let mut limits = Limits::default();
    (limits.stall, limits.calls_per_socket) = (Duration::from_secs(2), 64);
    let server = Server::start(|streams| {
        streams.limits(limits).endpoint(Endpoint::new("test").method("longOnce", long_once))
    })
    .await;
    let mut raw = server.connect().await;
    let opening = async {
        for number in 0.. {
            let frame = Message::text(open(number, "test", "longOnce", &json!({}), &[]).to_string());
            if raw.0.send(frame).await.is_err() {
                return;
            }
        }
    };
    let cut = soon("the cut", async {
        // Wait until it is there, and then until it is not.
        while server.streams.sockets() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    tokio::pin!(opening, cut);
    tokio::select! {
        () = &mut cut => {}
        () = &mut opening => cut.await,
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut() {
    let mut limits = Limits::default();
    limits.stall = Duration::from_secs(1);
    let test = Endpoint::new("test").method("long", long);
    let server = Server::start(|streams| streams.limits(limits).endpoint(test)).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "long", &json!({}), &[])).await;
    let MaybeTlsStream::Plain(stream) = raw.0.get_mut() else { panic!("no encryption here") };
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    // A part at a time, over several times the limit.
    while read < 12 << 20 {
        read += soon("more of the value", stream.read(&mut buffer[..512 << 10])).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(server.streams.sockets(), 1, "cut after {read} bytes");
    }
}
