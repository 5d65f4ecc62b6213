//! A server on a thread of its own, whose CPU time is known apart from that of its clients.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{State, WebSocketUpgrade, ws::Message},
    response::Response,
    routing::get,
    serve::ListenerExt,
};
use broker::{Broker, Scope};
use broker_streams::{Call, Endpoint, Failure, Incoming, Model, Out, Streams, method};
use cpu_time::ThreadTime;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    sync::{Notify, oneshot},
};

use super::fan_out::Peers;
use crate::{Outcome, rounds::Round};

/// What is sent: 178 bytes as a frame of ours.
#[derive(Clone, Serialize, Deserialize, Model)]
pub(crate) struct Said {
    pub(crate) text: String,
}

async fn echo(mut input: Incoming<Said>, out: Out<Said>) -> Result<(), Failure> {
    while let Some(said) = input.next().await {
        out.send(said?).await?;
    }
    Ok(())
}

async fn news(call: Call, out: Out<Said>) -> Result<(), Failure> {
    let news = call.session().create_stream::<Said>("news").await?;
    out.relay(news).await
}

/// A session with a subscription that nobody posts to.
async fn idle(call: Call, _out: Out<Said>) -> Result<(), Failure> {
    let mut quiet = call.session().create_stream::<Said>("quiet").await?;
    while quiet.next().await.is_some() {}
    Ok(())
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

/// As axum's documentation shows it.
async fn as_it_comes(upgrade: WebSocketUpgrade) -> Response {
    echo_texts(upgrade)
}

/// With buffers of the size that ours have.
async fn tuned(upgrade: WebSocketUpgrade) -> Response {
    echo_texts(upgrade.read_buffer_size(4 << 10))
}

fn echo_texts(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// A queue for each socket, which is drained into one flush.
async fn queue(State(peers): State<Arc<Peers>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(4 << 10).on_upgrade(async move |mut socket| {
        let mut queue = peers.join();
        while let Some(text) = queue.recv().await {
            let mut next = Some(text);
            while let Some(text) = next {
                if socket.feed(Message::Text(text)).await.is_err() {
                    return;
                }
                next = queue.try_recv().ok();
            }
            if socket.flush().await.is_err() {
                return;
            }
        }
    })
}

/// A server, which ends with it.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    pub(crate) peers: Arc<Peers>,
    handle: Handle,
    stop: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start() -> Outcome<Self> {
        let (ready, started) = mpsc::channel();
        let (peers, stop) = (Arc::new(Peers::default()), Arc::new(Notify::new()));
        let (joined, stopped) = (Arc::clone(&peers), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error.into()))),
            };
            runtime.block_on(async {
                match serve(joined).await {
                    Ok((listener, app, broker)) => {
                        let address = listener.local_addr().map_err(Into::into);
                        drop(ready.send(address.map(|address| (address, broker, Handle::current()))));
                        tokio::select! {
                            () = stopped.notified() => {}
                            // Without a delay of small writes, for ours and for the peers.
                            _ = axum::serve(listener.tap_io(|io| drop(io.set_nodelay(true))), app) => {}
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        });
        let (address, broker, handle) = started.recv()??;
        Ok(Self { address, broker, peers, handle, stop, thread: Some(thread) })
    }

    /// The CPU time of the server's thread.
    async fn cpu(&self) -> Outcome<Duration> {
        let (tell, told) = oneshot::channel();
        self.handle.spawn(async move { tell.send(ThreadTime::now().as_duration()) });
        Ok(told.await?)
    }

    /// Times work of clients, and counts the CPU of the server alone.
    pub(crate) async fn time(&self, count: usize, work: impl Future<Output = Outcome>) -> Outcome<Round> {
        let (cpu, began) = (self.cpu().await?, Instant::now());
        work.await?;
        let took = began.elapsed();
        Ok(Round::of(count, took, self.cpu().await?.saturating_sub(cpu)))
    }

    /// Posts on the thread of the server, so many times.
    pub(crate) async fn post(&self, said: &Said, times: usize) -> Outcome {
        let (broker, said) = (self.broker.clone(), said.clone());
        let posted = self.handle.spawn(async move {
            for _ in 0..times {
                broker.post_message("news", said.clone(), Scope::Local).await?;
            }
            Ok::<_, broker::Error>(())
        });
        Ok(posted.await??)
    }

    /// Sends to the queues of the peer, on the thread of the server, so many times.
    pub(crate) async fn send(&self, text: &str, times: usize) -> Outcome {
        let (peers, text) = (Arc::clone(&self.peers), text.to_owned());
        Ok(self.handle.spawn(async move { (0..times).for_each(|_| peers.send(&text)) }).await?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.notify_one();
        self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn serve(peers: Arc<Peers>) -> Outcome<(TcpListener, Router, Broker)> {
    let broker = broker::connect("memory:").await?;
    let bench = Endpoint::new("bench")
        .method("echo", method(echo).inputs(["input"]))
        .method("news", news)
        .method("idle", idle)
        .method("forever", method(forever).resumable());
    let streams = Streams::builder(broker.clone()).endpoint(bench).build()?;
    let app = Router::new()
        .route("/default", get(as_it_comes))
        .route("/tuned", get(tuned))
        .route("/queue", get(queue))
        .with_state(peers)
        .route_service("/v1/websocket", streams.service());
    Ok((TcpListener::bind("127.0.0.1:0").await?, app, broker))
}
