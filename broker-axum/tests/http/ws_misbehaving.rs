//! WebSockets of clients that send too much, read nothing, or say nothing.

use std::time::Duration;

use axum::{
    Router,
    extract::{State, WebSocketUpgrade},
    routing::any,
};
use broker::Broker;
use broker_axum::{AnyStream, HttpError, WebSocketForward};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    server::{ROOM, Server, guards, say, small_broker, within},
    ws::{app, start, text},
};

/// The request of a client that is written by hand.
fn upgrade(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn ten_megabytes_are_refused_before_they_are_received() {
    let server = start().await;
    let (mut sending, mut receiving) = server.socket("/chat").await.split();
    let sent = tokio::spawn(async move { sending.send(Message::text("x".repeat(10 << 20))).await });
    loop {
        match within("a close frame", receiving.next()).await.expect("a close frame").unwrap() {
            Message::Close(Some(frame)) => break assert_eq!(u16::from(frame.code), 1009),
            _ => continue,
        }
    }
    drop(receiving);
    // It fails when the server hangs up.
    let _ = within("the rest is not taken", sent).await.unwrap();
}

/// What it has sent is not read; so long as it is there, closing the socket would reset the connection, and the client might
/// not receive why.
#[tokio::test]
async fn a_client_that_sent_too_much_can_read_why() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&upgrade("/listen")).await.unwrap();
    let mut head = [0; 4096];
    assert!(within("the upgrade", stream.read(&mut head)).await.unwrap() < head.len());
    let (ten_megabytes, mask) = ((10_u64 << 20).to_be_bytes(), [0; 4]);
    stream.write_all(&[&[0x81, 0xff][..], &ten_megabytes, &mask].concat()).await.unwrap();
    while stream.try_write(&[b'x'; 65536]).is_ok() {}
    let mut close = [0; 4];
    within("a close frame", stream.read_exact(&mut close)).await.unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1009));
    let mut reason = vec![0; usize::from(close[1]) - 2];
    within("the reason", stream.read_exact(&mut reason)).await.unwrap();
    let more = stream.try_read(&mut head).unwrap_err();
    assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock, "it is open still");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_others_receive_everything() {
    let broker = small_broker().await;
    let (guards, mut guarded) = guards();
    let watched = async move |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let guard = guards.guard();
        let stream = broker.create_stream(ROOM).await?.inspect(move |_| _ = &guard);
        let forward = WebSocketForward::new(upgrade, AnyStream(stream));
        Ok::<_, HttpError>(forward.send_timeout(Duration::from_millis(200)))
    };
    let app = app().route("/watched", any(watched));
    // The limit that is tested is the socket's own.
    let never = Duration::from_secs(3600);
    let server = Server::start_with(&broker, app, |serve| serve.send_timeout(never)).await;
    let mut reading = server.socket("/listen").await;
    let narrow = server.narrow().await;
    let url = format!("ws://{}/watched", server.address);
    let (silent, _) = client_async(url, narrow).await.unwrap();
    let long = "x".repeat(256 << 10);
    for number in 0..64 {
        say(&broker, &format!("{number} {long}")).await;
        assert!(text(&mut reading).await.contains(&format!("\"{number} ")));
    }
    guarded.dropped().await;
    drop(silent);
}

/// It asks for answers without end, and reads none of them.
#[tokio::test]
async fn a_client_that_floods_pings_is_closed() {
    let broker = broker::connect("memory:").await.unwrap();
    let (guards, mut guarded) = guards();
    let watched = async move |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let guard = guards.guard();
        let stream = broker.create_stream(ROOM).await?.inspect(move |_| _ = &guard);
        let forward =
            WebSocketForward::new(upgrade, AnyStream(stream)).send_timeout(Duration::from_millis(200));
        Ok::<_, HttpError>(forward.ping_interval(Duration::from_millis(200)))
    };
    let server = Server::start(&broker, Router::new().route("/", any(watched))).await;
    let (stream, url) = (server.narrow().await, format!("ws://{}/", server.address));
    let (client, _) = client_async(url, stream).await.unwrap();
    let (mut flooding, unread) = client.split();
    let ping = Message::Ping(vec![7; 125].into());
    within("it is closed", async { while flooding.send(ping.clone()).await.is_ok() {} }).await;
    guarded.dropped().await;
    drop(unread);
}

/// It reads, and says nothing: not even an answer to a ping.
#[tokio::test]
async fn a_client_that_is_silent_for_too_long_is_closed() {
    let broker = broker::connect("memory:").await.unwrap();
    let pinging = |pause| {
        async move |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
            let forward = WebSocketForward::new(upgrade, broker.create_stream(ROOM).await?);
            Ok::<_, HttpError>(forward.ping_interval(pause))
        }
    };
    let app = Router::new()
        .route("/", any(pinging(Duration::from_millis(50))))
        // Long enough for an answer from a busy machine.
        .route("/slowly", any(pinging(Duration::from_secs(2))));
    let server = Server::start(&broker, app).await;
    let mut answering = server.socket("/slowly").await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&upgrade("/")).await.unwrap();
    let mut read = Vec::new();
    within("the end", stream.read_to_end(&mut read)).await.unwrap();
    let close = [&[0x88, 20][..], &1001_u16.to_be_bytes(), b"no answer to pings"].concat();
    assert!(read.ends_with(&close), "{:?}", read.escape_ascii().to_string());
    // One that answers stays; tungstenite does so while it is read.
    for _ in 0..4 {
        assert!(within("a ping", answering.next()).await.unwrap().unwrap().is_ping());
    }
    say(&broker, "still open").await;
    assert!(text(&mut answering).await.contains("still open"));
}
