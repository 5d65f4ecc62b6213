//! The same for the client of legacy endpoints.

use std::sync::Arc;

use broker_streams_client::{CallError, Endpoints, StreamingStatus};
use serde_json::json;

use crate::{
    callbacks::Panics,
    support::{Peer, Server, connector, within},
};

async fn met(server: &mut Server) -> Peer {
    let mut peer = server.accept().await;
    peer.text().await.unwrap();
    peer.send(json!({"command": "pong"})).await;
    peer
}

#[tokio::test(start_paused = true)]
async fn a_server_that_pings_and_does_not_read_is_answered_within_a_bound() {
    let (mut server, connect) = connector();
    let client = Endpoints::builder("ws://server/websocket").connector(connect).build().unwrap();
    let mut stream = client.stream("test");
    let connecting = client.clone();
    let connecting = tokio::spawn(async move { connecting.open_streaming_connection().await });
    let mut peer = met(&mut server).await;
    within(connecting).await.unwrap().unwrap();
    for _ in 0..5000 {
        peer.send(json!({"command": "ping", "args": {}})).await;
    }
    peer.send(json!({"endpoint": "test", "object": {"className": "int", "data": 7}})).await;
    assert_eq!(within(stream.next()).await.unwrap().read::<i64>().unwrap(), 7);
    client.close_streaming_connection();
    let mut pongs = 0;
    while peer.text().await.is_some() {
        pongs += 1;
    }
    assert!((64..2000).contains(&pongs), "{pongs}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_is_an_attempt_that_failed() {
    let (mut server, connect) = connector();
    let provider = Panics { asked: Arc::default(), at: "credentials" };
    let client =
        Endpoints::builder("ws://server/websocket").connector(connect).credentials(provider).build().unwrap();
    let connecting = client.clone();
    let connecting = tokio::spawn(async move { connecting.open_streaming_connection().await });
    let mut peer = met(&mut server).await;
    within(connecting).await.unwrap().unwrap();
    // On the live connection nothing is shown, and it goes on.
    within(client.authenticate_again()).await.unwrap();
    let mut stream = client.stream("test");
    peer.send(json!({"endpoint": "test", "object": {"className": "int", "data": 7}})).await;
    assert_eq!(within(stream.next()).await.unwrap().read::<i64>().unwrap(), 7);
    drop(peer);
    let _peer = met(&mut server).await;
    assert!(matches!(within(stream.next()).await, Err(CallError::Restarted)));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_ends_alone() {
    let (mut server, connect) = connector();
    let client = Endpoints::builder("ws://server/websocket").connector(connect).build().unwrap();
    client.on_status(|_| panic!("a panic of the application")).unwrap();
    let connecting = client.clone();
    let connecting = tokio::spawn(async move { connecting.open_streaming_connection().await });
    let _peer = met(&mut server).await;
    within(connecting).await.unwrap().unwrap();
    assert_eq!(client.status(), StreamingStatus::Connected);
}

#[test]
fn a_runtime_that_ends_ends_the_connection() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let client = runtime.block_on(async {
        let (mut server, connect) = connector();
        let client = Endpoints::builder("ws://server/websocket").connector(connect).build().unwrap();
        let connecting = client.clone();
        let connecting = tokio::spawn(async move { connecting.open_streaming_connection().await });
        let _peer = met(&mut server).await;
        within(connecting).await.unwrap().unwrap();
        client
    });
    assert_eq!(client.status(), StreamingStatus::Connected);
    drop(runtime);
    assert_eq!(client.status(), StreamingStatus::Disconnected);
}
