//! What the client does with a server that knows the extension.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use broker_streams_client::{Again, CallError, CallEvents, CallStream, Cause, Client, Event, Resumption};
use futures_util::{FutureExt, stream};
use serde_json::json;
use support::{Opening, Peer, server, within};
use tokio::{task::JoinHandle, time::Instant};

fn open(client: &Client) -> JoinHandle<Result<CallStream<i64>, CallError>> {
    let call = client.call("numbers", "all").resume();
    tokio::spawn(call.open::<i64>())
}

/// The next event of a stream that is a value.
async fn value(events: &mut CallEvents<i64>) -> i64 {
    match within(events.next()).await {
        Some(Ok(Event::Value(value))) => value,
        other => panic!("not a value: {other:?}"),
    }
}

/// Lets the client do what it can do without any time passing.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn flow(call: &Opening, got: u64) -> serde_json::Value {
    json!({"type": "flow", "data": {"cid": call.cid(), "got": got}})
}

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
    let (mut server, builder) = server();
    let client = builder.window(8).build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap().events();
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
    let (mut server, builder) = server();
    let client = builder.window(4).build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
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

/// Loses the socket, and reads what the client asks for on the next.
async fn lost_and_back(server: &mut support::Server, peer: &Peer) -> (Peer, serde_json::Value) {
    peer.wire.cut();
    let mut next = server.x1(64).await;
    let resume = next.expect("rsm").await;
    (next, resume)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_server_has_kept_goes_on_and_what_is_known_is_not_given_twice() {
    let (mut server, builder) = server();
    let client = builder.credentials(|| async { Some("Bearer a".to_owned()) }).build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "token-1"})).await;
    let mut stream = within(opening).await.unwrap().unwrap().events();
    for number in 0..3 {
        peer.send(call.int(number)).await;
    }
    assert_eq!(value(&mut stream).await, 0);
    settle().await;

    let (mut peer, resume) = lost_and_back(&mut server, &peer).await;
    let asked = json!({"cid": call.cid(), "t": "token-1", "got": {"": 1}});
    assert_eq!(resume, json!({"calls": [asked], "auth": "Bearer a"}));
    // What has come is there while nothing else is, and the position is that of the question.
    assert_eq!(value(&mut stream).await, 1);
    let goes_on = json!({"cid": call.cid(), "ok": true, "t": "token-2"});
    peer.send(json!({"type": "rsr", "data": {"calls": [goes_on]}})).await;
    assert_eq!(peer.read().await, flow(&call, 2), "what was told before may be lost");
    for number in 1..5 {
        peer.send(call.int(number)).await;
    }
    assert_eq!(value(&mut stream).await, 2);
    let resumed = within(stream.next()).await.unwrap().unwrap();
    assert_eq!(resumed, Event::Resumed(Resumption::Exact));
    assert_eq!(value(&mut stream).await, 3);
    assert_eq!(value(&mut stream).await, 4);

    // Once more, with the new token; and the end, which the server is told of at once.
    let (mut peer, resume) = lost_and_back(&mut server, &peer).await;
    assert_eq!(resume["calls"], json!([{"cid": call.cid(), "t": "token-2", "got": {"": 5}}]));
    peer.send(json!({"type": "rsr", "data": {"calls": [{"cid": call.cid(), "ok": true}]}})).await;
    assert_eq!(peer.read().await, flow(&call, 5));
    peer.send(call.done()).await;
    assert_eq!(peer.read().await, flow(&call, 6));
    assert!(matches!(within(stream.next()).await, Some(Ok(Event::Resumed(_)))));
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_is_resumed_before_any_value_and_an_anonymous_one_without_credentials() {
    let (mut server, builder) = server();
    let client = builder.credentials(|| async { Some("Bearer a".to_owned()) }).build().unwrap();
    let opening = tokio::spawn(client.call("numbers", "all").resume().anonymous().open::<i64>());
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "t"})).await;
    let mut stream = within(opening).await.unwrap().unwrap();
    let (mut peer, resume) = lost_and_back(&mut server, &peer).await;
    assert_eq!(resume, json!({"calls": [{"cid": call.cid(), "t": "t", "got": {"": 0}}]}));
    peer.send(json!({"type": "rsr", "data": {"calls": [{"cid": call.cid(), "ok": true}]}})).await;
    peer.send(call.int(1)).await;
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_acknowledged_after_a_resumption_however_it_was_read() {
    let (mut server, builder) = server();
    let client = builder.window(4).build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "t"})).await;
    let mut stream = within(opening).await.unwrap().unwrap().events();
    for number in 0..4 {
        peer.send(call.int(number)).await;
    }
    settle().await;
    let (mut peer, _) = lost_and_back(&mut server, &peer).await;
    // All is read between the question and the answer.
    for number in 0..4 {
        assert_eq!(value(&mut stream).await, number);
    }
    settle().await;
    peer.send(json!({"type": "rsr", "data": {"calls": [{"cid": call.cid(), "ok": true}]}})).await;
    assert_eq!(peer.read().await, flow(&call, 4));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_gone_goes_on_by_its_cursor() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "t"})).await;
    let mut stream = within(opening).await.unwrap().unwrap().events();
    let with_cursor = |call: &Opening, number: i64| {
        let k = format!("k{number}");
        call.frame("msm", json!({"o": {"className": "int", "data": number}, "k": k}))
    };
    for number in 0..3 {
        peer.send(with_cursor(&call, number)).await;
    }
    assert_eq!(value(&mut stream).await, 0);
    settle().await;
    let (mut peer, _) = lost_and_back(&mut server, &peer).await;
    assert_eq!(value(&mut stream).await, 1);
    peer.send(json!({"type": "rsr", "data": {"calls": [{"cid": call.cid(), "ok": false}]}})).await;
    let again = peer.opening().await;
    assert_eq!(again.data["x"]["k"], "k1", "behind the last value that was given");
    assert_ne!(again.cid(), call.cid());
    assert!(stream.next().now_or_never().is_none(), "the new call sends 2 again");
    peer.answer(&again, "success").await;
    for number in 2..4 {
        peer.send(with_cursor(&again, number)).await;
    }
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), Event::Resumed(Resumption::Cursor));
    assert_eq!((value(&mut stream).await, value(&mut stream).await), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_cursor_or_token_begins_anew_and_says_so() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let (first, second) = (open(&client), open(&client));
    let mut peer = server.x1(64).await;
    let (_, _) = (peer.opened().await, peer.opened().await);
    let mut events = within(first).await.unwrap().unwrap().events();
    let mut values = within(second).await.unwrap().unwrap();
    peer.wire.cut();
    let mut peer = server.plain().await;
    for _ in 0..2 {
        let call = peer.opened().await;
        peer.send(call.int(9)).await;
    }
    assert_eq!(within(events.next()).await.unwrap().unwrap(), Event::Restarted);
    assert_eq!(value(&mut events).await, 9);
    assert!(matches!(within(values.next()).await, Some(Err(CallError::Restarted))));
    assert_eq!(within(values.next()).await.unwrap().unwrap(), 9);
}

#[tokio::test(start_paused = true)]
async fn inputs_go_on_where_the_server_is_and_one_that_it_has_dropped_does_not() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let call = client
        .call("numbers", "all")
        .resume()
        .input("a", stream::iter(1..=6_i64))
        .input("b", stream::iter(1..=1_000_000_i64));
    let opening = tokio::spawn(call.open::<i64>());
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"w": {"a": 4, "b": 2}, "t": "t"})).await;
    let _stream = within(opening).await.unwrap().unwrap();
    let numbers = async |peer: &mut Peer, count: usize| {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let data = peer.expect("msm").await;
            numbers.push((data["p"].as_str().unwrap().to_owned(), data["o"]["data"].as_i64().unwrap()));
        }
        numbers.sort();
        numbers
    };
    let a = |numbers: std::ops::RangeInclusive<i64>| {
        numbers.map(|number| ("a".to_owned(), number)).collect::<Vec<_>>()
    };
    let before = numbers(&mut peer, 6).await;
    assert_eq!(before[..4], a(1..=4));
    let (mut peer, _) = lost_and_back(&mut server, &peer).await;
    let goes_on = json!({"cid": call.cid(), "ok": true, "got": {"a": 2, "b": -1}});
    peer.send(json!({"type": "rsr", "data": {"calls": [goes_on]}})).await;
    assert_eq!(peer.read().await, flow(&call, 0));
    assert_eq!(numbers(&mut peer, 2).await, a(3..=4));
    settle().await;
    assert!(peer.text().now_or_never().is_none(), "what was received is not yet consumed");
    peer.send(json!({"type": "flow", "data": {"cid": call.cid(), "p": "a", "got": 2}})).await;
    assert_eq!(numbers(&mut peer, 2).await, a(5..=6));
    peer.send(json!({"type": "flow", "data": {"cid": call.cid(), "p": "a", "got": 6}})).await;
    assert_eq!(peer.expect("cmsc").await, call.about(json!({"p": "a", "cr": "done"})));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_to_be_called_again_is_and_a_leaving_server_is_left() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    let mut events = within(opening).await.unwrap().unwrap().events();
    let close = json!({"cr": "error", "why": {"c": "overloaded", "again": 3000}});
    let began = Instant::now();
    peer.send(call.frame("cmsc", close)).await;
    let call = peer.opened().await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(within(events.next()).await.unwrap().unwrap(), Event::Restarted);

    peer.send(json!({"type": "bye", "data": {"within": 8000, "spread": 5000}})).await;
    peer.send(call.int(1)).await;
    assert_eq!(value(&mut events).await, 1);
    // A new call goes elsewhere at once; the old one when it is closed.
    let opening = open(&client);
    let mut other = server.x1(64).await;
    other.opened().await;
    let other_stream = within(opening).await.unwrap().unwrap();
    let close = json!({"cr": "error", "why": {"c": "draining", "again": "now"}});
    peer.send(call.frame("cmsc", close)).await;
    peer.closed().await;
    let call = other.opened().await;
    other.send(call.int(2)).await;
    assert_eq!(within(events.next()).await.unwrap().unwrap(), Event::Restarted);
    assert_eq!(value(&mut events).await, 2);
    assert!(server.is_quiet());
    drop(other_stream);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_between_the_question_and_its_answer() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "t"})).await;
    let stream = within(opening).await.unwrap().unwrap();
    let (mut peer, _) = lost_and_back(&mut server, &peer).await;
    let opening = open(&client);
    peer.send(json!({"type": "ping"})).await;
    drop(stream);
    settle().await;
    assert!(peer.text().now_or_never().is_none(), "the old token is good until something else arrives");
    peer.send(json!({"type": "rsr", "data": {"calls": [{"cid": call.cid(), "ok": true}]}})).await;
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(peer.read().await["type"].as_str().unwrap().to_owned());
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["cmsc", "omsc", "pong"]);
    drop(opening);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_leaving_server_drops_begins_elsewhere_within_the_spread() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "t"})).await;
    let mut events = within(opening).await.unwrap().unwrap().events();
    peer.send(json!({"type": "bye", "data": {"within": 8000, "spread": 5000}})).await;
    settle().await;
    let began = Instant::now();
    peer.wire.cut();
    let mut peer = server.x1(64).await;
    assert!(began.elapsed() <= Duration::from_millis(5001), "{:?}", began.elapsed());
    let call = peer.opened().await;
    peer.send(call.int(1)).await;
    assert_eq!(within(events.next()).await.unwrap().unwrap(), Event::Restarted);
    assert_eq!(value(&mut events).await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_client_tries_for_ever_with_growing_waits_and_at_once_when_there_is_a_network() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
    server.refuse(true);
    peer.wire.cut();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = server.attempts.load(std::sync::atomic::Ordering::SeqCst);
    assert!((45..200).contains(&attempts), "{attempts}");
    server.refuse(false);
    let began = Instant::now();
    client.report_online();
    let mut peer = server.x1(64).await;
    let call = peer.opened().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    peer.send(call.int(1)).await;
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::Restarted))));
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_asked_for_at_every_attempt_and_shown_anew_when_wanted() {
    let (mut server, builder) = server();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = std::sync::Arc::clone(&asked);
    let provider = move || {
        let number = counting.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move { Some(format!("Bearer {number}")) }
    };
    let client = builder.credentials(provider).build().unwrap();
    let opening = open(&client);
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    assert_eq!(call.data["auth"], "Bearer 0");
    peer.answer_with(&call, json!({"t": "t"})).await;
    let _stream = within(opening).await.unwrap().unwrap();
    client.authenticate_again();
    assert_eq!(peer.expect("auth").await, json!({"auth": "Bearer 1"}));
    let (_peer, resume) = lost_and_back(&mut server, &peer).await;
    assert_eq!(resume["auth"], "Bearer 2");
}
