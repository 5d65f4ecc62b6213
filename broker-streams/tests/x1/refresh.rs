//! New credentials for the calls of a socket.

use std::time::{Duration, SystemTime};

use broker::{Broker, Revocation};
use broker_streams::{Authenticated, Authenticator, Credentials, Endpoint, Failure, Out, Streams};
use serde_json::{Value, json};

use crate::support::{Raw, Server, id, open};

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

/// `user/key`, valid for a minute; with `brief` as the key for a tenth of a second.
struct Tokens;

impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        let Some((user, key)) = credentials.secret().split_once('/') else { return Ok(None) };
        let life = Duration::from_millis(if key == "brief" { 100 } else { 60_000 });
        let who = Authenticated::new(user).with_auth_id(key).until(SystemTime::now() + life);
        Ok(Some(if key == "poor" { who } else { who.with_scopes(["chat"]) }))
    }
}

async fn opened(token: &str) -> (Broker, Server, Raw) {
    let broker = broker::connect("memory:").await.unwrap();
    let private = Endpoint::new("private").requires_scopes(["chat"]).method("forever", forever);
    let public = Endpoint::new("test").method("forever", forever);
    let streams = Streams::builder(broker.clone()).authenticator(Tokens).endpoint(private).endpoint(public);
    let server = Server::serve(streams.build().unwrap(), "127.0.0.1:0").await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open(2, "test", "forever", &json!({}), &[])).await;
    let mut frame = open(1, "private", "forever", &json!({}), &[]);
    frame["data"]["auth"] = json!(format!("Bearer {token}"));
    raw.json(&frame).await;
    assert_eq!(raw.frames(2).await, ["success", "success"]);
    (broker, server, raw)
}

async fn refresh(raw: &mut Raw, token: &str) -> Value {
    raw.json(&json!({"type": "auth", "data": {"auth": format!("Bearer {token}")}})).await;
    let answer = raw.next().await;
    assert_eq!(answer["type"], "authr", "{answer}");
    answer["data"].clone()
}

/// The end of the private call, and why.
async fn end(raw: &mut Raw) -> Value {
    let frame = raw.next().await;
    assert_eq!((&frame["type"], &frame["data"]["cid"]), (&json!("cmsc"), &json!(id(1))), "{frame}");
    frame["data"]["why"]["c"].clone()
}

#[tokio::test]
async fn a_call_lasts_as_long_as_the_new_credentials() {
    let (broker, _server, mut raw) = opened("ada/brief").await;
    let answer = refresh(&mut raw, "ada/second").await;
    assert_eq!(answer["res"], "success");
    assert!(answer["until"].as_u64().is_some());
    // The first ones would have expired by now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    raw.silent().await;
    // They count for a revocation, too.
    broker.revoke(Revocation::auth_id("ada", "second")).await.unwrap();
    assert_eq!(end(&mut raw).await, "revoked");
    raw.silent().await;
}

#[tokio::test]
async fn calls_of_another_user_end_and_anonymous_ones_go_on() {
    let (_broker, _server, mut raw) = opened("ada/first").await;
    assert_eq!(refresh(&mut raw, "bob/first").await["res"], "success");
    assert_eq!(end(&mut raw).await, "identity");
    raw.silent().await;
}

#[tokio::test]
async fn a_call_whose_scope_is_gone_ends() {
    let (_broker, _server, mut raw) = opened("ada/first").await;
    assert_eq!(refresh(&mut raw, "ada/poor").await["res"], "success");
    assert_eq!(end(&mut raw).await, "identity");
}

#[tokio::test]
async fn wrong_credentials_change_nothing() {
    let (broker, _server, mut raw) = opened("ada/first").await;
    assert_eq!(refresh(&mut raw, "nobody").await, json!({"res": "authenticationFailed"}));
    raw.silent().await;
    broker.revoke(Revocation::auth_id("ada", "first")).await.unwrap();
    assert_eq!(end(&mut raw).await, "revoked");
}
