//! Frames that are none, that are too long or too many, or for calls that are not open.

use std::time::Duration;

use broker_streams_client::CallError;
use futures_util::stream;
use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::{
    open,
    support::{Opened, Opening, server, within},
};

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_or_too_long_a_one_ends_the_socket_and_the_next_call_has_another() {
    for message in [
        Message::text("x".repeat(3000)),
        Message::text("[".repeat(1500)),
        Message::binary(Bytes::from_static(b"\xff\xfe")),
        Message::text(""),
        Message::text("null"),
        Message::text(r#"{"type":"msm"}"#),
        Message::text(r#"{"type":"msm","data":null}"#),
        Message::text(r#"{"type":"rsr","data":{"calls":{}}}"#),
        Message::text(r#"{"type":"bye","data":{"within":-1,"spread":1}}"#),
        Message::text(r#"{"type":"omsr","data":{"cid":"x","res":"success","en":"a","m":"b"}}"#),
    ] {
        let shown = message.to_string();
        let Opened { mut server, client, mut peer, mut stream, .. } =
            Opened::x1(|builder| builder.max_frame(2000)).await;
        // The client may close before all is written.
        let _ = futures_util::SinkExt::send(&mut peer.ws, message).await;
        let error = within(stream.next()).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::SocketLost), "{shown:.50}: {error:?}");
        let opening = open(&client, "a");
        let mut peer = server.x1(64).await;
        let call = peer.opened().await;
        peer.send(call.int(7)).await;
        assert_eq!(within(within(opening).await.unwrap().unwrap().next()).await.unwrap().unwrap(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_nested_deeply_is_unreadable_and_the_stream_goes_on() {
    let Opened { server: _server, client: _client, mut peer, call, mut stream } =
        Opened::x1(|builder| builder).await;
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let text = call.int(0).to_string().replace("\"data\":0}", &format!("\"data\":{deep}}}"));
    assert!(text.len() > 1_000_000);
    peer.send(text).await;
    peer.send(call.int(7)).await;
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unreadable(_)), "{error:?}");
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn frames_for_calls_that_are_not_open_are_ignored_however_many() {
    let Opened { server: _server, client, mut peer, call, mut stream } = Opened::x1(|builder| builder).await;
    let other = open(&client, "b");
    let closed = peer.opened().await;
    peer.send(closed.done()).await;
    assert!(within(within(other).await.unwrap().unwrap().next()).await.is_none());
    let mut unknown = call.clone();
    unknown.data["cid"] = json!("6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11");
    let mut misnamed = call.clone();
    misnamed.data["m"] = json!("another");
    for number in 0..300 {
        for wrong in [&closed, &unknown, &misnamed] {
            peer.send(wrong.int(number)).await;
            peer.send(wrong.frame("gap", json!({"n": 1, "c": "overflow"}))).await;
            peer.send(wrong.frame("msse", json!({"ex": {"className": "E", "data": {}}}))).await;
            peer.answer(wrong, "success").await;
            peer.send(wrong.error()).await;
        }
        // Answers that were not asked for, to the call that is open.
        peer.answer_with(&call, json!({"w": {"in": 1}, "t": "another"})).await;
        peer.answer(&call, "authenticationFailed").await;
        let resumed = json!({"cid": call.cid(), "ok": false, "t": "t", "got": {"": -9}});
        peer.send(json!({"type": "rsr", "data": {"calls": [resumed, resumed]}})).await;
        peer.send(json!({"type": "flow", "data": {"cid": call.cid(), "p": "in", "got": u64::MAX}})).await;
    }
    peer.send(call.int(7)).await;
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn gaps_count_as_values_do() {
    let Opened { server: _server, client: _client, mut peer, call, mut stream } =
        Opened::x1(|builder| builder).await;
    for _ in 0..65 {
        peer.send(call.frame("gap", json!({"n": u64::MAX, "c": "overflow"}))).await;
    }
    assert_eq!(peer.expect("cmsc").await, call.about(json!({"cr": "done"})));
    for _ in 0..64 {
        assert!(matches!(within(stream.next()).await, Some(Err(CallError::Gap { .. }))));
    }
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::Overflow))));
}

#[tokio::test(start_paused = true)]
async fn an_input_with_a_huge_window_is_bound_by_bytes() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let values = stream::repeat_with(|| "x".repeat(1000));
    let call = client.call("texts", "a").input("in", values);
    let call = tokio::spawn(call.open::<i64>());
    let mut peer = server.x1(64).await;
    let opening = peer.opening().await;
    peer.answer_with(&opening, json!({"w": {"in": u32::MAX}})).await;
    let stream = within(call).await.unwrap().unwrap();
    let mut bytes = 0;
    while let Ok(Some(text)) = tokio::time::timeout(Duration::from_secs(5), peer.text()).await {
        bytes += text.len();
        assert!(bytes < 1 << 20, "there is no bound");
    }
    // What the server has agreed to, and one frame.
    assert!((262_144..262_144 + 2000).contains(&bytes), "{bytes}");
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_opens_are_refused_beyond_the_limit_and_leave_nothing() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opens: Vec<_> = (0..5000).map(|_| open(&client, "a")).collect();
    let mut peer = server.x1(64).await;
    let mut open_calls = Vec::new();
    for _ in 0..256 {
        open_calls.push(peer.opened().await);
    }
    let (mut streams, mut refused) = (Vec::new(), 0);
    for opened in opens {
        match within(opened).await.unwrap() {
            Ok(stream) => streams.push(stream),
            Err(CallError::TooManyCalls) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((streams.len(), refused), (256, 5000 - 256));
    drop(streams);
    for _ in 0..256 {
        peer.expect("cmsc").await;
    }
    let opening = open(&client, "a");
    let call = peer.opened().await;
    peer.send(call.int(7)).await;
    assert_eq!(within(within(opening).await.unwrap().unwrap().next()).await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_shown_has_a_secret() {
    let (mut server, builder) = server();
    let builder = builder.credentials(|| async { Some("Bearer s3cret".to_owned()) });
    assert!(!format!("{builder:?}").contains("s3cret"));
    let client = builder.build().unwrap();
    let call = client.call("a", "b").args(&json!({"password": "s3cret"})).unwrap().traceparent("s3cret");
    let shown = format!("{client:?} {call:?}");
    let opening = tokio::spawn(call.open::<i64>());
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    peer.send(call.frame("msse", json!({"ex": {"className": "Fault", "data": {"of": "s3cret"}}}))).await;
    let mut stream = within(opening).await.unwrap().unwrap();
    let shown = format!("{shown} {stream:?}");
    let error = within(stream.next()).await.unwrap().unwrap_err();
    let shown = format!("{shown} {error} {error:?} {:?}", client.status());
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_leaves_or_ends_each_call_is_come_back_to_with_growing_waits() {
    let leaves = |_: &Opening| json!({"type": "bye", "data": {"within": 0, "spread": 0}});
    let ends = |call: &Opening, again: serde_json::Value| {
        call.frame("cmsc", json!({"cr": "error", "why": {"c": "overloaded", "again": again}}))
    };
    let ends_now = |call: &Opening| ends(call, json!("now"));
    let ends_soon = |call: &Opening| ends(call, json!(0));
    // Only the socket ends.
    let lost = |_: &Opening| json!(null);
    for says in [&leaves as &dyn Fn(&Opening) -> serde_json::Value, &ends_now, &ends_soon, &lost] {
        let (mut server, builder) = server();
        let client = builder.build().unwrap();
        let opening = tokio::spawn(client.call("numbers", "a").resume().open::<i64>());
        let began = Instant::now();
        let mut peer = server.x1(64).await;
        let mut stream = None;
        let mut opening = Some(opening);
        for round in 0..20 {
            let frame = loop {
                match peer.frame().await {
                    Some(frame) => break frame,
                    None => peer = server.x1(64).await,
                }
            };
            assert_eq!(frame["type"], "omsc", "round {round}: {frame}");
            let call = Opening { data: frame["data"].clone() };
            peer.answer(&call, "success").await;
            if let Some(opening) = opening.take() {
                stream = Some(within(opening).await.unwrap().unwrap());
            }
            // A value does not show that all is well.
            peer.send(call.int(round)).await;
            let last = says(&call);
            if !last.is_null() {
                peer.send(last.clone()).await;
            }
            if last["type"] != "cmsc" {
                // The call ends with the server's socket.
                peer.ws.close(None).await.unwrap();
            }
        }
        assert!(began.elapsed() > Duration::from_secs(20), "{:?}", began.elapsed());
        drop(stream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_cannot_put_off_a_call_for_more_than_an_hour() {
    let Opened { server: _server, client: _client, mut peer, call, mut stream } = Opened::resumable().await;
    let began = Instant::now();
    peer.send(call.frame("cmsc", json!({"cr": "error", "why": {"c": "overloaded", "again": u32::MAX}})))
        .await;
    // It reads and answers meanwhile, lest it be silent.
    let call = loop {
        let text = peer.text().await.unwrap();
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        if frame["type"] == "omsc" {
            break Opening { data: frame["data"].clone() };
        }
        peer.send(json!({"type": "pong"})).await;
    };
    assert_eq!(began.elapsed().as_secs(), 3600);
    peer.answer(&call, "success").await;
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::Restarted))));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_too_long_is_none() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = tokio::spawn(client.call("numbers", "a").resume().open::<i64>());
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "x".repeat(1 << 20)})).await;
    let mut stream = within(opening).await.unwrap().unwrap();
    drop(peer);
    // It would be kept for each call, and shown at each attempt.
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    peer.send(call.int(7)).await;
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::Restarted))));
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 7);
}
