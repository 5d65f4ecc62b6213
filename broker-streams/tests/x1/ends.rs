//! Why a call ends, and gaps in their places.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker::{Revocation, Scope};
use broker_streams::{
    Authenticated, Authenticator, Call, Credentials, Cursor, Endpoint, Failure, Model, Out, State, Streams,
    StreamsBuilder,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::extended::open_with;
use crate::support::{MARKER, Raw, Server, open, soon};

#[derive(Clone, Serialize, Deserialize, Model)]
struct News {
    number: u32,
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

async fn fails(_out: Out<i64>) -> Result<(), Failure> {
    Err(Failure::internal(MARKER))
}

async fn counts(Cursor(from): Cursor, out: Out<i64>) -> Result<(), Failure> {
    let from = from.and_then(|from| from.parse::<i64>().ok()).map_or(0, |from| from + 1);
    for number in from..from + 3 {
        out.send_at(number, number).await?;
    }
    Ok(())
}

/// Relays a channel once it is told to, with a queue of few messages.
async fn relayed(call: Call, State(go): State<Arc<Notify>>, out: Out<News>) -> Result<(), Failure> {
    let options = broker::SubscribeOptions::new().capacity(2);
    let news = call.session().create_stream_with::<News>("news", options).await.map_err(Failure::internal)?;
    go.notified().await;
    out.relay(news).await
}

/// Everybody is who the token says.
struct Names;

impl Authenticator for Names {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        let name = credentials.secret();
        let who = Authenticated::new(name).with_auth_id(format!("key of {name}"));
        Ok(Some(if name == "brief" { who.until(SystemTime::now() + Duration::from_millis(50)) } else { who }))
    }
}

fn build(streams: StreamsBuilder, go: &Arc<Notify>) -> StreamsBuilder {
    let test = Endpoint::new("test").method("forever", forever).method("fails", fails);
    streams
        .state(Arc::clone(go))
        .authenticator(Names)
        .endpoint(test.method("counts", counts).method("relayed", relayed))
        .endpoint(Endpoint::new("private").requires_login().method("forever", forever))
}

async fn started() -> (Server, Raw) {
    let server = Server::start(|streams| build(streams, &Arc::default())).await;
    let (raw, _) = Raw::extended(&server.url).await;
    (server, raw)
}

fn signed_in(number: u32, name: &str) -> Value {
    let mut frame = open(number, "private", "forever", &json!({}), &[]);
    frame["data"]["auth"] = json!(format!("Bearer {name}"));
    frame
}

async fn why(raw: &mut Raw) -> Value {
    let frame = raw.next().await;
    assert_eq!((&frame["type"], &frame["data"]["cr"]), (&json!("cmsc"), &json!("error")), "{frame}");
    frame["data"]["why"].clone()
}

#[tokio::test]
async fn a_failure_is_internal_and_has_no_text() {
    let (_server, mut raw) = started().await;
    raw.json(&open(1, "test", "fails", &json!({}), &[])).await;
    raw.next().await;
    assert_eq!(why(&mut raw).await, json!({"c": "internal", "again": "never"}));
}

#[tokio::test]
async fn a_deadline_ends_the_call() {
    let (_server, mut raw) = started().await;
    raw.json(&open_with(1, "forever", &[], &json!({"d": 30}))).await;
    raw.next().await;
    assert_eq!(why(&mut raw).await, json!({"c": "deadline", "again": "never"}));
}

#[tokio::test]
async fn an_authentication_that_expires_ends_its_calls() {
    let (_server, mut raw) = started().await;
    raw.json(&signed_in(1, "brief")).await;
    raw.next().await;
    assert_eq!(why(&mut raw).await, json!({"c": "expired", "again": "signin"}));
}

#[tokio::test]
async fn a_revocation_ends_one_of_three_calls_of_a_socket() {
    let broker = broker::connect("memory:").await.unwrap();
    let streams = build(Streams::builder(broker.clone()), &Arc::default()).build().unwrap();
    let server = Server::serve(streams, "127.0.0.1:0").await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    for (number, name) in [(1, "ada"), (2, "bob"), (3, "cleo")] {
        raw.json(&signed_in(number, name)).await;
        assert_eq!(raw.frames(1).await, ["success"]);
    }
    broker.revoke(Revocation::user("bob")).await.unwrap();
    let frame = raw.next().await;
    assert_eq!(frame["data"]["cid"], signed_in(2, "bob")["data"]["cid"]);
    assert_eq!(frame["data"]["why"], json!({"c": "revoked", "again": "signin"}));
    raw.silent().await;
    // The others live.
    for (number, name) in [(1, "ada"), (3, "cleo")] {
        broker.revoke(Revocation::user(name)).await.unwrap();
        let frame = raw.next().await;
        assert_eq!(frame["data"]["cid"], signed_in(number, name)["data"]["cid"], "{frame}");
    }
}

#[tokio::test]
async fn positions_are_given_and_taken() {
    let (server, mut raw) = started().await;
    raw.json(&open(1, "test", "counts", &json!({}), &[])).await;
    raw.next().await;
    for number in 0..3 {
        let frame = raw.next().await;
        assert_eq!(
            (&frame["data"]["o"]["data"], &frame["data"]["k"]),
            (&json!(number), &json!(number.to_string()))
        );
    }
    raw.next().await;
    raw.json(&open_with(2, "counts", &[], &json!({"k": "1"}))).await;
    assert_eq!(raw.frames(5).await, ["success", "int 2", "int 3", "int 4", "close done"]);
    // A plain client gets none.
    let mut plain = server.connect().await;
    plain.json(&open(1, "test", "counts", &json!({}), &[])).await;
    plain.next().await;
    assert_eq!(plain.next().await["data"].get("k"), None);
}

#[tokio::test]
async fn a_gap_stands_in_its_place_or_ends_the_call_of_a_plain_client() {
    for extended in [true, false] {
        let (broker, go) = (broker::connect("memory:").await.unwrap(), Arc::new(Notify::new()));
        let streams = build(Streams::builder(broker.clone()), &go).build().unwrap();
        let server = Server::serve(streams, "127.0.0.1:0").await;
        let mut raw = if extended { Raw::extended(&server.url).await.0 } else { server.connect().await };
        raw.json(&open(1, "test", "relayed", &json!({}), &[])).await;
        assert_eq!(raw.frames(1).await, ["success"]);
        raw.silent().await;
        for number in 0..10 {
            broker.post_message("news", News { number }, Scope::Local).await.unwrap();
        }
        go.notify_one();
        if extended {
            let gap = raw.next().await;
            let lost = gap["data"]["n"].as_u64().unwrap();
            assert_eq!((&gap["type"], &gap["data"]["c"]), (&json!("gap"), &json!("overflow")));
            let next = raw.next().await;
            assert_eq!(next["data"]["o"]["data"]["number"], json!(lost));
        } else {
            let fault = raw.next().await;
            assert_eq!(
                (&fault["type"], &fault["data"]["ex"]["className"]),
                (&json!("msse"), &json!("BrokerGap"))
            );
            assert_eq!(raw.frames(1).await, ["close error"]);
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let (server, mut raw) = started().await;
    raw.json(&open(1, "test", "forever", &json!({}), &[])).await;
    raw.next().await;
    let streams = server.streams.clone();
    let stop = tokio::spawn(async move { soon("the drain", streams.drain(Duration::from_secs(4))).await });
    let bye = raw.next().await;
    assert_eq!(bye, json!({"type": "bye", "data": {"within": 4000, "spread": 2000}}));
    raw.json(&open(2, "test", "forever", &json!({}), &[])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    assert_eq!(why(&mut raw).await, json!({"c": "draining", "again": "now"}));
    assert_eq!(why(&mut raw).await, json!({"c": "draining", "again": "now"}));
    assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1012));
    stop.await.unwrap();
}
