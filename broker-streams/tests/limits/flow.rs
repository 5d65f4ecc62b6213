//! Slow readers and floods: each makes its own call wait, and no other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use broker::{Broker, Scope, StreamError};
use broker_streams::{Call, Endpoint, Failure, Incoming, Limits, Model, Out, State, Streams, method};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{Server, open, soon, value};

#[derive(Clone, Serialize, Deserialize, Model)]
struct News {
    number: u64,
    text: String,
}

/// What a method has received and missed.
#[derive(Clone, Default)]
struct Seen(Arc<(AtomicU64, AtomicU64)>);

/// Forwards what it receives, and counts what it misses.
async fn listens(call: Call, State(seen): State<Seen>, out: Out<News>) -> Result<(), Failure> {
    let options = broker::SubscribeOptions::new().capacity(16);
    let mut news = call.session().create_stream_with::<News>("news", options).await?;
    while let Some(item) = news.next().await {
        match item {
            Ok(received) => {
                seen.0.0.fetch_add(1, SeqCst);
                out.forward(&received).await?;
            }
            Err(StreamError::Gap(gap)) => {
                seen.0.1.fetch_add(gap.missed.expect("an overflow says how many"), SeqCst);
            }
            Err(other) => return Err(Failure::internal(other)),
        }
    }
    Ok(())
}

async fn held(input: Incoming<String>) {
    let _held = input;
    std::future::pending::<()>().await;
}

async fn started(limits: Limits) -> (Broker, Server, Seen) {
    let (broker, seen) = (broker::connect("memory:").await.unwrap(), Seen::default());
    let test = Endpoint::new("test").method("listens", listens);
    let streams = Streams::builder(broker.clone())
        .state(seen.clone())
        .limits(limits)
        .endpoint(test.method("held", method(held).inputs(["input"])))
        .build()
        .unwrap();
    (broker, Server::serve(streams, "127.0.0.1:0").await, seen)
}

#[tokio::test]
async fn a_client_that_stops_to_read_misses_what_its_method_is_told() {
    let (broker, server, seen) = started(Limits::default()).await;
    let (mut stopped, mut reader) = (server.connect().await, server.connect().await);
    stopped.json(&open(1, "test", "listens", &json!({}), &[])).await;
    assert_eq!(stopped.frames(1).await, ["success"]);
    let text = "x".repeat(10_000);
    // Until the method has to wait: what the sockets hold is full.
    let mut posted = 0;
    soon("a gap", async {
        while seen.0.1.load(SeqCst) == 0 {
            broker
                .post_message("news", News { number: posted, text: text.clone() }, Scope::Local)
                .await
                .unwrap();
            posted += 1;
            if posted % 16 == 0 {
                tokio::task::yield_now().await;
            }
            // The method wakes, and looks, when its socket takes something again.
            if posted > 5000 {
                break;
            }
        }
    })
    .await;
    let taken = seen.0.0.load(SeqCst);
    assert!(taken < posted, "{taken} of {posted}");
    // Others are not concerned.
    reader.json(&open(1, "test", "listens", &json!({}), &[])).await;
    assert_eq!(reader.frames(1).await, ["success"]);
    reader.silent().await;
    broker.post_message("news", News { number: posted, text: String::new() }, Scope::Local).await.unwrap();
    posted += 1;
    assert_eq!(reader.next().await["data"]["o"]["data"]["number"], json!(posted - 1));
    // The stopped client reads again: each of the messages was received, or is counted as missed.
    let mut last = None;
    while last != Some(posted - 1) {
        last = stopped.next().await["data"]["o"]["data"]["number"].as_u64();
    }
    // One of them by the reader.
    let (received, missed) = (seen.0.0.load(SeqCst) - 1, seen.0.1.load(SeqCst));
    assert!(missed > 0);
    assert_eq!(received + missed, posted);
}

#[tokio::test]
async fn a_plain_client_that_floods_an_input_loses_that_call_alone() {
    let mut limits = Limits::default();
    (limits.window_bytes, limits.hold) = (10_000, Duration::from_millis(50));
    let (_broker, server, _) = started(limits).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "listens", &json!({}), &[])).await;
    raw.json(&open(2, "test", "held", &json!({}), &["input"])).await;
    assert_eq!(raw.frames(2).await, ["success", "success"]);
    for _ in 0..20 {
        raw.json(&value(2, "held", "input", "String", &json!("x".repeat(1000)))).await;
    }
    let close = raw.next().await;
    assert_eq!((&close["data"]["m"], &close["data"]["cr"]), (&json!("held"), &json!("error")));
    assert_eq!(close["data"].get("why"), None, "a plain client has no word for it");
    assert_eq!(raw.frames(1).await, ["close error of input"]);
    // Values that were on their way are dropped with the call; those that came behind its end are answered once.
    raw.text(r#"{"type":"ping"}"#).await;
    let next = raw.frames(1).await.remove(0);
    if next != "pong" {
        assert_eq!([next, raw.frames(1).await.remove(0)], ["close error of input", "pong"]);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let mut limits = Limits::default();
    limits.stall = Duration::from_millis(200);
    let (broker, server, seen) = started(limits).await;
    let mut stopped = server.connect().await;
    stopped.json(&open(1, "test", "listens", &json!({}), &[])).await;
    assert_eq!(stopped.frames(1).await, ["success"]);
    let text = "x".repeat(100_000);
    soon("the cut", async {
        let mut number = 0;
        while server.streams.sockets() > 0 {
            broker.post_message("news", News { number, text: text.clone() }, Scope::Local).await.unwrap();
            number += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(seen.0.0.load(SeqCst) > 0);
}
