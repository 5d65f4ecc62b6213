//! The socket of a client: when it is opened, shared, given up and closed.

use std::{sync::atomic::Ordering, time::Duration};

use broker_streams_client::{CallError, Client, OpenResult, Status};
use futures_util::stream;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    open,
    support::{Opened, server, within},
};

#[tokio::test(start_paused = true)]
async fn cl_31_closing_the_client_ends_an_open_call_and_cl_32_a_new_call_works() {
    let Opened { mut server, client, mut peer, call, mut stream } = Opened::plain(|builder| builder).await;
    client.close();
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::SocketClosed))));
    assert!(within(stream.next()).await.is_none());
    let cancel = peer.expect("cmsc").await;
    assert_eq!(cancel, call.about(json!({"cr": "done"})));
    peer.closed().await;

    let opening = open(&client, "b");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    peer.send(call.int(7)).await;
    let mut stream = within(opening).await.unwrap().unwrap();
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn cl_34_reported_offline_closes_the_socket_if_that_is_wanted() {
    for wanted in [true, false] {
        let Opened { server: _server, client, mut peer, call, mut stream } =
            Opened::plain(|builder| builder.close_when_offline(wanted)).await;
        client.report_offline();
        if wanted {
            assert!(matches!(within(stream.next()).await, Some(Err(CallError::SocketClosed))));
        } else {
            tokio::task::yield_now().await;
            peer.send(call.int(1)).await;
            assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cl_49_a_failing_set_up_surfaces_where_the_call_is_opened() {
    let (server, builder) = server();
    server.refuse(true);
    let client = builder.build().unwrap();
    assert!(matches!(within(client.call("a", "b").open::<i64>()).await, Err(CallError::ConnectFailed(_))));
    assert!(matches!(client.status(), Status::Disconnected { why: Some(CallError::ConnectFailed(_)) }));
}

#[tokio::test(start_paused = true)]
async fn cl_51_cl_52_cl_54_cl_55_an_anonymous_call_shows_no_credentials_and_others_do() {
    let (mut server, builder) = server();
    let client = builder.credentials(|| async { Some("Bearer secret".to_owned()) }).build().unwrap();
    let single = client.call("numbers", "one").anonymous();
    let single = tokio::spawn(single.single::<i64>());
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    assert!(call.data.get("auth").is_none());
    peer.send(call.int(5)).await;
    peer.send(call.done()).await;
    assert_eq!(within(single).await.unwrap().unwrap(), 5);

    let stream = tokio::spawn(client.call("numbers", "many").anonymous().open::<i64>());
    let call = peer.opening().await;
    assert!(call.data.get("auth").is_none());
    peer.answer(&call, "authenticationFailed").await;
    assert!(matches!(
        within(stream).await.unwrap(),
        Err(CallError::Refused(OpenResult::AuthenticationFailed))
    ));

    let marked = open(&client, "many");
    let call = peer.opened().await;
    assert_eq!(call.data["auth"], "Bearer secret");
    drop(within(marked).await.unwrap().unwrap());
}

#[tokio::test]
async fn cl_58_without_a_server_the_call_fails_to_connect() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::builder(&format!("ws://{address}/v1/websocket")).build().unwrap();
    assert!(matches!(within(client.call("a", "b").void()).await, Err(CallError::ConnectFailed(_))));
}

#[tokio::test(start_paused = true)]
async fn cl_59_a_silent_server_times_out_after_five_seconds() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let began = Instant::now();
    let opening = open(&client, "a");
    let _peer = server.accept().await;
    assert!(matches!(within(opening).await.unwrap(), Err(CallError::ConnectTimedOut)));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn cl_61_five_calls_at_once_share_one_socket_and_its_ping() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let openings: Vec<_> = (0..5).map(|_| open(&client, "a")).collect();
    let mut peer = server.plain().await;
    for _ in 0..5 {
        peer.opened().await;
    }
    for opening in openings {
        std::mem::forget(within(opening).await.unwrap().unwrap());
    }
    assert_eq!((peer.pings, server.is_quiet()), (0, true));
    assert_eq!(server.attempts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn cl_63_the_client_closes_the_socket_a_second_after_the_only_call() {
    let Opened { server: _server, client, mut peer, call, mut stream } =
        Opened::plain(|builder| builder).await;
    peer.send(call.done()).await;
    let began = Instant::now();
    assert!(within(stream.next()).await.is_none());
    assert!(peer.frame().await.is_none(), "nothing but the farewell");
    assert_eq!(began.elapsed().as_secs(), 1);
    assert!(matches!(client.status(), Status::Disconnected { why: None }));
}

#[tokio::test(start_paused = true)]
async fn cl_64_when_the_server_closes_the_socket_the_stream_gets_an_error_after_its_values() {
    let Opened { server: _server, client: _client, mut peer, call, mut stream } =
        Opened::plain(|builder| builder).await;
    peer.send(call.int(1)).await;
    peer.ws.close(None).await.unwrap();
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::SocketLost))));
}

#[tokio::test(start_paused = true)]
async fn cl_65_a_reader_that_goes_sends_a_close() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    drop(within(opening).await.unwrap().unwrap());
    assert_eq!(peer.expect("cmsc").await, call.about(json!({"cr": "done"})));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_opening_is_dropped_is_cancelled() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opening().await;
    opening.abort();
    assert_eq!(peer.expect("cmsc").await, call.about(json!({"cr": "done"})));
}

#[tokio::test(start_paused = true)]
async fn cl_67_cl_68_what_the_server_says_of_a_call_that_was_left_is_ignored() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let (first, second) = (open(&client, "a"), open(&client, "b"));
    let mut peer = server.plain().await;
    let (left, other) = (peer.opened().await, peer.opened().await);
    drop(within(first).await.unwrap().unwrap());
    peer.expect("cmsc").await;
    peer.send(left.int(1)).await;
    peer.send(left.error()).await;
    peer.send(other.int(2)).await;
    let mut stream = within(second).await.unwrap().unwrap();
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 2);
    client.close();
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::SocketClosed))));
}

#[tokio::test(start_paused = true)]
async fn cl_70_forty_seconds_of_silence_end_the_call_and_a_pong_does_not() {
    let Opened { server: _server, client: _client, mut peer, mut stream, .. } =
        Opened::plain(|builder| builder).await;
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(peer.text().await.unwrap(), r#"{"type":"ping"}"#);
        peer.send(json!({"type": "pong"})).await;
    }
    assert_eq!(began.elapsed().as_secs(), 60);
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::IdleTimeout))));
    assert_eq!(began.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn cl_72_a_call_right_after_the_last_one_works_on_the_same_socket() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    peer.send(call.done()).await;
    assert!(within(within(opening).await.unwrap().unwrap().next()).await.is_none());
    let opening = open(&client, "b");
    let call = peer.opened().await;
    peer.send(call.int(3)).await;
    assert_eq!(within(within(opening).await.unwrap().unwrap().next()).await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn cl_74_a_call_while_a_socket_says_farewell_has_a_socket_of_its_own() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut first = server.plain().await;
    let call = first.opened().await;
    first.send(call.done()).await;
    drop(within(opening).await.unwrap());
    // The first socket's farewell is never answered: the peer is not read.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let opening = open(&client, "b");
    let mut second = server.plain().await;
    let call = second.opened().await;
    second.send(call.int(3)).await;
    let mut stream = within(opening).await.unwrap().unwrap();
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 3);
    client.close();
    second.closed().await;
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn an_input_is_sent_and_closed_and_a_failure_of_it_travels() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let call = client
        .call("numbers", "sum")
        .input("good", stream::iter([1_i64, 2]))
        .try_input("bad", stream::iter([Ok(3_i64), Err("broken")]));
    let summing = tokio::spawn(call.void());
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    assert_eq!(call.data["is"], json!(["good", "bad"]));
    let mut frames = Vec::new();
    for _ in 0..5 {
        frames.push(peer.read().await);
    }
    let of = |name: &str| -> Vec<_> {
        frames.iter().filter(|frame| frame["data"]["p"] == name).cloned().collect()
    };
    let value = |name: &str, value: i64| {
        call.frame("msm", json!({"p": name, "o": {"className": "int", "data": value}}))
    };
    let close = |name: &str, reason: &str| call.frame("cmsc", json!({"p": name, "cr": reason}));
    assert_eq!(of("good"), [value("good", 1), value("good", 2), close("good", "done")]);
    assert_eq!(of("bad"), [value("bad", 3), close("bad", "error")]);
    peer.send(call.done()).await;
    within(summing).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_status_and_its_changes_say_what_happens() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let mut changes = client.status_changes();
    assert!(matches!(within(changes.next()).await, Some(Status::Disconnected { why: None })));
    let call = client.call("numbers", "a").resume();
    let opening = tokio::spawn(call.open::<i64>());
    assert!(matches!(within(changes.next()).await, Some(Status::Connecting)));
    let mut peer = server.plain().await;
    peer.opened().await;
    assert!(matches!(within(changes.next()).await, Some(Status::Connected)));
    let stream = within(opening).await.unwrap().unwrap();
    peer.wire.cut();
    assert!(matches!(within(changes.next()).await, Some(Status::Waiting { .. })));
    assert!(matches!(within(changes.next()).await, Some(Status::Connecting)));
    drop(stream);
    assert!(matches!(within(changes.next()).await, Some(Status::Disconnected { .. })));
    drop(client);
    assert!(within(changes.next()).await.is_none());
}
