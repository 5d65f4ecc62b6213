//! Frames about the socket itself: pings, and what cannot be read.

use broker_streams::Endpoint;
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Raw, Server, value};

async fn connected() -> (Server, Raw) {
    let server = Server::start(|streams| streams.endpoint(Endpoint::new("test"))).await;
    let raw = server.connect().await;
    (server, raw)
}

#[tokio::test]
async fn ws_6_a_bad_request_of_the_client_closes_the_socket() {
    let (_server, mut raw) = connected().await;
    raw.text(r#"{"type":"brm","data":{"req":"what"}}"#).await;
    assert_eq!(raw.next_text().await, None);
}

#[tokio::test]
async fn ws_7_an_unknown_frame_is_answered_once_and_closes_the_socket() {
    let (_server, mut raw) = connected().await;
    raw.text(r#"{"type":"nothing","data":{}}"#).await;
    let answer = raw.next_text().await.unwrap();
    assert_eq!(answer, r#"{"type":"brm","data":{"req":"{\"type\":\"nothing\",\"data\":{}}"}}"#);
    assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1002));
}

#[tokio::test]
async fn ws_9_a_ping_is_answered() {
    let (_server, mut raw) = connected().await;
    raw.text(r#"{"type":"ping"}"#).await;
    assert_eq!(raw.next_text().await.as_deref(), Some(r#"{"type":"pong"}"#));
}

#[tokio::test]
async fn many_pings_at_once_are_all_answered() {
    let (_server, mut raw) = connected().await;
    // More than the answers that may wait.
    for _ in 0..500 {
        raw.0.feed(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    }
    raw.0.flush().await.unwrap();
    for _ in 0..500 {
        assert_eq!(raw.next_text().await.as_deref(), Some(r#"{"type":"pong"}"#));
    }
}

#[tokio::test]
async fn ws_10_a_pong_is_not() {
    let (_server, mut raw) = connected().await;
    raw.text(r#"{"type":"pong"}"#).await;
    raw.silent().await;
}

#[tokio::test]
async fn ws_48_a_value_for_the_methods_own_stream_is_a_bad_request() {
    let (_server, mut raw) = connected().await;
    let mut frame = value(1, "any", "input", "int", &1.into());
    frame["data"].as_object_mut().unwrap().remove("p");
    raw.json(&frame).await;
    assert_eq!(raw.next().await["type"], "brm");
    assert!(raw.closed().await.is_some());
}

#[tokio::test]
async fn a_value_for_no_call_is_answered_once() {
    let (_server, mut raw) = connected().await;
    for _ in 0..3 {
        raw.json(&value(1, "any", "input", "int", &1.into())).await;
    }
    assert_eq!(raw.frames(1).await, ["close error of input"]);
    raw.silent().await;
}
