//! Credentials: where they are shown, and when they are asked for again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use broker_streams_client::{CallError, Client, Credentials, OpenResult, ProviderError};

use crate::{
    open,
    support::{server, within},
};

#[tokio::test(start_paused = true)]
async fn cl_75_no_credentials_are_in_the_address() {
    let (mut server, builder) = server();
    let client = builder.credentials(|| async { Some("Bearer secret".to_owned()) }).build().unwrap();
    let _opening = open(&client, "a");
    let mut peer = server.plain().await;
    assert_eq!(peer.opening().await.data["auth"], "Bearer secret");
    assert_eq!(peer.uri, "/v1/websocket");
    let refused = Client::builder("ws://user:secret@server/").build().unwrap_err().to_string();
    assert!(!refused.contains("secret"), "{refused}");
}

/// Credentials of a number, and how a refresh goes.
struct Numbered {
    asked: Arc<AtomicUsize>,
    refreshed: Arc<AtomicUsize>,
    refresh: Result<bool, ()>,
}

impl Credentials for Numbered {
    async fn credentials(&self) -> Result<Option<String>, ProviderError> {
        Ok(Some(format!("Bearer {}", self.asked.fetch_add(1, Ordering::SeqCst))))
    }

    async fn refresh(&self) -> Result<bool, ProviderError> {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
        self.refresh.map_err(|()| "no".into())
    }
}

fn numbered(refresh: Result<bool, ()>) -> (Numbered, Arc<AtomicUsize>) {
    let refreshed = Arc::new(AtomicUsize::new(0));
    (Numbered { asked: Arc::default(), refreshed: Arc::clone(&refreshed), refresh }, refreshed)
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_tried_once_more_after_a_refresh() {
    for second in ["success", "authenticationFailed"] {
        let (mut server, builder) = server();
        let (provider, refreshed) = numbered(Ok(true));
        let client = builder.credentials(provider).build().unwrap();
        let opening = open(&client, "a");
        let mut peer = server.plain().await;
        let call = peer.opening().await;
        assert_eq!(call.data["auth"], "Bearer 0");
        peer.answer(&call, "authenticationFailed").await;
        let call = peer.opening().await;
        assert_eq!(call.data["auth"], "Bearer 1");
        peer.answer(&call, second).await;
        let opened = within(opening).await.unwrap();
        match second {
            "success" => drop(opened.unwrap()),
            _ => assert!(matches!(opened, Err(CallError::Refused(OpenResult::AuthenticationFailed)))),
        }
        assert_eq!(refreshed.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn cl_77_cl_80_without_a_refresh_the_first_refusal_counts() {
    for refresh in [Ok(false), Err(())] {
        let (mut server, builder) = server();
        let (provider, refreshed) = numbered(refresh);
        let client = builder.credentials(provider).build().unwrap();
        let opening = open(&client, "a");
        let mut peer = server.plain().await;
        let call = peer.opening().await;
        peer.answer(&call, "authenticationFailed").await;
        let refused = within(opening).await.unwrap();
        assert!(matches!(refused, Err(CallError::Refused(OpenResult::AuthenticationFailed))));
        assert_eq!(refreshed.load(Ordering::SeqCst), 1);
        assert!(peer.frame().await.is_none(), "no second opening");
    }
}

#[tokio::test(start_paused = true)]
async fn cl_78_cl_82_neither_a_success_nor_another_refusal_is_tried_again() {
    for result in ["success", "endpointNotFound", "authorizationDeclined", "invalidArguments"] {
        let (mut server, builder) = server();
        let (provider, refreshed) = numbered(Ok(true));
        let client = builder.credentials(provider).build().unwrap();
        let opening = open(&client, "a");
        let mut peer = server.plain().await;
        let call = peer.opening().await;
        peer.answer(&call, result).await;
        let opened = within(opening).await.unwrap();
        assert_eq!(opened.is_ok(), result == "success");
        if let Err(error) = opened {
            assert!(matches!(error, CallError::Refused(refused) if refused.as_str() == result));
        }
        assert_eq!(refreshed.load(Ordering::SeqCst), 0);
    }
}
