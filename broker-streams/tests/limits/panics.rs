//! Panics: each ends its own call.

use broker::{Broker, Scope};
use broker_streams::{Call, Endpoint, Failure, Model, Out, Streams, method};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{Raw, Server, close, open, soon};

#[derive(Clone, Serialize, Deserialize, Model)]
struct News {
    number: u64,
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("a panic in `Drop`, as this test wants it");
    }
}

async fn drops(_out: Out<i64>) {
    let _bomb = PanicsInDrop;
    std::future::pending::<()>().await;
}

async fn returns(_out: Out<i64>) {
    let _bomb = PanicsInDrop;
}

fn before_a_future(_out: Out<i64>) -> std::future::Ready<()> {
    panic!("a panic in a plain function, as this test wants it")
}

async fn listens(call: Call, out: Out<News>) -> Result<(), Failure> {
    let news = call.session().create_stream::<News>("news").await?;
    out.relay(news).await
}

async fn started() -> (Broker, Server, Raw) {
    let broker = broker::connect("memory:").await.unwrap();
    let test = Endpoint::new("test")
        .method("drops", drops)
        .method("dropsOnTask", method(drops).on_task())
        .method("returns", returns)
        .method("before", before_a_future)
        .method("listens", listens);
    let streams = Streams::builder(broker.clone()).endpoint(test).build().unwrap();
    let server = Server::serve(streams, "127.0.0.1:0").await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "listens", &json!({}), &[])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    (broker, server, raw)
}

/// The call that listens still does.
async fn lives(broker: &Broker, raw: &mut Raw) {
    raw.silent().await;
    broker.post_message("news", News { number: 7 }, Scope::Local).await.unwrap();
    assert_eq!(raw.frames(1).await, [r#"News {"number":7}"#]);
}

#[tokio::test]
async fn what_panics_when_its_call_is_cancelled_harms_no_other() {
    let (broker, _server, mut raw) = started().await;
    for (number, name) in [(2, "drops"), (3, "dropsOnTask")] {
        raw.json(&open(number, "test", name, &json!({}), &[])).await;
        assert_eq!(raw.frames(1).await, ["success"]);
        raw.json(&close(number, name, None, "done")).await;
        lives(&broker, &mut raw).await;
    }
}

#[tokio::test]
async fn what_panics_at_its_end_is_closed_with_an_error() {
    let (broker, _server, mut raw) = started().await;
    for (number, name) in [(2, "returns"), (3, "before")] {
        raw.json(&open(number, "test", name, &json!({}), &[])).await;
        assert_eq!(raw.frames(2).await, ["success", "close error"], "{name}");
        lives(&broker, &mut raw).await;
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_receives_nothing_more() {
    let (broker, server, mut raw) = started().await;
    lives(&broker, &mut raw).await;
    raw.json(&close(1, "listens", None, "done")).await;
    raw.silent().await;
    broker.post_message("news", News { number: 8 }, Scope::Local).await.unwrap();
    raw.silent().await;
    soon("the end", server.streams.close()).await;
}
