//! Access: who a client is, and which endpoints it may use.

use broker::{Received, Revocation, Scope};
use broker_streams::{Any, Endpoint, Failure, Model, Peer, StreamingEndpoint};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    server::{Test, connect, echoed, hear, ignored, say, sign_in, who},
    support::Server,
};

#[tokio::test]
async fn lg_5_and_6_who_signs_in_and_connects_anew_is_accepted() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    ignored(&mut raw, "login").await;
    drop(raw);
    let mut raw = test.connect("ada").await;
    for number in 1..=3 {
        echoed(&mut raw, "login", number).await;
        echoed(&mut raw, "test", number).await;
    }
}

#[tokio::test]
async fn lg_8_without_the_scope_a_message_is_ignored() {
    let test = Test::start().await;
    for key in ["ada", "ada:other"] {
        let mut raw = test.connect(key).await;
        ignored(&mut raw, "admin").await;
    }
    assert_eq!(test.notes.count("admin opened"), 0);
}

#[tokio::test]
async fn lg_9_with_the_scope_it_is_handled() {
    let test = Test::start().await;
    let mut raw = test.connect("ada:admin").await;
    echoed(&mut raw, "admin", 1).await;
    assert_eq!(test.notes.count("admin opened"), 1);
}

#[tokio::test]
async fn lg_12_who_is_not_signed_in_is_ignored() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    ignored(&mut raw, "login").await;
    ignored(&mut raw, "admin").await;
}

#[tokio::test]
async fn lg_20_a_valid_key_signs_in() {
    let test = Test::start().await;
    let mut raw = test.connect("ada").await;
    assert_eq!(who(&mut raw).await.as_deref(), Some("ada"));
}

#[tokio::test]
async fn lg_21_and_23_an_invalid_key_does_not_and_messages_do_not_change_that() {
    let test = Test::start().await;
    let mut raw = test.connect("mallory").await;
    for _ in 0..3 {
        assert_eq!(who(&mut raw).await, None);
        ignored(&mut raw, "login").await;
    }
    assert_eq!(test.notes.count("asked at /websocket"), 1);
}

#[tokio::test]
async fn lg_37_without_an_authenticator_nobody_is_signed_in() {
    let test = Test::with(|streams, _| streams).await;
    let mut raw = test.connect("ada").await;
    assert_eq!(who(&mut raw).await, None);
    ignored(&mut raw, "login").await;
}

#[tokio::test]
async fn a_live_connection_signs_in_and_opens_nothing_twice() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    ignored(&mut raw, "login").await;
    sign_in(&mut raw, Some("ada")).await;
    assert_eq!(who(&mut raw).await.as_deref(), Some("ada"));
    echoed(&mut raw, "login", 1).await;
    ignored(&mut raw, "admin").await;
    sign_in(&mut raw, Some("ada:admin")).await;
    echoed(&mut raw, "admin", 1).await;
    for endpoint in ["test", "login", "admin", "module.test"] {
        assert_eq!(test.notes.count(&format!("{endpoint} opened")), 1, "{endpoint}");
    }
    // The session of the same user is the same one.
    assert_eq!(test.notes.count("login session over"), 0);
}

#[tokio::test]
async fn who_signs_out_or_is_another_loses_the_session_and_not_the_connection() {
    for (key, name) in [(None, None), (Some("mallory"), None), (Some("grace"), Some("grace"))] {
        let test = Test::start().await;
        let mut raw = test.connect("ada").await;
        say(&mut raw, "login", "keep").await;
        assert_eq!(who(&mut raw).await.as_deref(), Some("ada"));
        sign_in(&mut raw, key).await;
        assert_eq!(who(&mut raw).await.as_deref(), name);
        test.notes.wait("login session over").await;
        if name.is_none() {
            ignored(&mut raw, "login").await;
        }
    }
}

#[tokio::test]
async fn a_revocation_closes_the_connection() {
    for (revocation, keys) in [
        (Revocation::user("ada"), &["ada"][..]),
        (Revocation::auth_id("ada", "ada:admin"), &["ada:admin"]),
        (Revocation::scopes("ada", ["admin"]), &["ada:admin"]),
        // By the key of the connection, and by the one shown later.
        (Revocation::auth_id("ada", "ada"), &["ada", "ada:x"]),
        (Revocation::auth_id("ada", "ada:x"), &["ada", "ada:x"]),
        (Revocation::user("ada"), &["", "ada"]),
    ] {
        let test = Test::start().await;
        let mut raw = test.connect(keys[0]).await;
        echoed(&mut raw, "test", 1).await;
        for key in &keys[1..] {
            sign_in(&mut raw, Some(key)).await;
        }
        assert_eq!(who(&mut raw).await.as_deref(), Some("ada"));
        test.broker.revoke(revocation).await.unwrap();
        assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1008), "{keys:?}");
        test.notes.wait("test closed, sends: false").await;
    }
}

#[tokio::test]
async fn a_revocation_of_somebody_else_does_not() {
    let test = Test::start().await;
    let mut raw = test.connect("ada").await;
    echoed(&mut raw, "login", 1).await;
    // Who was here before is not here any more.
    sign_in(&mut raw, Some("grace")).await;
    assert_eq!(who(&mut raw).await.as_deref(), Some("grace"));
    test.broker.revoke(Revocation::user("ada")).await.unwrap();
    test.broker.revoke(Revocation::scopes("grace", ["admin"])).await.unwrap();
    echoed(&mut raw, "login", 2).await;
}

#[tokio::test]
async fn an_authentication_that_expires_closes_the_connection_unless_it_is_renewed() {
    let test = Test::start().await;
    let mut raw = test.connect("mayfly").await;
    assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1008));
    let mut raw = test.connect("").await;
    sign_in(&mut raw, Some("mayfly")).await;
    sign_in(&mut raw, Some("ada")).await;
    let mut other = test.connect("mayfly").await;
    assert!(other.closed().await.is_some(), "a later one is over");
    echoed(&mut raw, "login", 1).await;
}

#[derive(Clone, Serialize, Deserialize, Model)]
struct Said {
    text: String,
}

/// Sends what is said to all.
struct Chat;

impl StreamingEndpoint for Chat {
    type User = ();

    async fn stream_opened(&self, peer: &Peer) -> Result<(), Failure> {
        let forward = async |to: Peer, said: Received<Said>| drop(to.forward(&said).await);
        peer.session().add_listener_with("chat", peer.clone(), forward).await?;
        Ok(())
    }

    async fn handle_stream_message(&self, peer: &Peer, (): &mut (), message: Any) -> Result<(), Failure> {
        peer.session().post_message("chat", message.read::<Said>()?, Scope::Local).await?;
        Ok(())
    }
}

#[tokio::test]
async fn what_a_session_listens_to_reaches_its_client() {
    let server = Server::start(|streams| streams.endpoint(Endpoint::new("chat").streaming(Chat))).await;
    let url = server.url.replace("/v1/websocket", "/websocket");
    let (mut one, mut other) = (connect(&url).await, connect(&url).await);
    // Both are open once they have heard themselves.
    for raw in [&mut other, &mut one] {
        raw.json(&json!({"endpoint": "chat", "object": {"className": "Said", "data": {"text": "a"}}})).await;
        assert_eq!(hear(raw).await.1, json!({"text": "a"}));
    }
    assert_eq!(hear(&mut other).await.1, json!({"text": "a"}));
}
