//! Callbacks of the application that panic, when they are called, polled or dropped.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use broker_streams_client::{CallError, Client, Credentials, Event, ProviderError, Status};
use serde_json::json;
use tokio::io::DuplexStream;

use crate::{
    open,
    support::{server, within},
};

/// Panics where it is told to, when it is asked or dropped: the second to the fourth time.
#[derive(Clone)]
pub(crate) struct Panics {
    pub(crate) asked: Arc<AtomicUsize>,
    pub(crate) at: &'static str,
}

struct PanicsInDrop(bool);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(!self.0, "a panic of the application in a drop");
    }
}

impl Credentials for Panics {
    async fn credentials(&self) -> Result<Option<String>, ProviderError> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let is_well = !(1..4).contains(&asked);
        assert!(is_well || self.at != "credentials", "a panic of the application");
        if !is_well && self.at == "drop" {
            let _bomb = PanicsInDrop(true);
            std::future::pending::<()>().await;
        }
        Ok(Some("Bearer a".to_owned()))
    }

    async fn refresh(&self) -> Result<bool, ProviderError> {
        assert!(self.at != "refresh", "a panic of the application");
        Ok(false)
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_of_credentials_that_panics_fails_its_call_alone() {
    for at in ["credentials", "refresh", "drop"] {
        let (mut server, builder) = server();
        let provider = Panics { asked: Arc::default(), at };
        let client = builder.credentials(provider).build().unwrap();
        let first = open(&client, "a");
        let mut peer = server.x1(64).await;
        let other = peer.opened().await;
        let mut first = within(first).await.unwrap().unwrap();
        let second = open(&client, "b");
        if at == "refresh" {
            let opening = peer.opening().await;
            peer.answer(&opening, "authenticationFailed").await;
        }
        let failed = within(second).await.unwrap().err();
        match at {
            "refresh" => assert!(matches!(failed, Some(CallError::Refused(_))), "{failed:?}"),
            _ => assert!(matches!(failed, Some(CallError::Credentials)), "{at}: {failed:?}"),
        }
        peer.send(other.int(7)).await;
        assert_eq!(within(first.next()).await.unwrap().unwrap(), 7, "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_when_calls_are_resumed_lets_them_begin_anew() {
    let (mut server, builder) = server();
    let client = builder.credentials(Panics { asked: Arc::default(), at: "credentials" }).build().unwrap();
    let call = client.call("numbers", "a").resume();
    let opening = tokio::spawn(call.open::<i64>());
    let mut peer = server.x1(64).await;
    let call = peer.opening().await;
    peer.answer_with(&call, json!({"t": "t"})).await;
    let mut events = within(opening).await.unwrap().unwrap().events();
    peer.send(call.int(7)).await;
    assert_eq!(within(events.next()).await.unwrap().unwrap(), Event::Value(7));
    peer.wire.cut();
    let mut peer = server.x1(64).await;
    // It is asked again, with growing waits.
    let call = peer.opened().await;
    peer.send(call.int(8)).await;
    for expected in [Event::Restarted, Event::Value(8)] {
        assert_eq!(within(events.next()).await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_is_an_attempt_that_failed() {
    let when_called =
        Client::builder("ws://server/").connector(|| -> std::future::Ready<io::Result<DuplexStream>> {
            panic!("a panic of the application")
        });
    let when_polled = Client::builder("ws://server/")
        .connector(|| async { Err::<DuplexStream, _>(io::Error::other(panic_of("the application"))) });
    for builder in [when_called, when_polled] {
        let client = builder.build().unwrap();
        for _ in 0..2 {
            let failed = within(client.call("a", "b").void()).await;
            assert!(matches!(failed, Err(CallError::ConnectFailed(_))), "{failed:?}");
        }
        assert!(matches!(client.status(), Status::Disconnected { why: Some(CallError::ConnectFailed(_)) }));
    }
}

fn panic_of(what: &str) -> String {
    panic!("a panic of {what}")
}
