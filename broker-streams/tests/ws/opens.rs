//! Opening a call: what is checked, and in which order.

use broker_streams::{
    Args, Authenticated, Authenticator, Credentials, Endpoint, Failure, Incoming, Out, StreamsBuilder, method,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{MARKER, Raw, Server, open};

#[derive(Deserialize)]
struct Count {
    count: i64,
}

async fn counted(Args(Count { count }): Args<Count>, out: Out<i64>) -> Result<(), Failure> {
    for number in 0..count {
        out.send(number).await?;
    }
    Ok(())
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

async fn one(_input: Incoming<i64>) {
    std::future::pending::<()>().await;
}

async fn two(_first: Incoming<i64>, _second: Incoming<i64>) {
    std::future::pending::<()>().await;
}

/// Says whether the input is there.
async fn optional(input: Option<Incoming<i64>>, out: Out<bool>) -> Result<(), Failure> {
    out.send(input.is_some()).await?;
    std::future::pending().await
}

async fn plain() -> i64 {
    7
}

/// Knows one key, which has one scope.
struct Keys;

impl Authenticator for Keys {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        Ok(match credentials.secret() {
            "good" => Some(Authenticated::new("ada").with_scopes(["chat"])),
            "poor" => Some(Authenticated::new("bob")),
            "broken" => return Err(Failure::internal(MARKER)),
            "panic" => panic!("an authenticator that panics"),
            _ => None,
        })
    }
}

fn streams(streams: StreamsBuilder) -> StreamsBuilder {
    streams
        .authenticator(Keys)
        .endpoint(
            Endpoint::new("test")
                .method("counted", counted)
                .method("forever", forever)
                .method("one", method(one).inputs(["input"]))
                .method("two", method(two).inputs(["first", "second"]))
                .method("optional", method(optional).inputs(["input"]))
                .method("plain", plain),
        )
        .endpoint(Endpoint::new("private").requires_login().method("forever", forever))
        .endpoint(Endpoint::new("scoped").requires_scopes(["chat"]).method("forever", forever))
}

async fn connected() -> (Server, Raw) {
    let server = Server::start(streams).await;
    let raw = server.connect().await;
    (server, raw)
}

/// The outcome of one open.
async fn outcome(frame: &Value) -> String {
    let (_server, mut raw) = connected().await;
    raw.json(frame).await;
    raw.frames(1).await.remove(0)
}

fn with_auth(mut frame: Value, auth: &str) -> Value {
    frame["data"]["auth"] = json!(auth);
    frame
}

#[tokio::test]
async fn ws_14_a_method_without_streams_is_not_found() {
    assert_eq!(outcome(&open(1, "test", "plain", &json!({}), &[])).await, "endpointNotFound");
    assert_eq!(outcome(&open(1, "test", "nothing", &json!({}), &[])).await, "endpointNotFound");
    assert_eq!(outcome(&open(1, "nothing", "plain", &json!({}), &[])).await, "endpointNotFound");
}

#[tokio::test]
async fn ws_15_a_valid_open_succeeds() {
    let (_server, mut raw) = connected().await;
    raw.json(&open(1, "test", "forever", &json!({}), &[])).await;
    let expected = r#"{"type":"omsr","data":{"cid":"00000001-8f0a-4a8e-9a50-2f0c9f5f0a11","res":"success","en":"test","m":"forever"}}"#;
    assert_eq!(raw.next_text().await.as_deref(), Some(expected));
}

#[tokio::test]
async fn ws_16_a_missing_argument_is_told() {
    assert_eq!(outcome(&open(1, "test", "counted", &json!({}), &[])).await, "invalidArguments");
    assert_eq!(outcome(&open(1, "test", "counted", &json!({"count": "x"}), &[])).await, "invalidArguments");
    let mut no_json = open(1, "test", "counted", &json!({}), &[]);
    no_json["data"]["args"] = json!("{");
    assert_eq!(outcome(&no_json).await, "invalidArguments");
}

#[tokio::test]
async fn ws_18_with_the_argument_it_succeeds() {
    assert_eq!(outcome(&open(1, "test", "counted", &json!({"count": 1}), &[])).await, "success");
}

#[tokio::test]
async fn ws_19_with_its_input_it_succeeds() {
    assert_eq!(outcome(&open(1, "test", "one", &json!({}), &["input"])).await, "success");
}

#[tokio::test]
async fn ws_20_a_login_is_required() {
    assert_eq!(outcome(&open(1, "private", "forever", &json!({}), &[])).await, "authenticationFailed");
}

#[tokio::test]
async fn ws_21_wrong_credentials_are_refused() {
    let open = open(1, "private", "forever", &json!({}), &[]);
    assert_eq!(outcome(&with_auth(open, "Bearer wrong")).await, "authenticationFailed");
}

#[tokio::test]
async fn ws_22_a_missing_scope_is_declined() {
    let open = open(1, "scoped", "forever", &json!({}), &[]);
    assert_eq!(outcome(&with_auth(open, "Bearer poor")).await, "authorizationDeclined");
}

#[tokio::test]
async fn ws_23_enough_of_everything_succeeds() {
    let open = open(1, "scoped", "forever", &json!({}), &[]);
    assert_eq!(outcome(&with_auth(open.clone(), "Bearer good")).await, "success");
    assert_eq!(outcome(&with_auth(open, "Basic Z29vZA==")).await, "success");
}

#[tokio::test]
async fn ws_24_no_inputs_declared_and_none_named() {
    assert_eq!(outcome(&open(1, "test", "forever", &json!({}), &[])).await, "success");
}

#[tokio::test]
async fn ws_25_a_required_input_has_to_be_named() {
    assert_eq!(outcome(&open(1, "test", "one", &json!({}), &["input"])).await, "success");
    assert_eq!(outcome(&open(1, "test", "one", &json!({}), &[])).await, "invalidArguments");
}

#[tokio::test]
async fn ws_27_names_that_are_not_declared_are_ignored() {
    assert_eq!(outcome(&open(1, "test", "forever", &json!({}), &["other"])).await, "success");
    assert_eq!(outcome(&open(1, "test", "one", &json!({}), &["other", "input"])).await, "success");
    assert_eq!(outcome(&open(1, "test", "one", &json!({}), &["other"])).await, "invalidArguments");
}

#[tokio::test]
async fn ws_28_an_optional_input_that_is_named_is_there() {
    let (_server, mut raw) = connected().await;
    raw.json(&open(1, "test", "optional", &json!({}), &["input"])).await;
    assert_eq!(raw.frames(2).await, ["success", "bool true"]);
}

#[tokio::test]
async fn ws_30_only_the_known_optional_input_is_there() {
    let (_server, mut raw) = connected().await;
    raw.json(&open(1, "test", "optional", &json!({}), &["other"])).await;
    assert_eq!(raw.frames(2).await, ["success", "bool false"]);
}

#[tokio::test]
async fn ws_31_several_required_inputs_all_named() {
    assert_eq!(outcome(&open(1, "test", "two", &json!({}), &["second", "first"])).await, "success");
    assert_eq!(outcome(&open(1, "test", "two", &json!({}), &["second"])).await, "invalidArguments");
}

#[tokio::test]
async fn ws_81_a_raw_token_fails_where_the_format_is_checked() {
    let open = open(1, "private", "forever", &json!({}), &[]);
    assert_eq!(outcome(&with_auth(open, "good")).await, "authenticationFailed");
}

#[tokio::test]
async fn ws_82_a_raw_token_works_where_it_is_not() {
    let server = Server::start(|builder| streams(builder).any_credential_format()).await;
    let mut raw = server.connect().await;
    raw.json(&with_auth(open(1, "private", "forever", &json!({}), &[]), "good")).await;
    assert_eq!(raw.frames(1).await, ["success"]);
}

#[tokio::test]
async fn an_authenticator_that_fails_or_panics_refuses_its_call_alone() {
    let (_server, mut raw) = connected().await;
    raw.json(&open(1, "test", "forever", &json!({}), &[])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    for (number, token) in [(2, "Bearer broken"), (3, "Bearer panic")] {
        raw.json(&with_auth(open(number, "private", "forever", &json!({}), &[]), token)).await;
        assert_eq!(raw.frames(1).await, ["authenticationFailed"], "{token}");
    }
    raw.silent().await;
}
