//! Ends: of a call by its client, and of everything when the server stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use broker_streams::{Call, Endpoint, Incoming, Out, State, Streams, StreamsBuilder, method};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{Raw, Server, close, open, soon};

/// Notes that methods have ended, and what their sessions have seen.
#[derive(Clone, Default)]
struct Ends(Arc<(AtomicUsize, AtomicUsize, Notify)>);

impl Ends {
    async fn wait(&self, dropped: usize, closed: usize) {
        soon("the ends of methods and sessions", async {
            loop {
                let changed = self.0.2.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if self.0.0.load(SeqCst) == dropped && self.0.1.load(SeqCst) == closed {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

struct Dropped(Ends);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.0.0.fetch_add(1, SeqCst);
        self.0.0.2.notify_waiters();
    }
}

fn watch(call: &Call, ends: &Ends) -> Dropped {
    let closed = ends.clone();
    call.session()
        .on_close(async move |_| {
            closed.0.1.fetch_add(1, SeqCst);
            closed.0.2.notify_waiters();
        })
        .unwrap();
    Dropped(ends.clone())
}

async fn forever(call: Call, State(ends): State<Ends>, _out: Out<i64>) {
    let _dropped = watch(&call, &ends);
    std::future::pending::<()>().await;
}

/// Answers when it is too late.
async fn late(call: Call, State(ends): State<Ends>, _input: Incoming<i64>) -> i64 {
    let _dropped = watch(&call, &ends);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    1
}

async fn holds(call: Call, State(ends): State<Ends>, input: Incoming<i64>) {
    let _dropped = watch(&call, &ends);
    let _held = input;
    std::future::pending::<()>().await;
}

fn streams(ends: &Ends) -> impl FnOnce(StreamsBuilder) -> StreamsBuilder + use<> {
    let ends = ends.clone();
    move |streams| {
        streams.state(ends).endpoint(
            Endpoint::new("test")
                .method("forever", forever)
                .method("late", method(late).inputs(["input"]))
                .method("holds", method(holds).inputs(["input"])),
        )
    }
}

async fn opened(method: &str, inputs: &[&str]) -> (Server, Raw, Ends) {
    let ends = Ends::default();
    let server = Server::start(streams(&ends)).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", method, &json!({}), inputs)).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    (server, raw, ends)
}

#[tokio::test]
async fn ws_1_an_idle_socket_is_closed_when_the_server_stops() {
    let server = Server::start(streams(&Ends::default())).await;
    let mut raw = server.connect().await;
    raw.silent().await;
    let streams = server.streams.clone();
    let (close, ()) = tokio::join!(raw.closed(), soon("the drain", streams.drain(Duration::from_secs(8))));
    assert_eq!(close.map(|frame| u16::from(frame.code)), Some(1012));
    assert_eq!(streams.sockets(), 0);
}

#[tokio::test]
async fn ws_2_and_4_calls_end_when_the_server_stops() {
    for (name, inputs) in [("forever", &[][..]), ("holds", &["input"])] {
        let (server, mut raw, ends) = opened(name, inputs).await;
        let streams = server.streams.clone();
        let stop = soon("the drain", streams.drain(Duration::from_secs(2)));
        let (frames, ()) = tokio::join!(raw.frames(1 + inputs.len()), stop);
        assert_eq!(frames[0], "close error");
        assert!(raw.closed().await.is_some());
        ends.wait(1, 1).await;
    }
}

#[tokio::test]
async fn ws_33_closing_a_call_that_would_answer_later_cancels_its_method() {
    let (_server, mut raw, ends) = opened("late", &["input"]).await;
    raw.json(&close(1, "late", None, "done")).await;
    ends.wait(1, 1).await;
}

#[tokio::test]
async fn ws_36_closing_the_only_call_of_a_socket_cancels_its_method() {
    let (_server, mut raw, ends) = opened("forever", &[]).await;
    raw.json(&close(1, "forever", None, "done")).await;
    ends.wait(1, 1).await;
    // The client's own close is not echoed.
    raw.silent().await;
}

#[tokio::test]
async fn ws_37_closing_ends_the_session_though_the_input_was_never_read() {
    let (_server, mut raw, ends) = opened("holds", &["input"]).await;
    raw.json(&close(1, "holds", None, "done")).await;
    ends.wait(1, 1).await;
    assert_eq!(raw.frames(1).await, ["close done of input"]);
}

#[tokio::test]
async fn a_lost_socket_ends_its_calls() {
    let (server, raw, ends) = opened("forever", &[]).await;
    drop(raw);
    ends.wait(1, 1).await;
    soon("the end", server.streams.close()).await;
}

#[tokio::test]
async fn ws_80_a_server_that_starts_again_on_the_same_port_is_called_again() {
    let (server, mut raw, _ends) = opened("forever", &[]).await;
    let address = server.url.trim_start_matches("ws://").trim_end_matches("/v1/websocket").to_owned();
    soon("the end", server.streams.close()).await;
    assert!(raw.closed().await.is_some());
    drop(server);
    let broker = broker::connect("memory:").await.unwrap();
    let again = streams(&Ends::default())(Streams::builder(broker)).build().unwrap();
    // The port is free when the task of the old listener has ended.
    let listener = soon("the port", async {
        loop {
            match tokio::net::TcpListener::bind(&address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    drop(listener);
    let server = Server::serve(again, &address).await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "test", "forever", &json!({}), &[])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
}
