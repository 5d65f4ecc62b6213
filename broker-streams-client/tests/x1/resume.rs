//! Calls whose socket was lost, or whose server goes: exactly, by cursor, or anew.

use std::time::Duration;

use broker_streams_client::{CallError, Event, Resumption};
use futures_util::{FutureExt, stream};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    flow, open, settle,
    support::{self, Opened, Opening, Peer, server, within},
    value,
};

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
    let Opened { mut server, client, mut peer, call, stream } = Opened::resumable().await;
    let mut events = stream.events();
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
    let Opened { mut server, client, peer, mut stream, .. } = Opened::resumable().await;
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
