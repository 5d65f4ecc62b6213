//! A WebSocket server that says what a test tells it to, reached through pipes in memory: so time can be
//! paused.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use broker_streams_client::{CallBuilder, CallError, CallStream, Client, ClientBuilder};
use futures_util::{SinkExt, StreamExt, task::AtomicWaker};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

/// A limit against hangs.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(3600), future).await.expect("it hangs")
}

/// The server's end of everything.
pub(crate) struct Server {
    arriving: mpsc::UnboundedReceiver<(DuplexStream, Wire)>,
    refuses: Arc<AtomicBool>,
    pub(crate) attempts: Arc<AtomicUsize>,
}

/// A client's connection, which can be cut: what is under way is lost then.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<(AtomicBool, AtomicWaker)>);

impl Wire {
    pub(crate) fn cut(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.wake();
    }
}

pub(crate) struct Cuttable(DuplexStream, Wire);

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.0.1.register(cx.waker());
        if self.1.0.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.1.0.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A server, and a client's builder that gets to it.
pub(crate) fn server() -> (Server, ClientBuilder) {
    let (server, connect) = connector();
    (server, Client::builder("ws://server/v1/websocket").connector(connect))
}

pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<Cuttable>> + Send>>;

/// A server, and the way to it.
pub(crate) fn connector() -> (Server, impl Fn() -> Connecting + Send + Sync + 'static) {
    let (sender, arriving) = mpsc::unbounded_channel();
    let (refuses, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (refusing, counting) = (Arc::clone(&refuses), Arc::clone(&attempts));
    let connect = move || -> Connecting {
        counting.fetch_add(1, Ordering::SeqCst);
        let (refuses, sender) = (refusing.load(Ordering::SeqCst), sender.clone());
        Box::pin(async move {
            let (ours, theirs) = duplex(16 << 10);
            let wire = Wire::default();
            if refuses || sender.send((theirs, wire.clone())).is_err() {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            Ok(Cuttable(ours, wire))
        })
    };
    (Server { arriving, refuses, attempts }, connect)
}

impl Server {
    pub(crate) fn refuse(&self, yes: bool) {
        self.refuses.store(yes, Ordering::SeqCst);
    }

    /// The next connection, upgraded, without a word.
    pub(crate) async fn accept(&mut self) -> Peer {
        let (stream, wire) = within(self.arriving.recv()).await.expect("a client");
        let mut uri = String::new();
        #[expect(clippy::result_large_err, reason = "the signature is the library's")]
        let look = |request: &Request, response: Response| {
            uri = request.uri().to_string();
            Ok(response)
        };
        let ws = accept_hdr_async(stream, look).await.expect("an upgrade");
        Peer { ws, wire, uri, pings: 0 }
    }

    /// The next connection of a client, met by a server that knows nothing but the eight frames.
    pub(crate) async fn plain(&mut self) -> Peer {
        let mut peer = self.accept().await;
        peer.greeted().await;
        peer.send(json!({"type": "pong"})).await;
        peer
    }

    /// The next connection of a client, met by a server that knows the extension.
    pub(crate) async fn x1(&mut self, window: u32) -> Peer {
        let mut peer = self.accept().await;
        assert_eq!(peer.greeted().await, json!({"type": "ping", "data": {"x": 1}}));
        peer.send(
            json!({"type": "pong", "data": {"x": 1, "window": window, "bytes": 262_144, "park": 30_000}}),
        )
        .await;
        peer
    }

    /// Drops a connection that nobody has met; `false` if there is none.
    pub(crate) fn try_drop(&mut self) -> bool {
        self.arriving.try_recv().is_ok()
    }

    /// Whether nobody else has come.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.arriving.is_empty()
    }
}

/// One socket, at the server.
pub(crate) struct Peer {
    pub(crate) ws: WebSocketStream<DuplexStream>,
    pub(crate) wire: Wire,
    pub(crate) uri: String,
    /// Pings after the first.
    pub(crate) pings: usize,
}

/// The opening of a call, as the server has read it.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) data: Value,
}

impl Opening {
    pub(crate) fn cid(&self) -> &str {
        self.data["cid"].as_str().expect("an id")
    }

    /// Data of a frame about this call.
    pub(crate) fn about(&self, more: Value) -> Value {
        let mut data = json!({"en": self.data["en"], "m": self.data["m"], "cid": self.data["cid"]});
        merge(&mut data, more);
        data
    }

    pub(crate) fn frame(&self, kind: &str, more: Value) -> Value {
        json!({"type": kind, "data": self.about(more)})
    }

    pub(crate) fn value(&self, class: &str, value: impl Into<Value>) -> Value {
        self.frame("msm", json!({"o": {"className": class, "data": value.into()}}))
    }

    pub(crate) fn int(&self, value: i64) -> Value {
        self.value("int", value)
    }

    pub(crate) fn done(&self) -> Value {
        self.frame("cmsc", json!({"cr": "done"}))
    }

    pub(crate) fn error(&self) -> Value {
        self.frame("cmsc", json!({"cr": "error"}))
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

impl Peer {
    async fn greeted(&mut self) -> Value {
        let first = self.text().await.expect("a first frame");
        serde_json::from_str(&first).expect("JSON")
    }

    /// The next text; `None` at the end of the socket.
    pub(crate) async fn text(&mut self) -> Option<String> {
        loop {
            match within(self.ws.next()).await? {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame that is no ping; `None` at the end of the socket.
    pub(crate) async fn frame(&mut self) -> Option<Value> {
        loop {
            let frame: Value = serde_json::from_str(&self.text().await?).expect("JSON");
            if frame["type"] != "ping" {
                return Some(frame);
            }
            self.pings += 1;
        }
    }

    pub(crate) async fn read(&mut self) -> Value {
        self.frame().await.expect("a frame")
    }

    /// Reads a frame of a kind, and returns its data.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let mut frame = self.read().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame["data"].take()
    }

    pub(crate) async fn send(&mut self, frame: impl ToString) {
        self.try_send(frame).await.expect("a socket");
    }

    pub(crate) async fn try_send(&mut self, frame: impl ToString) -> Result<(), ()> {
        within(self.ws.send(Message::text(frame.to_string()))).await.map_err(drop)
    }

    /// The next frame, which opens a call.
    pub(crate) async fn opening(&mut self) -> Opening {
        Opening { data: self.expect("omsc").await }
    }

    pub(crate) async fn answer(&mut self, opening: &Opening, res: &str) {
        self.send(json!({"type": "omsr", "data": opening.about(json!({"res": res}))})).await;
    }

    pub(crate) async fn answer_with(&mut self, opening: &Opening, x: Value) {
        self.send(json!({"type": "omsr", "data": opening.about(json!({"res": "success", "x": x}))})).await;
    }

    /// The next call, opened.
    pub(crate) async fn opened(&mut self) -> Opening {
        let opening = self.opening().await;
        self.answer(&opening, "success").await;
        opening
    }

    /// Reads until the client has closed the socket.
    pub(crate) async fn closed(&mut self) {
        while self.frame().await.is_some() {}
    }
}

/// A call that is open, with both its ends.
pub(crate) struct Opened {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) peer: Peer,
    pub(crate) call: Opening,
    pub(crate) stream: CallStream<i64>,
}

impl Opened {
    /// At a server that knows nothing but the eight frames.
    pub(crate) async fn plain(build: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let (mut server, builder) = server();
        let client = build(builder).build().unwrap();
        let opening = tokio::spawn(client.call("numbers", "a").open());
        let peer = server.plain().await;
        Self::new(server, client, peer, opening).await
    }

    /// At a server that knows the extension.
    pub(crate) async fn x1(build: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        Self::extended(build, |call| call).await
    }

    /// The same of a call that goes on when its socket is lost. The server gives no token for it.
    pub(crate) async fn resumable() -> Self {
        Self::extended(|builder| builder, CallBuilder::resume).await
    }

    async fn extended(
        build: impl FnOnce(ClientBuilder) -> ClientBuilder,
        with: impl FnOnce(CallBuilder) -> CallBuilder,
    ) -> Self {
        let (mut server, builder) = server();
        let client = build(builder).build().unwrap();
        let opening = tokio::spawn(with(client.call("numbers", "a")).open());
        let peer = server.x1(64).await;
        Self::new(server, client, peer, opening).await
    }

    async fn new(
        server: Server,
        client: Client,
        mut peer: Peer,
        opening: JoinHandle<Result<CallStream<i64>, CallError>>,
    ) -> Self {
        let call = peer.opened().await;
        let stream = within(opening).await.unwrap().unwrap();
        Self { server, client, peer, call, stream }
    }
}
