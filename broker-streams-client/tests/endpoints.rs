//! The client of legacy streaming endpoints, against a server that does what a test says.
#![cfg(feature = "endpoints")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use broker_streams_client::{CallError, Endpoints, EndpointsBuilder, StreamingStatus};
use serde_json::{Value, json};
use support::{Peer, Server, connector, within};
use tokio::time::Instant;

fn client() -> (Server, EndpointsBuilder) {
    let (server, connect) = connector();
    (server, Endpoints::builder("ws://server/websocket").connector(connect))
}

/// The next connection, met as a legacy server does.
async fn met(server: &mut Server) -> Peer {
    let mut peer = server.accept().await;
    let first: Value = serde_json::from_str(&peer.text().await.unwrap()).unwrap();
    assert_eq!(first, json!({"command": "ping", "args": {}}));
    peer.send(json!({"command": "pong"})).await;
    peer
}

fn message(endpoint: &str, value: i64) -> Value {
    json!({"endpoint": endpoint, "object": {"className": "int", "data": value}})
}

/// Connects in a task of its own.
async fn connected(server: &mut Server, client: &Endpoints) -> Peer {
    let connecting = client.clone();
    let connecting = tokio::spawn(async move { connecting.open_streaming_connection().await });
    let peer = met(server).await;
    within(connecting).await.unwrap().unwrap();
    peer
}

#[tokio::test(start_paused = true)]
async fn lg_1_lg_3_lg_14_messages_go_both_ways_in_order_by_endpoint() {
    let (mut server, builder) = client();
    let client = builder.build().unwrap();
    let (mut plain, mut module) = (client.stream("echo"), client.stream("module.echo"));
    assert!(matches!(within(client.send_stream_message("echo", &1_i64)).await, Err(CallError::SocketLost)));
    let mut peer = connected(&mut server, &client).await;
    for number in 1..=3_i64 {
        within(client.send_stream_message("echo", &number)).await.unwrap();
        within(client.send_stream_message("module.echo", &(number * 10))).await.unwrap();
    }
    for _ in 0..6 {
        let sent = peer.read().await;
        peer.send(sent).await;
    }
    for number in 1..=3_i64 {
        assert_eq!(within(plain.next()).await.unwrap().read::<i64>().unwrap(), number);
        assert_eq!(within(module.next()).await.unwrap().read::<i64>().unwrap(), number * 10);
    }
    peer.send(json!({"command": "ping", "args": {}})).await;
    assert_eq!(peer.read().await, json!({"command": "pong"}));
}

#[tokio::test(start_paused = true)]
async fn lg_20_the_key_is_in_the_address_and_lg_5_shown_anew_on_a_live_connection() {
    let (mut server, builder) = client();
    let key = Arc::new(Mutex::new("a key&more"));
    let provider = {
        let key = Arc::clone(&key);
        move || {
            let key = (*key.lock().unwrap()).to_owned();
            async move { Some(key) }
        }
    };
    let client = builder.credentials(provider).build().unwrap();
    let mut peer = connected(&mut server, &client).await;
    assert_eq!(peer.uri, "/websocket?auth=a%20key%26more");
    *key.lock().unwrap() = "another";
    within(client.authenticate_again()).await.unwrap();
    assert_eq!(peer.read().await, json!({"command": "auth", "args": {"key": "another"}}));
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_after_five_seconds_and_the_status_counts_them() {
    let (mut server, builder) = client();
    let client = builder.build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seeing = Arc::clone(&seen);
    client.on_status(move |status| seeing.lock().unwrap().push(status)).unwrap();
    let mut stream = client.stream("echo");
    let mut peer = connected(&mut server, &client).await;
    peer.send(message("echo", 1)).await;
    let began = Instant::now();
    peer.ws.close(None).await.unwrap();
    let mut peer = met(&mut server).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    peer.send(message("echo", 2)).await;
    assert_eq!(within(stream.next()).await.unwrap().read::<i64>().unwrap(), 1);
    assert!(matches!(within(stream.next()).await, Err(CallError::Restarted)));
    assert_eq!(within(stream.next()).await.unwrap().read::<i64>().unwrap(), 2);
    let waits = (1..=5)
        .rev()
        .map(|seconds| StreamingStatus::WaitingToRetry { retry_in: Duration::from_secs(seconds) });
    let mut expected = vec![StreamingStatus::Connecting, StreamingStatus::Connected];
    expected.extend(waits);
    expected.extend([StreamingStatus::Connecting, StreamingStatus::Connected]);
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn lg_11_a_closed_client_is_disconnected_and_connects_again_when_asked_to() {
    let (mut server, builder) = client();
    let client = builder.build().unwrap();
    let mut peer = connected(&mut server, &client).await;
    client.close_streaming_connection();
    assert!(peer.text().await.is_none());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.status(), StreamingStatus::Disconnected);
    let mut stream = client.stream("echo");
    let mut peer = connected(&mut server, &client).await;
    peer.send(message("echo", 1)).await;
    assert_eq!(within(stream.next()).await.unwrap().read::<i64>().unwrap(), 1);
    drop(client);
    peer.send(message("echo", 2)).await;
    assert_eq!(within(stream.next()).await.unwrap().read::<i64>().unwrap(), 2);
    drop(stream);
    assert!(peer.text().await.is_none(), "the last handle ends the task");
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_first_failure_is_told_and_a_silent_server_has_five_seconds() {
    let (mut server, builder) = client();
    let client = builder.retry_every(None).build().unwrap();
    server.refuse(true);
    let refused = within(client.open_streaming_connection()).await;
    assert!(matches!(refused, Err(CallError::ConnectFailed(_))), "{refused:?}");
    server.refuse(false);
    let began = Instant::now();
    let connecting = client.clone();
    let connecting = tokio::spawn(async move { connecting.open_streaming_connection().await });
    let peer = server.accept().await;
    assert!(matches!(within(connecting).await.unwrap(), Err(CallError::ConnectTimedOut)));
    assert_eq!(began.elapsed().as_secs(), 5);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_finds_a_gap_and_then_the_latest() {
    let (mut server, builder) = client();
    let client = builder.build().unwrap();
    let mut stream = client.stream("echo");
    let mut peer = connected(&mut server, &client).await;
    const COUNT: i64 = 20_000;
    for number in 0..COUNT {
        peer.send(message("echo", number)).await;
    }
    peer.send(json!({"command": "ping", "args": {}})).await;
    peer.read().await;
    let gap = within(stream.next()).await.unwrap_err();
    let CallError::Gap { missed: Some(missed), .. } = gap else { panic!("{gap:?}") };
    for number in i64::try_from(missed).unwrap()..COUNT {
        assert_eq!(within(stream.next()).await.unwrap().read::<i64>().unwrap(), number);
    }
    assert!(missed > 1000, "{missed}");
}
