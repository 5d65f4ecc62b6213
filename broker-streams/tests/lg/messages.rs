//! Messages: from and to endpoints, and frames that are none.

use crate::{
    server::{Test, echoed, hear, ignored, message, say},
    support::Raw,
};
use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn lg_1_messages_are_handled_in_order() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    for number in 1..=3 {
        say(&mut raw, "test", number).await;
    }
    for number in 1..=3 {
        assert_eq!(hear(&mut raw).await, ("test".to_owned(), json!(number)));
    }
}

#[tokio::test]
async fn lg_3_and_14_an_endpoint_of_a_module_has_messages_too() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    for number in 1..=3 {
        echoed(&mut raw, "module.test", number).await;
    }
    raw.json(&message("module.test", &json!(4))).await;
    let expected = r#"{"endpoint":"module.test","object":{"className":"int","data":4}}"#;
    assert_eq!(raw.next_text().await.as_deref(), Some(expected));
}

#[tokio::test]
async fn lg_15_streams_are_opened_in_order_and_once() {
    let test = Test::start().await;
    let mut raw = test.connect("ada").await;
    echoed(&mut raw, "test", 1).await;
    let notes = test.notes.all();
    let expected = [
        "asked at /websocket",
        "broken: it cannot be opened",
        "test opened",
        "login opened",
        "module.test opened",
    ];
    assert_eq!(notes, expected);
}

#[tokio::test]
async fn a_user_object_is_kept_for_each_connection_and_endpoint() {
    let test = Test::start().await;
    let (mut one, mut other) = (test.connect("").await, test.connect("").await);
    for count in [1, 2] {
        say(&mut one, "test", "count").await;
        assert_eq!(hear(&mut one).await.1, json!(count));
    }
    for (raw, endpoint) in [(&mut one, "module.test"), (&mut other, "test")] {
        say(raw, endpoint, "count").await;
        assert_eq!(hear(raw).await.1, json!(1), "{endpoint}");
    }
}

#[tokio::test]
async fn a_ping_is_answered_also_while_a_message_is_handled() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "wait").await;
    test.notes.wait("waiting").await;
    raw.text(r#"{"command":"ping","args":{}}"#).await;
    assert_eq!(raw.next_text().await.as_deref(), Some(r#"{"command":"pong"}"#));
    test.open.send(true).unwrap();
    assert_eq!(hear(&mut raw).await.1, json!("waited"));
}

#[tokio::test]
async fn a_failure_and_a_panic_are_reported_and_the_connection_goes_on() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    for (said, noted) in [("fail", "test: it failed"), ("panic", "test: the endpoint panicked")] {
        say(&mut raw, "test", said).await;
        echoed(&mut raw, "test", 7).await;
        assert_eq!(test.notes.count(noted), 1, "{said}: {:?}", test.notes.all());
    }
    // What does not fit is a failure, too.
    raw.json(&json!({"endpoint": "test", "object": {"className": "Other", "data": {}}})).await;
    echoed(&mut raw, "test", 7).await;
    let noted = "test: a value of class \"Other\" is not expected here";
    assert_eq!(test.notes.count(noted), 1, "{:?}", test.notes.all());
    say(&mut raw, "test", "count").await;
    assert_eq!(hear(&mut raw).await.1, json!(7), "the user object is the same");
}

#[tokio::test]
async fn what_nobody_handles_is_ignored() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    for endpoint in ["broken", "silent", "methods"] {
        ignored(&mut raw, endpoint).await;
    }
    assert_eq!(test.notes.count("broken handled"), 0);
    raw.text(r#"{"command":"other","args":{}}"#).await;
    echoed(&mut raw, "test", 1).await;
}

async fn refused(raw: &mut Raw, text: &str, code: u16) {
    // Both arrive at once.
    raw.0.feed(Message::text(message("test", &json!(7)).to_string())).await.unwrap();
    raw.text(text).await;
    // What was sent before it is handled.
    assert_eq!(hear(raw).await.1, json!(7), "{text:.80}");
    assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(code), "{text:.80}");
}

#[tokio::test]
async fn an_unknown_endpoint_ends_the_connection() {
    for endpoint in ["other", "module", "Test", ""] {
        let test = Test::start().await;
        let mut raw = test.connect("").await;
        refused(&mut raw, &message(endpoint, &json!(1)).to_string(), 1008).await;
        test.notes.wait("test closed, sends: false").await;
    }
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    let test = Test::start().await;
    for text in ["", "no JSON", "{}", r#"{"command":"ping"}"#, r#"{"endpoint":"test","object":7}"#] {
        let mut raw = test.connect("").await;
        refused(&mut raw, text, 1008).await;
    }
}

#[test]
fn what_is_public_can_be_shared() {
    fn check<T: Send + Sync + 'static>() {}
    check::<broker_streams::Any>();
    check::<broker_streams::EndpointsService>();
    check::<broker_streams::Peer>();
}
