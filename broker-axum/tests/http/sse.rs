//! Typed streams as server-sent events.

use std::time::{Duration, Instant};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use broker::{Broker, Codec, Identity, Model, Post, Revocation, Scope, SubscribeOptions};
use broker_axum::{AnyStream, HttpError, ItemStream, RequestSession, SseResponse, sse};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use crate::server::{ROOM, Said, Server, guards, said, say, small_broker, within};

async fn room(RequestSession(session): RequestSession) -> Result<Response, HttpError> {
    Ok(sse(session.create_stream(ROOM).await?.owning(session)).into_response())
}

async fn of_ada(State(broker): State<Broker>) -> Result<Response, HttpError> {
    let session = broker.session_for(Identity::new("ada", Instant::now())).await?;
    Ok(sse(session.create_stream(ROOM).await?.owning(session)).named().into_response())
}

fn app() -> Router<Broker> {
    Router::new().route("/room", get(room)).route("/ada", get(of_ada))
}

#[tokio::test]
async fn a_message_is_an_event_with_the_id_of_the_message() {
    let broker = broker::connect("memory:").await.unwrap();
    let server = Server::start(&broker, app()).await;
    let mut events = server.events("/room").await;
    let mut same = broker.create_stream(ROOM).await.unwrap();
    // JSON of another program, of several lines.
    let post = Post::encoded(Said::NAME, Codec::Json, "{\n  \"text\":\r\n \"hello\" }");
    broker.publish(ROOM, post, Scope::Global).await.unwrap();
    let id = same.next().await.unwrap().unwrap().id();
    // Of CRLF each is a line's end in an event stream, and white space in JSON.
    let lines = ["data: {", "data:   \"text\":", "data: ", "data:  \"hello\" }"];
    assert_eq!(events.next().await.unwrap(), [&[&*format!("id: {id}")][..], &lines].concat());
}

#[tokio::test]
async fn a_gap_and_what_is_unreadable_are_events_and_the_stream_goes_on() {
    let broker = small_broker().await;
    let stream = broker.create_stream(ROOM).await.unwrap();
    for number in 0..20 {
        say(&broker, &number.to_string()).await;
    }
    broker.publish(ROOM, "no type", Scope::Global).await.unwrap();
    let post = |payload: &'static [u8]| Post::encoded(Said::NAME, Codec::Json, payload);
    broker.publish(ROOM, post(b"{"), Scope::Global).await.unwrap();
    // A reader of the type skips it, and it is no text.
    broker.publish(ROOM, post(b"{\"text\":\"x\",\"more\":\"\xff\"}"), Scope::Global).await.unwrap();
    let mut other = broker.create_stream(ROOM).await.unwrap();
    say(&broker, "last").await;
    // All of it has arrived.
    assert_eq!(within("the last", other.next()).await.unwrap().unwrap().text, "last");
    let body = sse(stream).into_response().into_body();
    let reading = tokio::spawn(axum::body::to_bytes(body, 1 << 20));
    broker.drain().await;
    let body = within("the body", reading).await.unwrap().unwrap();
    let body = std::str::from_utf8(&body).unwrap();
    let events: Vec<&str> = body.split_terminator("\n\n").collect();
    assert_eq!(events[0], "event: gap\ndata: {\"missed\":8,\"cause\":\"overflow\"}");
    assert!(events[1].ends_with("data: {\"text\":\"8\"}"), "{body}");
    let [wrong, malformed, skipped, last, end] = events[events.len() - 5..] else { panic!("{body}") };
    assert_eq!(wrong, "event: unreadable\ndata: {\"error\":\"wrong-type\"}");
    assert_eq!((malformed, skipped), ("event: unreadable\ndata: {\"error\":\"malformed\"}", malformed));
    assert!(last.ends_with("{\"text\":\"last\"}"), "{body}");
    assert_eq!(end, "event: end\ndata: {\"reason\":\"going-away\"}");
}

#[tokio::test]
async fn the_gaps_that_a_reader_asked_for_have_their_cause() {
    let broker = broker::connect("memory:").await.unwrap();
    let early = SubscribeOptions::new().without_waiting();
    let early = broker.create_stream_with(ROOM, early).await.unwrap();
    let latest = SubscribeOptions::new().latest_only();
    let latest = broker.create_stream_with(ROOM, latest).await.unwrap();
    say(&broker, "one").await;
    say(&broker, "two").await;
    let mut other = broker.create_stream(ROOM).await.unwrap();
    say(&broker, "three").await;
    // All of it has arrived.
    within("the last", other.next()).await.unwrap().unwrap();
    for (stream, gap) in [
        (latest, "event: gap\ndata: {\"missed\":2,\"cause\":\"conflated\"}\n\n"),
        (early, "event: gap\ndata: {\"missed\":null,\"cause\":\"subscribed\"}\n\n"),
    ] {
        let mut body = sse(stream).into_response().into_body().into_data_stream();
        assert_eq!(within("a gap", body.next()).await.unwrap().unwrap(), gap);
    }
}

#[tokio::test]
async fn a_revocation_ends_the_events_of_that_user_with_the_reason() {
    let broker = broker::connect("memory:").await.unwrap();
    let server = Server::start(&broker, app()).await;
    let (mut ada, mut anyone) = (server.events("/ada").await, server.events("/room").await);
    say(&broker, "hello").await;
    let named = ada.next().await.unwrap();
    assert!(named.contains(&"event: Said".to_owned()), "{named:?}");
    assert_eq!(anyone.text().await, "hello");
    broker.revoke(Revocation::user("ada")).await.unwrap();
    assert_eq!(ada.end().await, "data: {\"reason\":\"revoked\"}");
    say(&broker, "still here").await;
    assert_eq!(anyone.text().await, "still here");
}

#[tokio::test]
async fn ids_can_be_those_of_the_application() {
    let broker = broker::connect("memory:").await.unwrap();
    let stream = broker.create_stream(ROOM).await.unwrap();
    let mut body = sse(stream).ids(|said| said.text.clone()).into_response().into_body().into_data_stream();
    for (text, event) in [
        ("7", "id: 7\ndata: {\"text\":\"7\"}\n\n"),
        ("of two\nlines", "data: {\"text\":\"of two\\nlines\"}\n\n"),
    ] {
        say(&broker, text).await;
        assert_eq!(within("an event", body.next()).await.unwrap().unwrap(), event);
    }
}

/// The events of a response that ends, each on one line.
async fn events(response: SseResponse<impl ItemStream>) -> Vec<String> {
    let body = axum::body::to_bytes(response.into_response().into_body(), 1 << 20);
    let body = String::from_utf8(within("the body", body).await.unwrap().into()).unwrap();
    body.split_terminator("\n\n").map(|event| event.replace('\n', " ")).collect()
}

#[tokio::test]
async fn what_is_stored_comes_first_and_nothing_twice() {
    let broker = broker::connect("memory:").await.unwrap();
    let session = broker.session_for(Identity::new("ada", Instant::now())).await.unwrap();
    let stream = session.create_stream(ROOM).await.unwrap().owning(session);
    let reading = sse(stream).after(["1", "2", "3"].map(said)).named().ids(|said| said.text.clone());
    let mut body = reading.into_response().into_body().into_data_stream();
    for text in ["2", "4", "3", "5"] {
        say(&broker, text).await;
    }
    for text in ["1", "2", "3", "4", "5"] {
        let event = format!("id: {text}\ndata: {{\"text\":\"{text}\"}}\nevent: Said\n\n");
        assert_eq!(within("an event", body.next()).await.unwrap().unwrap(), event);
    }
    broker.revoke(Revocation::user("ada")).await.unwrap();
    let end = within("the end", body.next()).await.unwrap().unwrap();
    assert_eq!(end, "event: end\ndata: {\"reason\":\"revoked\"}\n\n");
    assert!(within("nothing more", body.next()).await.is_none());
}

#[tokio::test]
async fn what_is_stored_has_no_ids_but_those_of_the_application() {
    let broker = broker::connect("memory:").await.unwrap();
    let stream = broker.create_stream(ROOM).await.unwrap();
    say(&broker, "1").await;
    let reading = tokio::spawn(events(sse(stream).after(vec![said("1")])));
    broker.drain().await;
    let events = reading.await.unwrap();
    let [stored, posted, end] = &*events else { panic!("{events:?}") };
    assert_eq!(stored, "data: {\"text\":\"1\"}");
    assert!(posted.starts_with("id: ") && posted.ends_with(stored), "{posted}");
    assert_eq!(end, "event: end data: {\"reason\":\"going-away\"}");
}

#[tokio::test]
async fn the_pauses_after_what_is_stored_are_filled_with_comments() {
    let broker = broker::connect("memory:").await.unwrap();
    let stream = broker.create_stream(ROOM).await.unwrap();
    let response = sse(stream).after([said("1")]).keep_alive(Duration::from_millis(1));
    let mut body = response.into_response().into_body().into_data_stream();
    for text in ["data: {\"text\":\"1\"}\n\n", ":\n\n", ":\n\n"] {
        assert_eq!(within("an event", body.next()).await.unwrap().unwrap(), text);
    }
}

#[tokio::test]
async fn a_response_can_end_at_what_was_lost() {
    let broker = small_broker().await;
    let lossy = broker.create_stream(ROOM).await.unwrap();
    let latest = SubscribeOptions::new().latest_only();
    let latest = broker.create_stream_with(ROOM, latest).await.unwrap();
    let mut other = broker.create_stream(ROOM).await.unwrap();
    for number in 0..20 {
        say(&broker, &number.to_string()).await;
        within("a message", other.next()).await.unwrap().unwrap();
    }
    drop(other);
    assert_eq!(events(sse(lossy).end_at_gap()).await, ["event: end data: {\"reason\":\"gap\"}"]);
    let reading = tokio::spawn(events(sse(latest).end_at_gap()));
    broker.drain().await;
    let events = reading.await.unwrap();
    assert_eq!(events[0], "event: gap data: {\"missed\":19,\"cause\":\"conflated\"}");
    assert_eq!(events[2], "event: end data: {\"reason\":\"going-away\"}");
}

#[tokio::test]
async fn a_pause_is_filled_with_comments() {
    let broker = broker::connect("memory:").await.unwrap();
    let stream = broker.create_stream(ROOM).await.unwrap();
    let body = sse(stream).keep_alive(Duration::from_millis(1)).into_response().into_body();
    let mut body = body.into_data_stream();
    assert_eq!(within("a comment", body.next()).await.unwrap().unwrap(), ":\n\n");
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
#[model(name = "gap")]
struct Taken;

#[derive(serde::Serialize, serde::Deserialize, Model)]
#[model(name = "of two\nlines")]
struct Broken;

#[tokio::test]
async fn a_name_that_would_be_another_event_is_left_out() {
    async fn named<T: Model>(broker: &Broker, value: T) -> String {
        let stream = broker.create_stream::<T>("any").await.unwrap();
        broker.post_message("any", value, Scope::Local).await.unwrap();
        let mut body = sse(stream).named().into_response().into_body().into_data_stream();
        String::from_utf8(within("an event", body.next()).await.unwrap().unwrap().into()).unwrap()
    }
    let broker = Broker::local();
    for event in [named(&broker, Taken).await, named(&broker, Broken).await] {
        assert!(event.starts_with("id: ") && event.ends_with("\ndata: null\n\n"), "{event}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream() {
    let broker = broker::connect("memory:").await.unwrap();
    let (guards, mut guarded) = guards();
    let watched = async move |State(broker): State<Broker>| {
        let guard = guards.guard();
        let stream = broker.create_stream(ROOM).await?.inspect(move |_| _ = &guard);
        Ok::<_, HttpError>(sse(AnyStream(stream)))
    };
    let server = Server::start(&broker, Router::new().route("/watched", get(watched))).await;
    drop(server.events("/watched").await);
    guarded.dropped().await;
}

/// One client asks for the events and never reads them, while much is posted.
#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody_and_is_closed() {
    let broker = small_broker().await;
    let (guards, mut guarded) = guards();
    let watched = async move |State(broker): State<Broker>| {
        let guard = guards.guard();
        let stream = broker.create_stream(ROOM).await?.inspect(move |_| _ = &guard);
        Ok::<_, HttpError>(sse(AnyStream(stream)))
    };
    let app = app().route("/watched", get(watched));
    // For the one that reads as well, on a machine that may be busy.
    let limit = Duration::from_secs(3);
    let server = Server::start_with(&broker, app, |serve| serve.send_timeout(limit)).await;
    let mut reading = server.events("/room").await;
    let mut silent = server.narrow().await;
    silent.write_all(b"GET /watched HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    silent.readable().await.unwrap(); // the head of the response: it is subscribed
    let text = "x".repeat(256 << 10);
    for number in 0..64 {
        say(&broker, &format!("{number} {text}")).await;
        let read = reading.text().await;
        assert!(read.starts_with(&format!("{number} ")), "{}", &read[..20]);
    }
    guarded.dropped().await;
    say(&broker, "and on").await;
    assert_eq!(reading.text().await, "and on");
}
