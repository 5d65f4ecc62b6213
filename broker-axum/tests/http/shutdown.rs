//! The end of a server: in order, and at the deadline.

use std::{future::pending, io::ErrorKind, time::Duration};

use axum::{
    Router,
    extract::{State, WebSocketUpgrade, ws::WebSocket},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use broker::{Broker, ConnectionState};
use broker_axum::{HttpError, RequestSession, WebSocketForward, probes, sse};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, oneshot},
};

use crate::{
    server::{ROOM, Said, Server, guards, say, small_broker, within},
    ws::close_code,
};

async fn room(RequestSession(session): RequestSession) -> Result<Response, HttpError> {
    Ok(sse(session.create_stream(ROOM).await?.owning(session)).into_response())
}

async fn socket(State(broker): State<Broker>, upgrade: WebSocketUpgrade) -> Result<Response, HttpError> {
    let forward = WebSocketForward::new(upgrade, broker.create_stream(ROOM).await?);
    Ok(forward.on_message(async |_: Said| {}))
}

fn app() -> Router<Broker> {
    Router::new().route("/room", get(room)).route("/socket", any(socket)).merge(probes())
}

#[tokio::test]
async fn sockets_and_events_receive_the_rest_and_their_end() {
    let broker = broker::connect("memory:").await.unwrap();
    let mut server = Server::start(&broker, app()).await;
    let (mut sockets, mut events) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        sockets.push(server.socket("/socket").await);
        events.push(server.events("/room").await);
    }
    for number in 0..20 {
        say(&broker, &number.to_string()).await;
    }
    server.signal();
    for events in &mut events {
        for number in 0..20 {
            assert_eq!(events.text().await, number.to_string());
        }
        assert_eq!(events.end().await, "data: {\"reason\":\"going-away\"}");
    }
    for socket in &mut sockets {
        for number in 0..20 {
            let frame = within("a frame", futures_util::StreamExt::next(socket)).await.unwrap().unwrap();
            assert!(frame.to_text().unwrap().ends_with(&format!("\"data\":{{\"text\":\"{number}\"}}}}")));
        }
        assert_eq!(close_code(socket).await, 1001);
    }
    // They have not left yet: their sockets are open until they answer, or are dropped.
    drop(sockets);
    server.returned().await.unwrap();
    assert_eq!(broker.health().state, ConnectionState::Closed);
}

#[tokio::test]
async fn readiness_ends_first_and_everything_else_goes_on_for_the_delay() {
    let broker = broker::connect("memory:").await.unwrap();
    // Far longer than the test: it ends when the server is dropped.
    let delay = Duration::from_secs(3600);
    let mut server = Server::start_with(&broker, app(), |serve| serve.delay(delay)).await;
    let mut events = server.events("/room").await;
    assert_eq!(server.get("/readyz").await.status(), 200);
    server.signal();
    let body = within("not ready", async {
        loop {
            let response = server.get("/readyz").await;
            if response.status() == 503 {
                return response.text().await.unwrap();
            }
        }
    })
    .await;
    assert_eq!(body, "{\"state\":\"stopping\"}");
    assert_eq!(server.get("/livez").await.status(), 200);
    say(&broker, "still served").await;
    assert_eq!(events.text().await, "still served");
    assert_eq!(broker.health().state, ConnectionState::Connected);
}

#[tokio::test]
async fn a_request_that_is_being_answered_is_answered() {
    let broker = broker::connect("memory:").await.unwrap();
    let (begun, mut begins) = mpsc::channel::<oneshot::Sender<()>>(1);
    let slow = async move || {
        let (go_on, wait) = oneshot::channel();
        begun.send(go_on).await.unwrap();
        wait.await.unwrap();
        "done"
    };
    let mut server = Server::start(&broker, app().route("/slow", get(slow))).await;
    let request = tokio::spawn(reqwest::get(server.url("/slow")));
    let go_on = within("the request", begins.recv()).await.unwrap();
    let mut changes = broker.health_changes();
    server.signal();
    within("the broker ends", async { while changes.next().await.is_some() {} }).await;
    go_on.send(()).unwrap();
    let response = within("an answer", request).await.unwrap().unwrap();
    assert_eq!(response.text().await.unwrap(), "done");
    server.returned().await.unwrap();
}

/// Clients that read nothing, a handler that does not return, and a WebSocket that knows of no shutdown.
#[tokio::test]
async fn what_does_not_end_by_itself_is_broken_off_at_the_deadline() {
    let broker = small_broker().await;
    let (guards, mut guarded) = guards();
    let own_guards = guards.clone();
    let hang = async move || {
        let _guard = guards.guard();
        pending::<()>().await;
    };
    let own = async move |upgrade: WebSocketUpgrade| {
        let held = own_guards.guard();
        upgrade.on_upgrade(async move |mut socket: WebSocket| {
            while let Some(Ok(_)) = socket.recv().await {}
            drop(held);
        })
    };
    let app = app().route("/hang", get(hang)).route("/own", any(own));
    let deadline = Duration::from_millis(300);
    let mut server = Server::start_with(&broker, app, |serve| serve.deadline(deadline)).await;
    let mut own = server.socket("/own").await;
    let mut silent = server.narrow().await;
    silent.write_all(b"GET /room HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    silent.readable().await.unwrap();
    let mut hanging = server.narrow().await;
    hanging.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let long = "x".repeat(256 << 10);
    for _ in 0..64 {
        say(&broker, &long).await;
    }
    // It was accepted behind the one that hangs.
    assert_eq!(server.get("/livez").await.status(), 200);
    server.signal();
    server.returned().await.unwrap();
    assert_eq!(broker.health().state, ConnectionState::Closed);
    guarded.dropped().await;
    guarded.dropped().await;
    assert!(within("the end", futures_util::StreamExt::next(&mut own)).await.unwrap().is_err());
}

/// A task that holds its socket and waits for something else cannot be ended: that is an error, not a wait.
#[tokio::test]
async fn a_task_that_keeps_its_socket_for_ever_is_reported() {
    let broker = broker::connect("memory:").await.unwrap();
    let keeping = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |socket: WebSocket| {
            pending::<()>().await;
            drop(socket);
        })
    };
    let app = Router::new().route("/", any(keeping));
    let deadline = Duration::from_millis(100);
    let mut server = Server::start_with(&broker, app, |serve| serve.deadline(deadline)).await;
    let _socket = server.socket("/").await;
    server.signal();
    let error = server.returned().await.unwrap_err();
    assert!(error.kind() == ErrorKind::TimedOut && error.to_string().starts_with("1 connections"), "{error}");
}
