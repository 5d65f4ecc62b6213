//! Bounds: what a client keeps, and what waits, whatever the other side does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker_streams_client::{CallError, CallStream, Client, Status};
use futures_util::stream;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    open,
    support::{Opened, server, within},
};

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_none_is_answered_and_the_socket_closed() {
    let Opened { server: _server, client: _client, mut peer, mut stream, .. } =
        Opened::plain(|builder| builder).await;
    peer.send(json!({"type": "unheard"})).await;
    peer.expect("brm").await;
    peer.closed().await;
    assert!(matches!(within(stream.next()).await, Some(Err(CallError::SocketLost))));
}

#[tokio::test(start_paused = true)]
async fn a_plain_server_that_sends_more_than_is_held_ends_its_call_alone() {
    let (mut server, builder) = server();
    let client = builder.max_buffered(10_000).build().unwrap();
    let (first, second) = (open(&client, "a"), open(&client, "b"));
    let mut peer = server.plain().await;
    let (flooded, other) = (peer.opened().await, peer.opened().await);
    let mut first = within(first).await.unwrap().unwrap();
    let mut second = within(second).await.unwrap().unwrap();
    for number in 0..1000 {
        peer.send(flooded.int(number)).await;
    }
    peer.send(other.int(1)).await;
    assert_eq!(within(second.next()).await.unwrap().unwrap(), 1);
    assert_eq!(peer.expect("cmsc").await, flooded.about(json!({"cr": "done"})));
    let mut held = 0;
    loop {
        match within(first.next()).await {
            Some(Ok(number)) => {
                assert_eq!(number, held);
                held += 1;
            }
            Some(Err(CallError::Overflow)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!((50..200).contains(&held), "{held}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_client_ends_its_task_and_socket() {
    let Opened { server: _server, client, mut peer, call, mut stream } =
        Opened::plain(|builder| builder).await;
    drop(client);
    // A stream keeps the client.
    peer.send(call.int(1)).await;
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
    let began = Instant::now();
    drop(stream);
    assert_eq!(peer.expect("cmsc").await, call.about(json!({"cr": "done"})));
    assert!(peer.frame().await.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO, "without the second that a client waits for the next call");
}

#[test]
fn without_a_runtime_a_call_fails_and_with_one_that_ends_it_ends() {
    let client = Client::builder("ws://127.0.0.1:9/").build().unwrap();
    let opened = futures_util::FutureExt::now_or_never(client.call("a", "b").open::<i64>()).unwrap();
    assert!(matches!(opened, Err(CallError::Stopped)));

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut stream = runtime.block_on(async {
        let (mut server, builder) = server();
        let client = builder.build().unwrap();
        let opening = open(&client, "a");
        let mut peer = server.plain().await;
        peer.opened().await;
        within(opening).await.unwrap().unwrap()
    });
    drop(runtime);
    let next = futures_util::FutureExt::now_or_never(stream.next()).unwrap();
    assert!(matches!(next, Some(Err(CallError::Stopped | CallError::SocketLost))), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_and_inputs_wait_while_the_server_does_not_read() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let pulled = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&pulled);
    let endless = stream::repeat_with(move || {
        counting.fetch_add(1, Ordering::SeqCst);
        "x".repeat(50_000)
    });
    let first = tokio::spawn(client.call("numbers", "all").input("in", endless).open::<i64>());
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    let mut first = within(first).await.unwrap().unwrap();
    // What is read still arrives while nothing can be written.
    peer.send(call.int(1)).await;
    assert_eq!(within(first.next()).await.unwrap().unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = pulled.load(Ordering::SeqCst);
    assert!(before < 8, "{before}");
    // Calls that come and go meanwhile leave nothing to be written.
    for _ in 0..1000 {
        let opening = open(&client, "b");
        tokio::task::yield_now().await;
        opening.abort();
        tokio::task::yield_now().await;
    }
    let last = open(&client, "last");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pulled.load(Ordering::SeqCst), before);
    let mut openings = 0;
    loop {
        let frame = peer.read().await;
        if frame["type"] == "omsc" {
            openings += 1;
            if frame["data"]["m"] == "last" {
                break;
            }
        }
    }
    assert_eq!(openings, 1);
    drop((first, last));
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_as_allowed_and_one_more_and_an_input_twice() {
    let (mut server, builder) = server();
    let client = builder.max_calls(2).build().unwrap();
    let openings = [open(&client, "a"), open(&client, "b")];
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    peer.opened().await;
    assert!(matches!(within(client.call("numbers", "c").void()).await, Err(CallError::TooManyCalls)));
    let [first, _second] = openings;
    let mut first = within(first).await.unwrap().unwrap();
    peer.send(call.done()).await;
    assert!(within(first.next()).await.is_none());
    let opening = open(&client, "c");
    peer.opened().await;
    drop(within(opening).await.unwrap().unwrap());
    let twice = client.call("a", "b").input("in", stream::empty::<i64>()).input("in", stream::empty::<i64>());
    assert!(matches!(within(twice.void()).await, Err(CallError::Unwritable(_))));
}

/// What JSON has no word for.
#[derive(Debug)]
struct Unwritable;

impl broker_model::Value for Unwritable {
    fn class_name(&self) -> std::borrow::Cow<'static, str> {
        "Unwritable".into()
    }

    fn encode(&self, _: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        Err(serde::ser::Error::custom("it has no form"))
    }

    fn decode(class_name: &str, _: &str) -> Result<Self, broker_model::Unreadable> {
        Err(broker_model::Unreadable::class(class_name))
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_written_ends_the_call_with_an_error() {
    let (mut server, builder) = server();
    let client = builder.max_frame(2000).build().unwrap();
    let call = tokio::spawn(client.call("numbers", "sum").input("in", stream::iter([Unwritable])).void());
    let mut peer = server.plain().await;
    let opened = peer.opened().await;
    let next = peer.read().await;
    assert_eq!(next, opened.done(), "{next}");
    assert!(matches!(within(call).await.unwrap(), Err(CallError::Unwritable(_))));
    let long = stream::iter(["x".repeat(3000)]);
    let call = tokio::spawn(client.call("texts", "sum").input("in", long).void());
    let opened = peer.opened().await;
    assert_eq!(peer.read().await, opened.done());
    assert!(matches!(within(call).await.unwrap(), Err(CallError::Unwritable(_))));
    let long = client.call("texts", "sum").args(&json!({"text": "x".repeat(3000)})).unwrap();
    assert!(matches!(within(long.void()).await, Err(CallError::Unwritable(_))));
    assert!(matches!(client.call("a", "b").args(&[1, 2]), Err(CallError::Unwritable(_))));
}

#[test]
fn public_types_go_from_thread_to_thread() {
    fn sound<T: Send + Sync>() {}
    sound::<Client>();
    sound::<broker_streams_client::ClientBuilder>();
    sound::<broker_streams_client::CallBuilder>();
    sound::<CallStream<i64>>();
    sound::<broker_streams_client::CallEvents<i64>>();
    sound::<CallError>();
    sound::<Status>();
    sound::<broker_streams_client::StatusChanges>();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_pings_and_does_not_read_is_answered_within_a_bound() {
    let Opened { server: _server, client: _client, mut peer, call, mut stream } =
        Opened::plain(|builder| builder).await;
    for _ in 0..5000 {
        peer.send(json!({"type": "ping"})).await;
    }
    peer.send(call.int(1)).await;
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
    drop(stream);
    let mut pongs = 0;
    while peer.read().await["type"] == "pong" {
        pongs += 1;
    }
    assert!((64..2000).contains(&pongs), "{pongs}");
}
