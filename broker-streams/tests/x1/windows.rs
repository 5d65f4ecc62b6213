//! Windows: how much is under way in either direction.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use broker_streams::{Endpoint, Failure, Incoming, Out, State, method};
use serde_json::json;
use tokio::sync::Notify;

use crate::extended::open_with;
use crate::support::{Raw, Server, id, open, soon, value};

/// How many values a method has sent, and a way to let it take one.
#[derive(Clone, Default)]
struct Counts(Arc<(AtomicU64, Notify, Notify)>);

async fn count_up(State(counts): State<Counts>, out: Out<u32>) -> Result<(), Failure> {
    for number in 0.. {
        out.send(number).await?;
        counts.0.0.fetch_add(1, SeqCst);
        counts.0.1.notify_waiters();
    }
    Ok(())
}

/// Takes a value for each permit.
async fn take(State(counts): State<Counts>, mut input: Incoming<u32>) -> Result<(), Failure> {
    loop {
        counts.0.2.notified().await;
        if input.next().await.transpose()?.is_none() {
            return Ok(());
        }
    }
}

async fn server(counts: &Counts) -> Server {
    let counts = counts.clone();
    Server::start(|streams| {
        let test = Endpoint::new("test").method("countUp", count_up);
        streams.state(counts).endpoint(test.method("take", method(take).inputs(["input"])))
    })
    .await
}

#[tokio::test]
async fn no_more_than_a_window_is_sent_before_the_client_consumes() {
    let counts = Counts::default();
    let server = server(&counts).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open_with(1, "countUp", &[], &json!({"w": 8}))).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    // What the client consumes, and what comes then.
    let mut received = 0;
    for consumed in [0, 3, 4, 12, 12, 19] {
        if consumed > 0 {
            raw.flow(1, consumed).await;
        }
        while received < consumed + 8 {
            raw.next().await;
            received += 1;
        }
        // Nothing more comes, and the method waits.
        raw.silent().await;
        assert_eq!(counts.0.0.load(SeqCst), received);
    }
}

#[tokio::test]
async fn a_plain_client_has_no_window() {
    let counts = Counts::default();
    let server = server(&counts).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "countUp", &json!({}), &[])).await;
    for _ in 0..1000 {
        raw.next().await;
    }
}

#[tokio::test]
async fn what_was_never_sent_cannot_be_consumed() {
    let counts = Counts::default();
    let server = server(&counts).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open_with(1, "countUp", &[], &json!({"w": 2}))).await;
    raw.frames(3).await;
    raw.flow(1, 3).await;
    let close = raw.next().await;
    assert_eq!(close["data"]["why"], json!({"c": "limit", "again": "never"}));
    raw.silent().await;
}

#[tokio::test]
async fn the_client_is_told_what_a_method_consumes() {
    let counts = Counts::default();
    let server = server(&counts).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open(1, "test", "take", &json!({}), &["input"])).await;
    let opened = raw.next().await;
    assert_eq!(opened["data"]["x"], json!({"w": {"input": 64}}));
    for number in 0..64 {
        raw.json(&value(1, "take", "input", "int", &json!(number))).await;
    }
    raw.silent().await;
    // Half a window at once.
    for _ in 0..32 {
        counts.0.2.notify_one();
        soon("a turn", tokio::task::yield_now()).await;
    }
    let mut told = 0;
    while told < 32 {
        counts.0.2.notify_one();
        tokio::select! {
            frame = raw.next() => {
                assert_eq!(frame["type"], "flow");
                told = frame["data"]["got"].as_u64().unwrap();
                assert!(told >= 32, "{told}: before half of a window");
                assert_eq!(frame["data"], json!({"cid": id(1), "p": "input", "got": told}));
            }
            () = tokio::task::yield_now() => {}
        }
    }
    // The rest after a second.
    for _ in 0..3 {
        counts.0.2.notify_one();
        tokio::task::yield_now().await;
    }
    let later = soon("the rest", raw.next()).await;
    assert!(later["data"]["got"].as_u64().unwrap() > told, "{later}");
}

#[tokio::test]
async fn more_than_a_window_closes_the_call_alone() {
    let counts = Counts::default();
    let server = server(&counts).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open(1, "test", "take", &json!({}), &["input"])).await;
    raw.next().await;
    for number in 0..65 {
        raw.json(&value(1, "take", "input", "int", &json!(number))).await;
    }
    let close = raw.next().await;
    assert_eq!(close["data"]["why"], json!({"c": "limit", "again": "never"}));
    assert_eq!(raw.frames(1).await, ["close error of input"]);
    raw.silent().await;
}
