//! A server with methods of every shape, and a client that is nothing but a socket.

use std::{future::Future, time::Duration};

use broker_streams::{Streams, StreamsBuilder};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::CloseFrame},
};

/// A generous limit against hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for what has to come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// A server on loopback, which ends with it.
pub(crate) struct Server {
    pub(crate) streams: Streams,
    pub(crate) url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(build: impl FnOnce(StreamsBuilder) -> StreamsBuilder) -> Self {
        let broker = broker::connect("memory:").await.unwrap();
        let streams = build(Streams::builder(broker)).build().unwrap();
        Self::serve(streams, "127.0.0.1:0").await
    }

    pub(crate) async fn serve(streams: Streams, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("ws://{}/v1/websocket", listener.local_addr().unwrap());
        let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
        #[cfg(feature = "endpoints")]
        let app = app.route_service("/websocket", streams.endpoints_service());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { streams, url, task }
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(&self.url).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket, and whether frames besides Serverpod's eight are expected there.
pub(crate) struct Raw(pub(crate) WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>, pub(crate) bool);

/// What no client may see: a part of the text of every error in these tests.
pub(crate) const MARKER: &str = "the password of the data base";

/// A plain client gets nothing of the extension, and nobody the text of an error.
fn check(text: &str, extended: bool) {
    assert!(!text.contains(MARKER), "{text}");
    let frame: Value = serde_json::from_str(text).unwrap();
    let eight = ["omsr", "cmsc", "msm", "msse", "brm", "ping", "pong"];
    let plain = frame["type"].as_str().is_some_and(|kind| eight.contains(&kind))
        && ["x", "k", "why"].iter().all(|member| frame["data"].get(member).is_none());
    assert!(extended || plain, "{text}");
}

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        Self(soon("connect", connect_async(url)).await.unwrap().0, false)
    }

    pub(crate) async fn text(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.unwrap();
    }

    pub(crate) async fn json(&mut self, frame: &Value) {
        self.text(frame.to_string()).await;
    }

    /// The next text; `None` when the socket was closed.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        loop {
            match soon("a frame", self.0.next()).await {
                Some(Ok(Message::Text(text))) => {
                    check(&text, self.1);
                    return Some(text.to_string());
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        let text = self.next_text().await.expect("a frame, and the socket was closed");
        serde_json::from_str(&text).unwrap()
    }

    /// The close of the socket, behind whatever comes before it.
    pub(crate) async fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            match soon("the close", self.0.next()).await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The kinds of the next frames, shortened: `res`, `cr` with its parameter, or the value.
    pub(crate) async fn frames(&mut self, count: usize) -> Vec<String> {
        let mut frames = Vec::new();
        for _ in 0..count {
            frames.push(short(&self.next().await));
        }
        frames
    }

    /// Nothing more of a call: the answer to a ping comes first.
    pub(crate) async fn silent(&mut self) {
        self.text(r#"{"type":"ping"}"#).await;
        assert_eq!(self.next_text().await.as_deref(), Some(r#"{"type":"pong"}"#));
    }
}

/// A frame in a few characters.
pub(crate) fn short(frame: &Value) -> String {
    let data = &frame["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = data.get("p").map(|p| format!(" of {}", text(p))).unwrap_or_default();
    match frame["type"].as_str().unwrap_or_default() {
        "omsr" => text(&data["res"]),
        "cmsc" => format!("close {}{of}", text(&data["cr"])),
        "msm" => format!("{} {}{of}", text(&data["o"]["className"]), data["o"]["data"]),
        "msse" => format!("fault {} {}{of}", text(&data["ex"]["className"]), data["ex"]["data"]),
        other => other.to_owned(),
    }
}

/// The id of a call, by a number.
pub(crate) fn id(number: u32) -> String {
    format!("{number:08x}-8f0a-4a8e-9a50-2f0c9f5f0a11")
}

/// An open.
pub(crate) fn open(number: u32, endpoint: &str, method: &str, args: &Value, inputs: &[&str]) -> Value {
    json!({"type": "omsc", "data": {
        "en": endpoint, "m": method, "cid": id(number), "args": args.to_string(), "is": inputs,
    }})
}

/// A value of an input.
pub(crate) fn value(number: u32, method: &str, input: &str, class: &str, data: &Value) -> Value {
    json!({"type": "msm", "data": {
        "en": "test", "m": method, "cid": id(number), "p": input, "o": {"className": class, "data": data},
    }})
}

/// The close of an input, or without one of the call.
pub(crate) fn close(number: u32, method: &str, input: Option<&str>, reason: &str) -> Value {
    let mut data = json!({"en": "test", "m": method, "cid": id(number)});
    if let Some(input) = input {
        data["p"] = json!(input);
    }
    data["cr"] = json!(reason);
    json!({"type": "cmsc", "data": data})
}

/// The bytes of this process that are in memory.
pub(crate) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
