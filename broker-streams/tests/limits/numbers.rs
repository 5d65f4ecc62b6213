//! Each number at its limit, and one beyond.

use std::time::Duration;

use broker_streams::{
    Authenticated, Authenticator, Credentials, Endpoint, Failure, Incoming, Limits, Out, StreamsBuilder, Who,
    method,
};
use serde_json::{Value, json};

use crate::{
    extended::open_with,
    support::{Raw, Server, close, id, open, value},
};

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

async fn held(input: Incoming<i64>) {
    let _held = input;
    std::future::pending::<()>().await;
}

/// Adds ten values.
async fn sum(mut input: Incoming<i64>) -> Result<i64, Failure> {
    let mut sum = 0;
    for _ in 0..10 {
        sum += input.next().await.ok_or("no value")??;
    }
    Ok(sum)
}

async fn echo(mut input: Incoming<i64>, out: Out<i64>) -> Result<(), Failure> {
    while let Some(item) = input.next().await {
        out.send(item?).await?;
    }
    Ok(())
}

async fn long(out: Out<String>) -> Result<(), Failure> {
    out.send("x".repeat(5000)).await?;
    Ok(())
}

/// Never answers.
struct Silent;

impl Authenticator for Silent {
    async fn authenticate(&self, _: Credentials) -> Result<Option<Authenticated>, Failure> {
        std::future::pending().await
    }
}

fn build(streams: StreamsBuilder) -> StreamsBuilder {
    let test = Endpoint::new("test")
        .method("forever", forever)
        .method("kept", method(forever).resumable())
        .method("long", long)
        .method("echo", method(echo).inputs(["input"]))
        .method("sum", method(sum).inputs(["input"]));
    streams
        .authenticator(Silent)
        .endpoint(test.method("held", method(held).inputs(["input"])))
        .endpoint(Endpoint::new("private").requires_login().method("forever", forever))
}

async fn limited(change: impl FnOnce(&mut Limits)) -> Server {
    let mut limits = Limits::default();
    change(&mut limits);
    Server::start(|streams| build(streams).limits(limits)).await
}

fn forever_as(number: u32) -> Value {
    open(number, "test", "forever", &json!({}), &[])
}

#[tokio::test]
async fn one_call_more_than_a_socket_may_have_is_opened_and_closed() {
    let server = limited(|limits| limits.calls_per_socket = 3).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    for number in 1..=3 {
        raw.json(&forever_as(number)).await;
        assert_eq!(raw.frames(1).await, ["success"]);
    }
    raw.json(&forever_as(4)).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    assert_eq!(raw.next().await["data"]["why"], json!({"c": "overloaded", "again": "now"}));
    // One that ends makes room.
    raw.json(&close(1, "forever", None, "done")).await;
    raw.silent().await;
    raw.json(&forever_as(5)).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    raw.silent().await;
}

#[tokio::test]
async fn one_input_more_than_a_call_may_have_is_an_invalid_argument() {
    let server = limited(|limits| limits.inputs_per_call = 2).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "held", &json!({}), &["input", "b"])).await;
    raw.json(&open(2, "test", "held", &json!({}), &["input", "b", "c"])).await;
    let mut outcomes = raw.frames(2).await;
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["invalidArguments", "success"]);
}

#[tokio::test]
async fn a_frame_may_have_so_many_bytes_and_no_more() {
    let server = limited(|limits| limits.frame_bytes = 1000).await;
    let mut raw = server.connect().await;
    let ping = r#"{"type":"ping"}"#;
    raw.text(format!("{ping}{}", " ".repeat(1000 - ping.len()))).await;
    assert_eq!(raw.next_text().await.as_deref(), Some(r#"{"type":"pong"}"#));
    raw.text(format!("{ping}{}", " ".repeat(1001 - ping.len()))).await;
    assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1009));
}

#[tokio::test]
async fn a_long_value_goes_out_whatever_the_limits_are() {
    let server = limited(|limits| (limits.unwritten_bytes, limits.window_bytes) = (1, 1)).await;
    for extended in [false, true] {
        let mut raw = if extended { Raw::extended(&server.url).await.0 } else { server.connect().await };
        raw.json(&open(1, "test", "long", &json!({}), &[])).await;
        assert_eq!(raw.frames(1).await, ["success"]);
        assert_eq!(raw.next().await["data"]["o"]["data"].as_str().map(str::len), Some(5000));
        assert_eq!(raw.frames(1).await, ["close done"]);
    }
}

#[tokio::test]
async fn one_socket_more_is_refused() {
    let server = limited(|limits| limits.sockets = 2).await;
    let (one, _other) = (server.connect().await, server.connect().await);
    let refused = tokio_tungstenite::connect_async(&server.url).await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    drop(one);
    crate::support::soon("room", async {
        while server.streams.sockets() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.connect().await.silent().await;
}

#[tokio::test]
async fn a_socket_on_which_nothing_comes_is_closed() {
    let server = limited(|limits| limits.first_frame = Duration::from_millis(20)).await;
    let mut raw = server.connect().await;
    assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1008));
}

#[tokio::test]
async fn an_authenticator_that_does_not_answer_refuses_its_call_and_delays_no_other() {
    let server = limited(|limits| limits.authenticate = Duration::from_millis(300)).await;
    let mut raw = server.connect().await;
    let mut slow = open(1, "private", "forever", &json!({}), &[]);
    slow["data"]["auth"] = json!("Bearer x");
    raw.json(&slow).await;
    raw.json(&forever_as(2)).await;
    assert_eq!(raw.frames(2).await, ["success", "authenticationFailed"]);
}

#[tokio::test]
async fn while_so_many_calls_are_being_opened_the_socket_is_not_read() {
    let server =
        limited(|limits| (limits.opens, limits.authenticate) = (2, Duration::from_millis(100))).await;
    let mut raw = server.connect().await;
    for number in 1..=2 {
        let mut slow = open(number, "private", "forever", &json!({}), &[]);
        slow["data"]["auth"] = json!("Bearer x");
        raw.json(&slow).await;
    }
    raw.json(&forever_as(3)).await;
    // The answer comes when one of the two has timed out.
    let outcomes = raw.frames(3).await;
    assert_eq!(outcomes[0], "authenticationFailed");
    assert!(outcomes.contains(&"success".to_owned()), "{outcomes:?}");
}

#[tokio::test]
async fn values_sent_before_the_answer_reach_the_method() {
    let server = limited(|_| {}).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "sum", &json!({}), &["input"])).await;
    for number in 0..10 {
        raw.json(&value(1, "sum", "input", "int", &json!(number))).await;
    }
    assert_eq!(raw.frames(4).await, ["success", "int 45", "close done", "close done of input"]);
}

#[tokio::test]
async fn a_deadline_of_the_server_counts_if_it_is_shorter() {
    let server = limited(|limits| limits.call_life = Some(Duration::from_millis(20))).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open_with(1, "forever", &[], &json!({"d": 3_600_000}))).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    assert_eq!(raw.next().await["data"]["why"]["c"], "deadline");
}

#[tokio::test]
async fn a_call_of_which_nothing_is_heard_ends_and_another_goes_on() {
    let server = limited(|limits| limits.call_idle = Some(Duration::from_secs(1))).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open_with(1, "forever", &[], &json!({}))).await;
    raw.json(&open_with(2, "echo", &["input"], &json!({}))).await;
    assert_eq!(raw.frames(2).await, ["success", "success"]);
    // What the server says of windows is of no interest here.
    async fn next(raw: &mut Raw) -> Value {
        loop {
            let frame = raw.next().await;
            if frame["type"] != "flow" {
                return frame;
            }
        }
    }
    let mut number = 0;
    let ended = loop {
        number += 1;
        raw.json(&value(2, "echo", "input", "int", &json!(number))).await;
        let frame = next(&mut raw).await;
        if frame["type"] == "cmsc" {
            break frame;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&ended["data"]["cid"], &ended["data"]["why"]["c"]), (&json!(id(1)), &json!("deadline")));
    assert_eq!(next(&mut raw).await["data"]["o"]["data"], number);
    // Then nothing is heard of this one.
    let ended = next(&mut raw).await;
    assert_eq!((&ended["data"]["cid"], &ended["data"]["why"]["c"]), (&json!(id(2)), &json!("deadline")));
}

#[tokio::test]
async fn a_client_that_resumes_a_call_is_heard() {
    let server = limited(|limits| limits.call_idle = Some(Duration::from_secs(2))).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open_with(1, "kept", &[], &json!({"r": true}))).await;
    let mut token = raw.next().await["data"]["x"]["t"].clone();
    // For longer than the call may be idle.
    for count in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (raw, _) = Raw::extended(&server.url).await;
        raw.json(&json!({"type": "rsm", "data": {"calls": [{"cid": id(1), "t": token}]}})).await;
        let answer = raw.next().await;
        let call = &answer["data"]["calls"][0];
        assert_eq!(call["ok"], true, "at {count}");
        token = call["t"].clone();
    }
    // Twice: answers go before the end of a call.
    raw.silent().await;
    raw.silent().await;
}

#[tokio::test]
async fn times_without_end_serve_as_any_other() {
    let server = limited(|limits| {
        (limits.silence, limits.ping, limits.stall) = (Duration::MAX, Duration::MAX, Duration::MAX);
        (limits.first_frame, limits.hold) = (Duration::MAX, Duration::MAX);
        (limits.call_life, limits.call_idle) = (Some(Duration::MAX), Some(Duration::MAX));
    })
    .await;
    server.connect().await.silent().await;
}

#[test]
fn limits_with_which_nothing_works_are_refused() {
    let refusals: [(fn(&mut Limits), _); 5] = [
        (|limits| limits.window = 0, "the limit `window` is too small: set it to 1 or more"),
        (|limits| limits.frame_bytes = 255, "the limit `frame_bytes` is too small: set it to 256 or more"),
        (
            |limits| limits.stall = Duration::ZERO,
            "the limit `stall` is too small: set it to a millisecond or more",
        ),
        (
            |limits| limits.call_life = Some(Duration::ZERO),
            "the limit `call_life` is too small: set it to a millisecond or more",
        ),
        (
            |limits| limits.call_idle = Some(Duration::ZERO),
            "the limit `call_idle` is too small: set it to a millisecond or more",
        ),
    ];
    for (change, said) in refusals {
        let mut limits = Limits::default();
        change(&mut limits);
        let broker = broker::Broker::local();
        let refused = broker_streams::Streams::builder(broker).limits(limits).build().unwrap_err();
        assert_eq!(refused.to_string(), said);
    }
    let streams = broker_streams::Streams::builder(broker::Broker::local());
    let refused = streams.sockets_per_address(0, |_, _| None).build().unwrap_err();
    assert_eq!(refused.to_string(), "`sockets_per_address` lets no socket in: set it to 1 or more");
}

async fn whose(_: Who) {}

#[test]
fn what_would_be_wrong_at_every_call_is_refused() {
    let login = || Endpoint::new("private").requires_login().method("forever", forever);
    type Change = fn(StreamsBuilder) -> StreamsBuilder;
    let refusals: [(Change, _); 4] = [
        (
            |streams| streams.allow_origins(["app.example.org"]),
            "the origin \"app.example.org\" matches no page",
        ),
        (
            |streams| streams.allow_origins(["https://a.example.org", "https://b.example.org/"]),
            "the origin \"https://b.example.org/\" matches no page",
        ),
        (
            |streams| streams.endpoint(Endpoint::new("test").method("whose", whose)),
            "the method `test.whose` takes `Who`, and its endpoint requires no login",
        ),
        (
            |streams| streams.endpoint(Endpoint::new("test").method("sum", method(sum))),
            "the method `test.sum` takes 1 input, and names 0: name each",
        ),
    ];
    let streams = || broker_streams::Streams::builder(broker::Broker::local());
    for (change, said) in refusals {
        let refused = change(streams()).build().unwrap_err().to_string();
        assert!(refused.starts_with(said), "{refused}");
    }
    let refused = streams().endpoint(login()).build().unwrap_err().to_string();
    assert!(
        refused.ends_with("requires a login, and there is no authenticator: call `authenticator`"),
        "{refused}"
    );
    let fits = streams().allow_origins(["https://a.example.org", "http://[::1]:8080"]).authenticator(Silent);
    fits.endpoint(login().method("whose", whose)).build().unwrap();
}
