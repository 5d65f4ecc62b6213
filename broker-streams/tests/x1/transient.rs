//! What the broker cannot do now, and tokens that are dated.

use std::time::{Duration, SystemTime};

use broker::{Options, Revocation, Scope};
use broker_streams::{
    Authenticated, Authenticator, Call, Credentials, Endpoint, Failure, Out, Streams, StreamsBuilder,
};
use serde_json::{Value, json};

use crate::support::{Raw, Server, open};

/// `user` or `user/old`: a token that was issued an hour ago.
struct Tokens;

impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        let hour = Duration::from_secs(3600);
        Ok(Some(match credentials.secret().strip_suffix("/old") {
            Some(user) => Authenticated::new(user).issued(SystemTime::now() - hour),
            None => Authenticated::new(credentials.secret()),
        }))
    }
}

async fn posts(call: Call, _out: Out<i64>) -> Result<(), Failure> {
    call.session().post("news", "text", Scope::Global).await?;
    Ok(())
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

fn build(streams: StreamsBuilder) -> StreamsBuilder {
    streams
        .authenticator(Tokens)
        .endpoint(Endpoint::new("test").method("posts", posts))
        .endpoint(Endpoint::new("private").requires_login().method("forever", forever))
}

fn signed_in(token: &str) -> Value {
    let mut frame = open(1, "private", "forever", &json!({}), &[]);
    frame["data"]["auth"] = json!(format!("Bearer {token}"));
    frame
}

#[tokio::test]
async fn what_the_broker_cannot_do_now_may_be_called_again() {
    // Nobody listens on this port: the backend is not there.
    let mut options = Options::default();
    options.subscribe_timeout = Duration::from_millis(50);
    let broker = broker::open("redis://127.0.0.1:1", options).unwrap();
    let server = Server::serve(build(Streams::builder(broker)).build().unwrap(), "127.0.0.1:0").await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    for frame in [signed_in("ada"), open(1, "test", "posts", &json!({}), &[])] {
        raw.json(&frame).await;
        assert_eq!(raw.frames(1).await, ["success"]);
        assert_eq!(raw.next().await["data"]["why"], json!({"c": "overloaded", "again": 1000}));
    }
}

#[tokio::test]
async fn a_token_from_before_a_revocation_stays_revoked() {
    let broker = broker::connect("memory:").await.unwrap();
    let server = Server::serve(build(Streams::builder(broker.clone())).build().unwrap(), "127.0.0.1:0").await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    broker.revoke(Revocation::user("ada")).await.unwrap();
    raw.json(&signed_in("ada/old")).await;
    assert_eq!(raw.frames(1).await, ["authenticationFailed"]);
    raw.json(&signed_in("ada")).await;
    assert_eq!(raw.frames(1).await, ["success"]);
}
