//! The manners of the client, against a server that does what a test says. By the ids of the behaviours.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker_streams_client::{CallError, CallStream, Client, Credentials, OpenResult, ProviderError, Status};
use futures_util::stream;
use serde_json::json;
use support::{server, within};
use tokio::time::Instant;

/// Opens a call in a task of its own.
fn open(client: &Client, method: &str) -> tokio::task::JoinHandle<Result<CallStream<i64>, CallError>> {
    let call = client.call("numbers", method);
    tokio::spawn(async move { call.open::<i64>().await })
}

#[tokio::test(start_paused = true)]
async fn cl_31_closing_the_client_ends_an_open_call_and_cl_32_a_new_call_works() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
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
        let (mut server, builder) = server();
        let client = builder.close_when_offline(wanted).build().unwrap();
        let opening = open(&client, "a");
        let mut peer = server.plain().await;
        let call = peer.opened().await;
        let mut stream = within(opening).await.unwrap().unwrap();
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
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    peer.send(call.done()).await;
    let began = Instant::now();
    let mut stream = within(opening).await.unwrap().unwrap();
    assert!(within(stream.next()).await.is_none());
    assert!(peer.frame().await.is_none(), "nothing but the farewell");
    assert_eq!(began.elapsed().as_secs(), 1);
    assert!(matches!(client.status(), Status::Disconnected { why: None }));
}

#[tokio::test(start_paused = true)]
async fn cl_64_when_the_server_closes_the_socket_the_stream_gets_an_error_after_its_values() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    peer.send(call.int(1)).await;
    peer.ws.close(None).await.unwrap();
    let mut stream = within(opening).await.unwrap().unwrap();
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
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
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

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_none_is_answered_and_the_socket_closed() {
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
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
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    let mut stream = within(opening).await.unwrap().unwrap();
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
    let (mut server, builder) = server();
    let client = builder.build().unwrap();
    let opening = open(&client, "a");
    let mut peer = server.plain().await;
    let call = peer.opened().await;
    for _ in 0..5000 {
        peer.send(json!({"type": "ping"})).await;
    }
    peer.send(call.int(1)).await;
    let mut stream = within(opening).await.unwrap().unwrap();
    assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
    drop(stream);
    let mut pongs = 0;
    while peer.read().await["type"] == "pong" {
        pongs += 1;
    }
    assert!((64..2000).contains(&pongs), "{pongs}");
}
