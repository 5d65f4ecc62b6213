//! Failures: faults, which travel, and errors, which do not.

use std::sync::{Arc, Mutex};

use broker_streams::{
    Endpoint, Failure, Fault, Incoming, InputError, Out, StreamsBuilder, Unreadable, method,
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{MARKER, Raw, Server, close, id, open, soon};

#[derive(Debug, Serialize, Deserialize)]
struct TestFault {
    message: String,
}

impl std::fmt::Display for TestFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fault of the test")
    }
}

impl std::error::Error for TestFault {}

impl Fault for TestFault {
    fn class_name(&self) -> std::borrow::Cow<'static, str> {
        "TestFault".into()
    }

    fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    fn decode(class_name: &str, json: &str) -> Option<Result<Self, Unreadable>> {
        (class_name == "TestFault").then(|| broker_streams::derived::read(json))
    }
}

async fn untyped(_input: Incoming<i64>) -> Result<i64, Failure> {
    Err(Failure::internal(MARKER))
}

async fn typed(_input: Incoming<i64>) -> Result<i64, Failure> {
    Err(TestFault { message: "no".to_owned() }.into())
}

async fn before_the_stream() -> Result<stream::Empty<Result<i64, Failure>>, Failure> {
    Err(Failure::internal(MARKER))
}

fn untyped_stream() -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter([Ok(1), Err(Failure::internal(MARKER))])
}

fn first_event() -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter([Err(Failure::internal(MARKER))])
}

fn typed_stream() -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter([Ok(1), Err(TestFault { message: "no".to_owned() }.into())])
}

async fn panics(_out: Out<i64>) {
    panic!("{MARKER}")
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

/// Sends what an input fails with.
async fn input_fault(mut input: Incoming<i64>, out: Out<String>) -> Result<(), Failure> {
    while let Some(item) = input.next().await {
        out.send(match item {
            Ok(value) => value.to_string(),
            Err(InputError::Fault(fault)) => match fault.read::<TestFault>() {
                Some(Ok(fault)) => format!("fault {}", fault.message),
                other => format!("{other:?}"),
            },
            Err(InputError::Failed) => "failed".to_owned(),
            Err(other) => other.to_string(),
        })
        .await?;
    }
    Ok(())
}

fn streams(streams: StreamsBuilder) -> StreamsBuilder {
    streams.endpoint(
        Endpoint::new("test")
            .method("untyped", method(untyped).inputs(["input"]))
            .method("typed", method(typed).inputs(["input"]))
            .method("before", before_the_stream)
            .method("first", first_event)
            .method("untypedStream", untyped_stream)
            .method("typedStream", typed_stream)
            .method("panics", panics)
            .method("panicsOnTask", method(panics).on_task())
            .method("forever", forever)
            .method("inputFault", method(input_fault).inputs(["input"])),
    )
}

async fn opened(method: &str, inputs: &[&str]) -> (Server, Raw) {
    let server = Server::start(streams).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", method, &json!({}), inputs)).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    (server, raw)
}

#[tokio::test]
async fn ws_50_a_fault_of_an_input_reaches_the_method() {
    let (_server, mut raw) = opened("inputFault", &["input"]).await;
    raw.json(&json!({"type": "msse", "data": {
        "en": "test", "m": "inputFault", "cid": id(1), "p": "input",
        "ex": {"className": "TestFault", "data": {"message": "mine"}},
    }}))
    .await;
    raw.json(&close(1, "inputFault", Some("input"), "error")).await;
    assert_eq!(raw.frames(3).await, ["String \"fault mine\"", "String \"failed\"", "close done"]);
}

#[tokio::test]
async fn ws_51_a_single_result_that_fails_is_closed_with_an_error_and_no_text() {
    let (_server, mut raw) = opened("untyped", &["input"]).await;
    // That the text is in no frame is checked wherever frames are read.
    assert_eq!(raw.frames(2).await, ["close error", "close error of input"]);
    raw.silent().await;
}

#[tokio::test]
async fn ws_53_a_stream_that_fails_is_closed_with_an_error() {
    let (_server, mut raw) = opened("untypedStream", &[]).await;
    assert_eq!(raw.frames(2).await, ["int 1", "close error"]);
}

#[tokio::test]
async fn ws_54_and_55_a_typed_failure_of_a_single_result_travels() {
    let (_server, mut raw) = opened("typed", &["input"]).await;
    let expected = [r#"fault TestFault {"message":"no"}"#, "close error", "close error of input"];
    assert_eq!(raw.frames(3).await, expected);
}

#[tokio::test]
async fn ws_57_a_typed_failure_of_a_stream_travels() {
    let (_server, mut raw) = opened("typedStream", &[]).await;
    assert_eq!(raw.frames(3).await, ["int 1", r#"fault TestFault {"message":"no"}"#, "close error"]);
}

#[tokio::test]
async fn ws_59_and_60_a_call_that_ends_or_fails_leaves_the_socket_to_the_others() {
    let (_server, mut raw) = opened("forever", &[]).await;
    for (number, method) in [(2, "untypedStream"), (3, "panics"), (4, "panicsOnTask")] {
        raw.json(&open(number, "test", method, &json!({}), &[])).await;
        assert_eq!(raw.frames(1).await, ["success"]);
        while raw.next().await["type"] != "cmsc" {}
    }
    raw.silent().await;
}

#[tokio::test]
async fn ws_83_to_86_the_hook_is_called_for_each_failure() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&seen);
    let server = Server::start(move |builder| {
        streams(builder).on_failure(move |call, failure| {
            noting.lock().unwrap().push(format!("{} {failure}", call.method()));
        })
    })
    .await;
    let mut raw = server.connect().await;
    for (number, method) in [(1, "untypedStream"), (2, "before"), (3, "first")] {
        raw.json(&open(number, "test", method, &json!({}), &[])).await;
        while raw.next().await["type"] != "cmsc" {}
    }
    let expected = ["untypedStream", "before", "first"].map(|method| format!("{method} {MARKER}"));
    assert_eq!(*seen.lock().unwrap(), expected);
    soon("the end", server.streams.close()).await;
}
