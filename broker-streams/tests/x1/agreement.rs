//! What is agreed on in the first ping, and that it never reaches a plain client.

use broker_streams::{Endpoint, Out};
use serde_json::json;

use crate::support::{Raw, Server, open};

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

async fn plain() -> i64 {
    7
}

async fn server() -> Server {
    Server::start(|streams| {
        streams.endpoint(Endpoint::new("test").method("forever", forever).method("plain", plain))
    })
    .await
}

#[tokio::test]
async fn the_first_ping_agrees_on_windows() {
    let server = server().await;
    let (mut raw, pong) = Raw::extended(&server.url).await;
    assert_eq!(pong["data"], json!({"x": 1, "window": 64, "bytes": 262_144, "park": 30_000}));
    // Only once.
    raw.text(r#"{"type":"ping"}"#).await;
    assert_eq!(raw.next_text().await.as_deref(), Some(r#"{"type":"pong"}"#));
}

#[tokio::test]
async fn a_later_ping_agrees_on_nothing() {
    let server = server().await;
    let mut raw = server.connect().await;
    raw.silent().await;
    raw.text(r#"{"type":"ping","data":{"x":1}}"#).await;
    assert_eq!(raw.next_text().await.as_deref(), Some(r#"{"type":"pong"}"#));
    raw.text(r#"{"type":"flow","data":{"cid":"00000001-8f0a-4a8e-9a50-2f0c9f5f0a11","got":1}}"#).await;
    assert_eq!(raw.next().await["type"], "brm");
}

#[tokio::test]
async fn a_method_without_streams_can_be_called_where_it_is_agreed() {
    let server = server().await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open(1, "test", "plain", &json!({}), &[])).await;
    assert_eq!(raw.frames(3).await, ["success", "int 7", "close done"]);
}

#[tokio::test]
async fn data_of_a_ping_that_are_no_agreement_are_ignored() {
    let server = server().await;
    for data in ["5", "null", r#""x""#, r#"{"x":"1"}"#, r#"{"x":0}"#, "[]"] {
        let mut raw = server.connect().await;
        raw.text(format!(r#"{{"type":"ping","data":{data}}}"#)).await;
        assert_eq!(raw.next_text().await.as_deref(), Some(r#"{"type":"pong"}"#), "{data}");
    }
}
