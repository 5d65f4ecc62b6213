//! A server in this process, and its clients.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use axum::Router;
use broker::{Broker, Channel, Model, Options, Scope};
use broker_axum::{Serve, serve};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long anything that is waited for may take: for what hangs, not for a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, Model)]
pub(crate) struct Said {
    pub(crate) text: String,
}

pub(crate) const ROOM: Channel<Said> = Channel::new("room");

pub(crate) fn said(text: &str) -> Said {
    Said { text: text.to_owned() }
}

pub(crate) async fn say(broker: &Broker, text: &str) {
    broker.post_message(ROOM, said(text), Scope::Global).await.unwrap();
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(LIMIT, future).await;
    done.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// A broker whose limits a test can reach.
pub(crate) async fn small_broker() -> Broker {
    let options = Options::default().with(|options| options.queue_capacity = 16);
    broker::connect_with("memory:", options).await.unwrap()
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(broker: &Broker, app: Router<Broker>) -> Self {
        Self::start_with(broker, app, |serve| serve).await
    }

    pub(crate) async fn start_with(
        broker: &Broker,
        app: Router<Broker>,
        settings: impl FnOnce(Serve<TcpListener>) -> Serve<TcpListener> + Send,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = settings(serve(listener, app.with_state(broker.clone()), broker.clone()));
        let serve = serve.with_graceful_shutdown(async move { drop(stopped.await) });
        Self { address, broker: broker.clone(), stop: Some(stop), serving: tokio::spawn(serve.into_future()) }
    }

    /// Begins the shutdown.
    pub(crate) fn signal(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has returned.
    pub(crate) async fn returned(self) -> io::Result<()> {
        within("the server returns", self.serving).await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        within(path, reqwest::get(self.url(path))).await.unwrap()
    }

    pub(crate) async fn events(&self, path: &str) -> Events {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { response, text: String::new() }
    }

    pub(crate) async fn socket(&self, path: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let connected = connect_async(format!("ws://{}{path}", self.address));
        within("the handshake", connected).await.unwrap().0
    }

    /// A connection whose client has room for little.
    pub(crate) async fn narrow(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(self.address).await.unwrap()
    }
}

/// What an `EventSource` reads.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    /// The lines of the next event but for comments; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<String>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let lines: Vec<_> = event
                    .split(['\r', '\n'])
                    .filter(|line| !line.starts_with(':'))
                    .map(str::to_owned)
                    .collect();
                self.text = rest.to_owned();
                if !lines.is_empty() {
                    return Some(lines);
                }
                continue;
            }
            let chunk = within("an event", self.response.chunk()).await.unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The text of the next message.
    pub(crate) async fn text(&mut self) -> String {
        let lines = self.next().await.expect("a message");
        let data = lines.iter().find_map(|line| line.strip_prefix("data: ")).expect("data");
        serde_json::from_str::<Said>(data).unwrap_or_else(|_| panic!("{lines:?}")).text
    }

    /// The reason of the end, which has to be next, and the end.
    pub(crate) async fn end(&mut self) -> String {
        let lines = self.next().await.expect("an end");
        assert_eq!(lines[0], "event: end", "{lines:?}");
        assert_eq!(self.next().await, None);
        lines[1].clone()
    }
}

/// Makes guards in handlers, whose end a test can wait for.
#[derive(Clone)]
pub(crate) struct Guards(mpsc::UnboundedSender<oneshot::Receiver<()>>);

/// What tells that a guard is dropped, one for each that was made.
pub(crate) struct Guarded(mpsc::UnboundedReceiver<oneshot::Receiver<()>>);

pub(crate) fn guards() -> (Guards, Guarded) {
    let (made, guarded) = mpsc::unbounded_channel();
    (Guards(made), Guarded(guarded))
}

impl Guards {
    pub(crate) fn guard(&self) -> oneshot::Sender<()> {
        let (guard, dropped) = oneshot::channel();
        self.0.send(dropped).unwrap();
        guard
    }
}

impl Guarded {
    /// Waits until the next guard is made, and dropped.
    pub(crate) async fn dropped(&mut self) {
        let guard = within("a guard is made", self.0.recv()).await.unwrap();
        within("the guard is dropped", guard).await.unwrap_err();
    }
}
