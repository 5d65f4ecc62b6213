//! A server on a thread of its own, whose CPU time is known apart from that of its clients.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use axum::serve::ListenerExt;
use broker::{Broker, Scope};
use broker_streams::{Limits, Streams};
use cpu_time::ThreadTime;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinHandle,
};

use super::{
    bare,
    fan_out::Peers,
    frameworks::Frameworks,
    methods::{Names, Said, endpoints},
};
use crate::{Outcome, rounds::Round};

/// How a server is set up.
pub(crate) struct Setup {
    /// The backend.
    pub(crate) url: String,
    pub(crate) limits: Limits,
    /// Whether it serves what frameworks serve, too.
    pub(crate) frameworks: bool,
    /// What the kernel keeps of each socket that is not sent; `None`: as much as it likes.
    pub(crate) send_buffer: Option<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut limits = Limits::default();
        // The clients that are written by hand answer no pings.
        (limits.ping, limits.silence) = (Duration::from_secs(3600), Duration::from_secs(3600));
        Self { url: "memory:".to_owned(), limits, frameworks: false, send_buffer: None }
    }
}

/// A server, which ends with it.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    pub(crate) peers: Arc<Peers>,
    frameworks: Option<Frameworks>,
    handle: Handle,
    /// The thread ends when this is gone.
    asking: Option<UnboundedSender<oneshot::Sender<i64>>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What a server's thread has to tell once it serves.
type Started = (SocketAddr, Broker, Option<Frameworks>, Handle);

impl Host {
    pub(crate) fn start() -> Outcome<Self> {
        Self::of(Setup::default())
    }

    pub(crate) fn of(setup: Setup) -> Outcome<Self> {
        let (ready, started) = mpsc::channel::<Outcome<Started>>();
        let peers = Arc::new(Peers::default());
        let joined = Arc::clone(&peers);
        let (asking, mut asked) = unbounded_channel::<oneshot::Sender<i64>>();
        let thread = thread::spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error.into()))),
            };
            drop(ready.send(runtime.block_on(serve(joined, setup))));
            let mut held = 0;
            loop {
                let mut next = None;
                held += measure(|| next = runtime.block_on(asked.recv())).bytes_current;
                match next {
                    Some(tell) => drop(tell.send(held)),
                    None => return,
                }
            }
        });
        let (address, broker, frameworks, handle) = started.recv()??;
        Ok(Self { address, broker, peers, frameworks, handle, asking: Some(asking), thread: Some(thread) })
    }

    /// Bytes that the server's thread has allocated and not freed, counted from its start.
    pub(crate) async fn held(&self) -> Outcome<i64> {
        let (tell, told) = oneshot::channel();
        self.asking.as_ref().ok_or("the server has ended")?.send(tell).map_err(|_| "the server has ended")?;
        Ok(told.await?)
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

    /// Does something on the thread of the server.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }

    /// What the frameworks post with.
    pub(crate) fn frameworks(&self) -> Outcome<Frameworks> {
        Ok(self.frameworks.clone().ok_or("the server was started without them")?)
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
        drop(self.asking.take());
        self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Without a delay of small writes, for ours and for the peers.
fn prepare(io: &TcpStream, send_buffer: Option<usize>) {
    drop(io.set_nodelay(true));
    if let Some(bytes) = send_buffer {
        drop(SockRef::from(io).set_send_buffer_size(bytes));
    }
}

async fn serve(peers: Arc<Peers>, setup: Setup) -> Outcome<Started> {
    let broker = broker::connect(&setup.url).await?;
    let mut streams = Streams::builder(broker.clone()).authenticator(Names).limits(setup.limits);
    for endpoint in endpoints() {
        streams = streams.endpoint(endpoint);
    }
    let mut app = bare::routes(peers).route_service("/v1/websocket", streams.build()?.service());
    let frameworks = if setup.frameworks { Some(Frameworks::new()?) } else { None };
    if let Some(frameworks) = &frameworks {
        app = frameworks.added_to(app)?;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(move |io| prepare(io, setup.send_buffer));
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok((address, broker, frameworks, Handle::current()))
}
