//! What is counted, as a recorder sees it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, time::Duration};

use broker::{Event, SubscribeOptions};
use broker_streams::{Any, Call, Endpoint, Failure, Incoming, Out, Peer, StreamingEndpoint, method};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::json;

use crate::{
    extended::open_with,
    support::{Raw, Server, close, id, open, soon, value},
};

#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "x1/extended.rs"]
mod extended;
#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "support/mod.rs"]
mod support;

/// What a recorder has, added up: each look takes what it sees.
struct Seen(Snapshotter, BTreeMap<String, f64>);

impl Seen {
    fn look(&mut self) -> &BTreeMap<String, f64> {
        for (key, _, _, value) in self.0.snapshot().into_vec() {
            let key = key.key();
            let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
            let name =
                key.name().trim_start_matches("broker_streams_").to_owned() + &labels.collect::<String>();
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(times) => times.len() as f64,
            };
            *self.1.entry(name).or_default() += value;
        }
        &self.1
    }

    async fn wait(&mut self, name: &str, value: f64) {
        soon(name, async {
            while self.look().get(name) != Some(&value) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

async fn count(call: Call, out: Out<i64>) -> Result<(), Failure> {
    for number in 0..3 {
        out.send(number).await?;
    }
    let options = SubscribeOptions::new().without_waiting();
    let mut news = call.session().subscribe_with("news", options).await?;
    if let Some(Event::Gap(gap)) = news.next().await {
        out.gap(&gap).await?;
    }
    Ok(())
}

/// Gives a value up that has no room, and sends another one later.
async fn gives_up(mut go: Incoming<i64>, out: Out<i64>) -> Result<(), Failure> {
    out.send(0).await?;
    tokio::select! {
        biased;
        sent = out.send(1) => sent?,
        () = std::future::ready(()) => {}
    }
    go.next().await;
    Ok(out.send(2).await?)
}

async fn fails(_out: Out<i64>) -> Result<(), Failure> {
    Err(Failure::internal("it fails"))
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

struct Echo;

impl StreamingEndpoint for Echo {
    type User = ();

    async fn stream_opened(&self, _: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    async fn handle_stream_message(&self, peer: &Peer, (): &mut (), message: Any) -> Result<(), Failure> {
        Ok(peer.send_stream_message(&message.read::<i64>()?).await?)
    }
}

/// A socket of a client without the extension: calls of every end.
async fn plain(server: &Server, seen: &mut Seen) {
    let mut raw = server.connect().await;
    for (number, endpoint, method) in [
        (1, "test", "count"),
        (2, "test", "secret-method"),
        (3, "secret-endpoint", "count"),
        (4, "test", "fails"),
    ] {
        raw.json(&open(number, endpoint, method, &json!({}), &[])).await;
        let mut frame = raw.next().await;
        while frame["type"] != "cmsc" && frame["data"]["res"].as_str().is_none_or(|res| res == "success") {
            frame = raw.next().await;
        }
    }
    raw.json(&open(5, "test", "forever", &json!({}), &[])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    seen.wait("calls endpoint=test method=forever", 1.0).await;
    seen.wait("sockets", 1.0).await;
    raw.json(&close(5, "forever", None, "done")).await;
    seen.wait("calls endpoint=test method=forever", 0.0).await;
    raw.text("secret text").await;
    assert!(raw.closed().await.is_some());
    seen.wait("sockets", 0.0).await;
}

/// A call that is resumed, in vain the second time, and a position.
async fn resumed(server: &Server, seen: &mut Seen) {
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open_with(1, "forever", &[], &json!({"r": true, "k": "secret-position"}))).await;
    let token = raw.next().await["data"]["x"]["t"].as_str().unwrap().to_owned();
    drop(raw);
    seen.wait("parked", 1.0).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    for token in [&*token, "secret-token"] {
        let call = json!({"cid": id(1), "t": token, "got": {"": 0}});
        raw.json(&json!({"type": "rsm", "data": {"calls": [call]}})).await;
        assert_eq!(raw.next().await["type"], "rsr");
    }
    seen.wait("parked", 0.0).await;
    raw.json(&open_with(2, "count", &[], &json!({"w": 1}))).await;
    assert_eq!(raw.frames(2).await, ["success", "int 0"]);
    raw.silent().await;
    for (got, next) in (1..).zip(["int 1", "int 2", "gap", "close done"]) {
        raw.flow(2, got).await;
        assert_eq!(raw.frames(1).await, [next]);
    }
    // There is room again before the next value: that does not wait.
    raw.json(&open_with(3, "givesUp", &["go"], &json!({"w": 1}))).await;
    assert_eq!(raw.frames(2).await, ["success", "int 0"]);
    raw.flow(3, 1).await;
    raw.json(&value(3, "givesUp", "go", "int", &json!(7))).await;
    assert_eq!(raw.frames(3).await, ["int 2", "close done", "close done of go"]);
    raw.json(&close(1, "forever", None, "done")).await;
    seen.wait("calls endpoint=test method=forever", 0.0).await;
}

/// A connection of streaming endpoints.
async fn legacy(server: &Server) {
    let mut raw = Raw::connect(&server.url.replace("/v1/websocket", "/websocket?auth=secret")).await;
    raw.1 = true;
    raw.text(r#"{"command":"ping","args":{}}"#).await;
    assert_eq!(raw.next().await["command"], "pong");
    raw.json(&json!({"endpoint": "echo", "object": {"className": "int", "data": 7}})).await;
    assert_eq!(raw.next().await["object"]["data"], 7);
    raw.text("secret text").await;
    assert!(raw.closed().await.is_some());
}

#[tokio::test]
async fn what_happens_is_counted_without_what_clients_send() {
    let recorder = DebuggingRecorder::new();
    let mut seen = Seen(recorder.snapshotter(), BTreeMap::new());
    recorder.install().unwrap();
    let server = Server::start(|streams| {
        let test = Endpoint::new("test")
            .method("count", count)
            .method("fails", fails)
            .method("givesUp", method(gives_up).inputs(["go"]))
            .method("forever", method(forever).resumable());
        streams.endpoint(test).endpoint(Endpoint::new("echo").streaming(Echo))
    })
    .await;
    plain(&server, &mut seen).await;
    resumed(&server, &mut seen).await;
    legacy(&server).await;
    soon("the end", server.streams.close()).await;
    let seen = seen.look();
    for (name, value) in [
        ("sockets", 0.0),
        ("calls endpoint=test method=count", 0.0),
        ("opens_total res=success", 6.0),
        ("opens_total res=endpointNotFound", 2.0),
        ("opens_total res=invalidArguments", 0.0),
        ("closed_total why=done", 3.0),
        ("closed_total why=internal", 1.0),
        ("closed_total why=cancelled", 2.0),
        ("frames_total dir=in type=omsc", 8.0),
        ("frames_total dir=in type=cmsc", 2.0),
        ("frames_total dir=in type=ping", 3.0),
        ("frames_total dir=in type=rsm", 2.0),
        ("frames_total dir=in type=message", 1.0),
        ("frames_total dir=in type=command", 1.0),
        ("frames_total dir=out type=omsr", 8.0),
        ("frames_total dir=out type=msm", 8.0),
        ("frames_total dir=out type=gap", 1.0),
        ("frames_total dir=out type=cmsc", 5.0),
        ("frames_total dir=out type=brm", 1.0),
        ("frames_total dir=out type=message", 1.0),
        ("frames_total dir=out type=command", 1.0),
        ("gaps_total", 1.0),
        ("resumes_total kind=exact", 1.0),
        ("resumes_total kind=refused", 1.0),
        ("resumes_total kind=cursor", 1.0),
        ("bad_frames_total", 2.0),
        ("window_wait_seconds", 3.0),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name}: {seen:?}");
    }
    assert!(seen["bytes_total dir=in"] > 500.0 && seen["bytes_total dir=out"] > 500.0, "{seen:?}");
    assert!(seen.keys().all(|key| !key.contains("secret")), "{seen:?}");
}
