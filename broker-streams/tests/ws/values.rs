//! Values in both directions.

use broker_streams::{
    Call, Endpoint, Failure, Incoming, Model, Out, StreamsBuilder, Unreadable, Value, method,
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{Raw, Server, close, open, value};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Model)]
struct SimpleData {
    num: i64,
}

/// Every class that the tests of mixed streams use.
enum Mixed {
    Int(Option<i64>),
    Text(String),
    Simple(SimpleData),
}

impl Value for Mixed {
    fn class_name(&self) -> std::borrow::Cow<'static, str> {
        match self {
            Self::Int(value) => Value::class_name(value),
            Self::Text(value) => Value::class_name(value),
            Self::Simple(value) => Value::class_name(value),
        }
    }

    fn encode(&self, json: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self {
            Self::Int(value) => value.encode(json),
            Self::Text(value) => value.encode(json),
            Self::Simple(value) => value.encode(json),
        }
    }

    fn decode(class_name: &str, json: &str) -> Result<Self, Unreadable> {
        match class_name {
            "String" => Value::decode(class_name, json).map(Self::Text),
            "SimpleData" => Value::decode(class_name, json).map(Self::Simple),
            _ => Value::decode(class_name, json).map(Self::Int),
        }
    }
}

async fn single(_input: Incoming<i64>) -> i64 {
    42
}

fn ints() -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter((1..=3).map(Ok))
}

async fn models() -> impl Stream<Item = Result<SimpleData, Failure>> {
    stream::iter((1..=2).map(|num| Ok(SimpleData { num })))
}

async fn first(mut input: Incoming<i64>) -> Result<i64, Failure> {
    Ok(input.next().await.ok_or("no value")??)
}

async fn count_to(mut input: Incoming<i64>, out: Out<i64>) -> Result<(), Failure> {
    for number in 1..=input.next().await.ok_or("no value")?? {
        out.send(number).await?;
    }
    Ok(())
}

fn echo(input: Incoming<Mixed>) -> impl Stream<Item = Result<Mixed, broker_streams::InputError>> {
    input
}

fn union(
    first: Incoming<i64>,
    second: Incoming<i64>,
) -> impl Stream<Item = Result<i64, broker_streams::InputError>> {
    stream::select(first, second)
}

async fn nothing(mut input: Incoming<i64>) -> Result<(), Failure> {
    while let Some(value) = input.next().await {
        value?;
    }
    Ok(())
}

async fn ignores(_input: Incoming<i64>) {}

async fn forever(call: Call, _out: Out<i64>) {
    let _kept = call;
    std::future::pending::<()>().await;
}

fn streams(streams: StreamsBuilder) -> StreamsBuilder {
    streams.endpoint(
        Endpoint::new("test")
            .method("single", method(single).inputs(["input"]))
            .method("ints", ints)
            .method("models", models)
            .method("first", method(first).inputs(["input"]))
            .method("count", method(count_to).inputs(["input"]))
            .method("echo", method(echo).inputs(["input"]))
            .method("union", method(union).inputs(["first", "second"]))
            .method("nothing", method(nothing).inputs(["input"]))
            .method("ignores", method(ignores).inputs(["input"]))
            .method("forever", forever),
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
async fn ws_34_a_method_without_a_value_that_ignores_its_input() {
    let (_server, mut raw) = opened("ignores", &["input"]).await;
    assert_eq!(raw.frames(2).await, ["close done", "close done of input"]);
}

#[tokio::test]
async fn ws_41_a_single_result_is_one_value() {
    let (_server, mut raw) = opened("single", &["input"]).await;
    assert_eq!(raw.frames(3).await, ["int 42", "close done", "close done of input"]);
    raw.silent().await;
}

#[tokio::test]
async fn ws_42_and_43_ints_arrive_in_order_and_then_the_close() {
    let (_server, mut raw) = opened("ints", &[]).await;
    assert_eq!(raw.frames(4).await, ["int 1", "int 2", "int 3", "close done"]);
}

#[tokio::test]
async fn ws_44_models_arrive_in_order() {
    let (_server, mut raw) = opened("models", &[]).await;
    let expected = r#"{"type":"msm","data":{"en":"test","m":"models","cid":"00000001-8f0a-4a8e-9a50-2f0c9f5f0a11","o":{"className":"SimpleData","data":{"num":1}}}}"#;
    assert_eq!(raw.next_text().await.as_deref(), Some(expected));
    assert_eq!(raw.frames(2).await, [r#"SimpleData {"num":2}"#, "close done"]);
}

#[tokio::test]
async fn ws_46_a_finished_call_leaves_the_socket_to_the_others() {
    let (_server, mut raw) = opened("forever", &[]).await;
    raw.json(&open(2, "test", "single", &json!({}), &["input"])).await;
    assert_eq!(raw.frames(4).await, ["success", "int 42", "close done", "close done of input"]);
    raw.json(&open(3, "test", "ints", &json!({}), &[])).await;
    assert_eq!(raw.frames(5).await, ["success", "int 1", "int 2", "int 3", "close done"]);
}

#[tokio::test]
async fn ws_62_and_63_the_first_value_of_an_input_is_returned_and_then_the_close() {
    let (_server, mut raw) = opened("first", &["input"]).await;
    raw.json(&value(1, "first", "input", "int", &json!(5))).await;
    assert_eq!(raw.frames(3).await, ["int 5", "close done", "close done of input"]);
}

#[tokio::test]
async fn ws_65_and_66_as_many_values_as_the_input_says() {
    let (_server, mut raw) = opened("count", &["input"]).await;
    raw.json(&value(1, "count", "input", "int", &json!(4))).await;
    assert_eq!(raw.frames(5).await, ["int 1", "int 2", "int 3", "int 4", "close done"]);
}

#[tokio::test]
async fn ws_67_to_75_every_class_is_echoed_and_then_the_close() {
    let (_server, mut raw) = opened("echo", &["input"]).await;
    let values = [
        ("int", json!(7)),
        ("String", json!("\"quoted\" and \u{1F600}")),
        ("SimpleData", json!({"num": 9})),
        ("null", json!(null)),
    ];
    for (class, data) in &values {
        let sent = value(1, "echo", "input", class, data);
        raw.json(&sent).await;
        assert_eq!(raw.next().await["data"]["o"], sent["data"]["o"]);
    }
    raw.json(&close(1, "echo", Some("input"), "done")).await;
    assert_eq!(raw.frames(1).await, ["close done"]);
    raw.silent().await;
}

#[tokio::test]
async fn ws_69_two_inputs_come_out_together() {
    let (_server, mut raw) = opened("union", &["first", "second"]).await;
    for (number, input) in [(1, "first"), (2, "second"), (3, "first"), (4, "second")] {
        raw.json(&value(1, "union", input, "int", &json!(number))).await;
    }
    let mut values = raw.frames(4).await;
    values.sort_unstable();
    assert_eq!(values, ["int 1", "int 2", "int 3", "int 4"]);
}

#[tokio::test]
async fn ws_77_and_78_a_method_without_a_value_closes_after_its_input() {
    let (_server, mut raw) = opened("nothing", &["input"]).await;
    raw.json(&value(1, "nothing", "input", "int", &json!(1))).await;
    raw.silent().await;
    raw.json(&close(1, "nothing", Some("input"), "done")).await;
    assert_eq!(raw.frames(1).await, ["close done"]);
}
