//! Panics and locks: what user code does outside of a method's own future harms no other call of the socket.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use broker_streams::{
    Authenticated, Authenticator, Call, Credentials, Endpoint, Failure, Out, State, method,
};
use futures_util::StreamExt;
use serde_json::json;

use crate::support::{Raw, Server, close, id, open};

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

/// An error that panics when it is dropped.
#[derive(Debug)]
struct Explosive(Bomb);

impl fmt::Display for Explosive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Explosive {}

async fn fails(_out: Out<i64>) -> Result<(), Failure> {
    Err(Failure::internal(Explosive(Bomb)))
}

/// A position that looks at its call when it is written.
struct Position(Call);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.remaining().is_some())
    }
}

async fn positions(call: Call, out: Out<i64>) -> Result<(), Failure> {
    Ok(out.send_at(7, Position(call)).await?)
}

#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic in `Drop`, as this test wants it");
    }
}

/// Panics before there is a future, or when its future is dropped, or lets nobody in.
struct Panics;

impl Authenticator for Panics {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> impl Future<Output = Result<Option<Authenticated>, Failure>> + Send {
        assert_ne!(credentials.secret(), "now", "a panic of an authenticator, as this test wants it");
        async {
            let _bomb = Bomb;
            std::future::pending().await
        }
    }
}

async fn started() -> (Server, Raw) {
    let test = Endpoint::new("test")
        .method("forever", forever)
        .method("fails", fails)
        .method("positions", positions);
    let private = Endpoint::new("private").requires_login().method("forever", forever);
    let server =
        Server::start(|streams| streams.authenticator(Panics).endpoint(test).endpoint(private)).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open(1, "test", "forever", &json!({}), &[])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    (server, raw)
}

#[tokio::test]
async fn an_authenticator_that_panics_at_a_refresh_refuses_it() {
    let (_server, mut raw) = started().await;
    raw.json(&json!({"type": "auth", "data": {"auth": "Bearer now"}})).await;
    assert_eq!(raw.next().await["data"]["res"], "authenticationFailed");
    raw.silent().await;
}

#[tokio::test]
async fn an_authenticator_that_panics_at_a_resumption_refuses_it() {
    let (_server, mut raw) = started().await;
    let calls = json!([{"cid": id(1), "t": "guessed"}]);
    raw.json(&json!({"type": "rsm", "data": {"calls": calls, "auth": "Bearer now"}})).await;
    assert_eq!(raw.next().await["data"]["calls"][0]["ok"], false);
    raw.silent().await;
}

#[tokio::test]
async fn what_an_authenticator_holds_may_panic_when_a_refresh_is_replaced() {
    let (_server, mut raw) = started().await;
    raw.json(&json!({"type": "auth", "data": {"auth": "Bearer waits"}})).await;
    raw.silent().await;
    raw.json(&json!({"type": "auth", "data": {"auth": "Bearer now"}})).await;
    for _ in 0..2 {
        assert_eq!(raw.next().await["data"]["res"], "authenticationFailed");
    }
    raw.silent().await;
}

#[tokio::test]
async fn what_an_authenticator_holds_may_panic_when_its_call_is_cancelled() {
    let (_server, mut raw) = started().await;
    let mut frame = open(2, "private", "forever", &json!({}), &[]);
    frame["data"]["auth"] = json!("Bearer waits");
    raw.json(&frame).await;
    raw.silent().await;
    let mut frame = close(2, "forever", None, "done");
    frame["data"]["en"] = json!("private");
    raw.json(&frame).await;
    raw.silent().await;
}

#[tokio::test]
async fn an_error_that_panics_when_it_is_dropped_ends_its_call_alone() {
    let (_server, mut raw) = started().await;
    raw.json(&open(2, "test", "fails", &json!({}), &[])).await;
    assert_eq!(raw.frames(2).await, ["success", "close error"]);
    raw.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_may_look_at_its_call_when_it_is_written() {
    let (server, mut raw) = started().await;
    raw.json(&open(2, "test", "positions", &json!({}), &[])).await;
    let frames = tokio::time::timeout(Duration::from_secs(5), raw.frames(3)).await;
    // A thread that is locked for ever would keep the runtime from ending.
    let Ok(frames) = frames else {
        eprintln!("the server is locked: {server:?}", server = server.streams);
        std::process::exit(1);
    };
    assert_eq!(frames, ["success", "int 7", "close done"]);
}

/// Says when it was dropped.
struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Keeps a thread while the server stops.
async fn holds(State(dropped): State<Arc<AtomicBool>>, out: Out<i64>) -> Result<(), Failure> {
    let _held = Held(dropped);
    out.send(1).await?;
    tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(500)));
    std::future::pending::<()>().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_ended_when_the_tasks_of_its_methods_have() {
    let dropped = Arc::new(AtomicBool::new(false));
    let test = Endpoint::new("test").method("holds", method(holds).on_task());
    let server = Server::start(|streams| streams.state(Arc::clone(&dropped)).endpoint(test)).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "holds", &json!({}), &[])).await;
    assert_eq!(raw.frames(2).await, ["success", "int 1"]);
    // Its socket is closed long before the thread is free.
    let answer_the_close = async { while raw.0.next().await.is_some() {} };
    tokio::join!(server.streams.close(), answer_the_close);
    assert!(dropped.load(SeqCst), "its task has outlived the server");
}
