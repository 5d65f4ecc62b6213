//! Bounds: what one client may make the server keep or wait for.

use std::time::Duration;

use broker_streams::Limits;
use futures_util::StreamExt;
use serde_json::json;
use tokio_tungstenite::{connect_async, tungstenite};

use crate::{
    server::{Test, echoed, hear, message, say},
    support::soon,
};

async fn limited(change: impl FnOnce(&mut Limits)) -> Test {
    let mut limits = Limits::default();
    change(&mut limits);
    Test::with(|streams, _| streams.limits(limits)).await
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_the_connection() {
    let test = limited(|limits| limits.frame_bytes = 300).await;
    let mut raw = test.connect("").await;
    let length = message("test", &json!("")).to_string().len();
    say(&mut raw, "test", "x".repeat(300 - length)).await;
    echoed(&mut raw, "test", 1).await;
    say(&mut raw, "test", "x".repeat(301 - length)).await;
    assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1009));
}

#[tokio::test]
async fn one_socket_too_many_is_refused() {
    let test = limited(|limits| limits.sockets = 2).await;
    let mut raws = [test.connect("").await, test.connect("").await];
    for raw in &mut raws {
        echoed(raw, "test", 1).await;
    }
    let refused = soon("the refusal", connect_async(test.url(""))).await;
    let Err(tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    use tungstenite::client::IntoClientRequest;

    let test = Test::start().await;
    let mut request = test.url("ada").into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let refused = soon("the refusal", connect_async(request)).await;
    let Err(tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn who_sends_faster_than_it_is_handled_waits_and_loses_nothing() {
    let test = limited(|limits| limits.window = 2).await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "wait").await;
    test.notes.wait("waiting").await;
    for number in 0..100 {
        say(&mut raw, "test", number).await;
    }
    // It is behind what the server does not read.
    raw.text(r#"{"command":"ping","args":{}}"#).await;
    test.open.send(true).unwrap();
    assert_eq!(hear(&mut raw).await.1, json!("waited"));
    let (mut numbers, mut pongs) = (0, 0);
    while numbers < 100 || pongs == 0 {
        let heard = raw.next().await;
        if heard["command"] == "pong" {
            pongs += 1;
            assert!(numbers > 90, "the socket was read beyond the window: {numbers}");
        } else {
            assert_eq!(heard["object"]["data"], json!(numbers));
            numbers += 1;
        }
    }
}

#[tokio::test]
async fn the_socket_is_read_again_when_there_is_room() {
    let test = limited(|limits| limits.window = 2).await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "wait in silence").await;
    test.notes.wait("waiting").await;
    // None of these is answered.
    for number in 0..100 {
        say(&mut raw, "test", format!("note {number}")).await;
    }
    test.open.send(true).unwrap();
    test.notes.wait("note 99").await;
}

#[tokio::test]
async fn sending_waits_for_a_client_that_does_not_read_and_then_it_is_cut() {
    let test = limited(|limits| limits.stall = Duration::from_millis(300)).await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "flood").await;
    test.notes.wait("test closed, sends: false").await;
    // What the socket itself holds, and little more; without a bound it would have no end.
    let sent = test.notes.count("sent");
    assert!((6..10_000).contains(&sent), "{sent}");
    drop(raw);
    soon("the end", test.server.streams.close()).await;
}

#[tokio::test]
async fn who_is_silent_is_cut_and_who_answers_pings_is_not() {
    let change = |limits: &mut Limits| {
        limits.ping = Duration::from_millis(50);
        limits.silence = Duration::from_millis(500);
        limits.first_frame = Duration::from_millis(10);
    };
    let test = limited(change).await;
    // Nobody reads here, so nobody answers the pings.
    let silent = test.connect("").await;
    let mut raw = test.connect("").await;
    tokio::select! {
        () = test.notes.wait("test closed, sends: false") => {}
        heard = raw.next_text() => panic!("{heard:?}"),
    }
    drop(silent);
    echoed(&mut raw, "test", 1).await;
}

#[tokio::test]
async fn who_is_not_listened_to_is_not_silent() {
    let change = |limits: &mut Limits| {
        limits.ping = Duration::from_millis(50);
        limits.silence = Duration::from_millis(300);
        limits.window = 1;
    };
    let test = limited(change).await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "wait").await;
    test.notes.wait("waiting").await;
    for number in 0..3 {
        say(&mut raw, "test", number).await;
    }
    // Until well after the silence has become too long.
    for _ in 0..12 {
        let ping = soon("a ping", raw.0.next()).await;
        assert!(matches!(ping, Some(Ok(tungstenite::Message::Ping(_)))), "{ping:?}");
    }
    test.open.send(true).unwrap();
    assert_eq!(hear(&mut raw).await.1, json!("waited"));
    for number in 0..3 {
        assert_eq!(hear(&mut raw).await.1, json!(number));
    }
}
