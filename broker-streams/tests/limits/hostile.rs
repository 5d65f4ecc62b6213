//! Frames of every kind in any order, from one client: the server answers the others.

use broker_streams::{Endpoint, Incoming, Out, method};
use futures_util::{SinkExt, StreamExt};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Raw, Server, id, soon};

async fn echo(mut input: Incoming<i64>, out: Out<i64>) {
    while let Some(item) = input.next().await {
        if let Ok(value) = item
            && out.send(value).await.is_err()
        {
            return;
        }
    }
}

/// A frame that is one, nearly one, or none.
fn frame() -> impl Strategy<Value = String> {
    let cid = prop_oneof![(0..4_u32).prop_map(id), Just("no id".to_owned())];
    let name = prop_oneof![Just("test"), Just("echo"), Just("input"), Just(""), Just("\u{0}\"\\")];
    let kind = prop_oneof![
        Just("omsc"),
        Just("omsr"),
        Just("cmsc"),
        Just("msm"),
        Just("msse"),
        Just("brm"),
        Just("ping"),
        Just("flow"),
        Just("rsm"),
        Just("auth"),
        Just("gap"),
        Just("none"),
    ];
    let data = prop_oneof![Just(json!(1)), Just(json!(null)), Just(json!({"a": [1, "x"]})), Just(json!("x"))];
    let known =
        (kind, cid, name.clone(), name, data, any::<u64>()).prop_map(|(kind, cid, one, other, data, got)| {
            let typed = json!({"className": one, "data": data});
            json!({"type": kind, "data": {
                "en": "test", "m": "echo", "cid": cid, "args": "{}", "is": ["input", other], "p": other,
                "cr": "done", "res": "success", "o": typed, "ex": typed, "req": one, "got": got % 5,
                "calls": [{"cid": id(1), "t": one, "got": {"": got}}], "auth": one, "x": {"r": true, "w": 1},
            }})
            .to_string()
        });
    prop_oneof![8 => known, 1 => ".{0,60}", 1 => Just("[".repeat(10_000))]
}

#[tokio::test]
async fn no_sequence_of_frames_harms_the_server() {
    let server = Server::start(|streams| {
        let echo = method(echo).inputs(["input"]).resumable();
        streams.endpoint(Endpoint::new("test").method("echo", echo))
    })
    .await;
    let mut other = server.connect().await;
    let mut runner = TestRunner::new(Config::default());
    let frames = prop::collection::vec(frame(), 1..20);
    for round in 0..500 {
        let sequence = frames.new_tree(&mut runner).unwrap().current();
        let mut raw =
            if round % 2 == 0 { Raw::extended(&server.url).await.0 } else { server.connect().await };
        for frame in &sequence {
            // The server may have closed it.
            if raw.0.send(Message::text(frame.clone())).await.is_err() {
                break;
            }
        }
        // All of it is looked at before the close; a frame that is bad is answered once, and closes the socket, too.
        drop(raw.0.close(None).await);
        let mut bad = 0;
        soon("the close", async {
            while let Some(Ok(message)) = raw.0.next().await {
                bad += usize::from(message.to_text().is_ok_and(|text| text.contains(r#""type":"brm""#)));
            }
        })
        .await;
        assert!(bad <= 1, "{sequence:?}");
        other.silent().await;
    }
}
