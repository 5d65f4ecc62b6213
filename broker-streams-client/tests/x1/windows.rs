//! Windows, gaps, reasons and deadlines.

use std::time::Duration;

use broker_streams_client::{Again, CallError, Cause, Event};
use futures_util::{FutureExt, stream};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    flow, open, settle,
    support::{Opened, server, within},
    value,
};

#[tokio::test(start_paused = true)]
async fn the_opening_says_what_the_client_wants() {
    let (mut server, builder) = server();
    let client = builder.window(16).build().unwrap();
    let call =
        client.call("numbers", "all").resume().deadline(Duration::from_secs(30)).traceparent("00-ab-cd-01");
    let opening = tokio::spawn(call.args(&json!({"from": 1})).unwrap().open::<i64>());
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    assert_eq!(call.data["args"], r#"{"from":1}"#);
    assert_eq!(call.data["x"], json!({"w": 16, "d": 30_000, "tp": "00-ab-cd-01", "r": true}));
    drop(within(opening).await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn consumption_is_told_at_half_a_window_and_a_second_after_the_last() {
    let Opened { server: _server, client: _client, mut peer, call, stream } =
        Opened::x1(|builder| builder.window(8)).await;
    let mut stream = stream.events();
    for number in 0..8 {
        peer.send(call.int(number)).await;
    }
    settle().await;
    let began = Instant::now();
    for number in 0..4 {
        assert_eq!(value(&mut stream).await, number);
    }
    assert_eq!(peer.read().await, flow(&call, 4));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(value(&mut stream).await, 4);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(value(&mut stream).await, 5);
    assert_eq!(peer.read().await, flow(&call, 6));
    assert_eq!(began.elapsed().as_millis(), 1700);
}

#[tokio::test(start_paused = true)]
async fn large_values_are_told_by_their_bytes() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = tokio::spawn(client.call("texts", "all").open::<String>());
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
    let began = Instant::now();
    peer.send(call.value("String", "x".repeat(200_000))).await;
    assert_eq!(within(stream.next()).await.unwrap().unwrap().len(), 200_000);
    assert_eq!(peer.read().await, flow(&call, 1));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_beyond_the_window_loses_its_call() {
    let Opened { server: _server, client: _client, mut peer, call, mut stream } =
        Opened::x1(|builder| builder.window(4)).await;
    for number in 0..5 {
        peer.send(call.int(number)).await;
    }
    assert_eq!(peer.expect("cmsc").await, call.about(json!({"cr": "done"})));
    for number in 0..4 {
        assert_eq!(within(stream.next()).await.unwrap().unwrap(), number);
    }
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::Overflow))));
}

#[tokio::test(start_paused = true)]
async fn an_input_stays_within_its_window_and_is_not_pulled_beyond_it() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let pulled = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
    let counting = std::sync::Arc::clone(&pulled);
    let numbers = stream::iter(1..=20_i64).inspect(move |number| {
        counting.store(*number, std::sync::atomic::Ordering::SeqCst);
    });
    use futures_util::StreamExt;
    let call = tokio::spawn(client.call("numbers", "sum").input("in", numbers).void());
    let mut peer = server.x1(64).await;
    let opening = peer.opening().await;
    settle().await;
    assert_eq!(pulled.load(std::sync::atomic::Ordering::SeqCst), 0, "not before the call is open");
    peer.answer_with(&opening, json!({"w": {"in": 4}})).await;
    let (mut got, mut told) = (0, 0);
    loop {
        let frame = peer.read().await;
        got += 1;
        assert!(got <= told + 4, "{got} frames, and {told} were consumed");
        if frame["type"] == "cmsc" {
            break;
        }
        assert_eq!(frame["data"]["o"]["data"], got);
        if got == told + 4 {
            settle().await;
            assert!(peer.text().now_or_never().is_none(), "nothing beyond the window");
            assert!(pulled.load(std::sync::atomic::Ordering::SeqCst) <= got);
            told += 1 + got % 3;
            peer.send(json!({"type": "flow", "data": {"cid": opening.cid(), "p": "in", "got": told}})).await;
        }
    }
    assert_eq!(got, 21);
    peer.send(opening.done()).await;
    within(call).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gap_stands_between_values() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let (first, second) = (open(&client), open(&client));
    let mut peer = server.x1(64).await;
    for _ in 0..2 {
        let call = peer.opened().await;
        peer.send(call.int(1)).await;
        peer.send(call.frame("gap", json!({"n": 12, "c": "overflow"}))).await;
        peer.send(call.int(14)).await;
    }
    let mut events = within(first).await.unwrap().unwrap().events();
    assert_eq!(value(&mut events).await, 1);
    let gap = within(events.next()).await.unwrap().unwrap();
    assert_eq!(gap, Event::Gap { missed: Some(12), cause: "overflow".into() });
    assert_eq!(value(&mut events).await, 14);
    let mut values = within(second).await.unwrap().unwrap();
    assert_eq!(within(values.next()).await.unwrap().unwrap(), 1);
    let error = within(values.next()).await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Gap { missed: Some(12), .. }) && !error.is_final());
    assert_eq!(within(values.next()).await.unwrap().unwrap(), 14);
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_a_close_is_told() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    let close = json!({"cr": "error", "why": {"c": "revoked", "again": "signin"}});
    peer.send(call.frame("cmsc", close)).await;
    let mut stream = within(opening).await.unwrap().unwrap();
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert!(
        matches!(error, CallError::Closed { why: Some(Cause::Revoked), again: Again::SignIn }),
        "{error:?}"
    );
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_by_the_client_too() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = tokio::spawn(client.call("numbers", "all").deadline(Duration::from_secs(9)).open::<i64>());
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
    let began = Instant::now();
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert!(
        matches!(error, CallError::Closed { why: Some(Cause::Deadline), again: Again::Never }),
        "{error:?}"
    );
    assert_eq!(began.elapsed().as_secs(), 9);
    assert_eq!(peer.expect("cmsc").await, call.about(json!({"cr": "done"})));
}
