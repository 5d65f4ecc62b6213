//! Proxy: a TCP relay inside the test that cuts, stalls and heals connections.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use rewrite::{Ports, Rewriter};

pub mod rewrite;

/// A relay on a loopback port. Dropping it closes its port and every connection.
///
/// Faults work on what arrives after the call: no byte that reaches the proxy after `cut` or `stall` has
/// returned is passed on.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    live: Arc<AtomicUsize>,
    ports: Arc<OnceLock<Ports>>,
    _end: DropGuard,
}

/// What the proxy does now; and how often it did something that ends or spoils the connections of its time.
/// A connection compares the counts with those at its birth, so none misses a fault healed at once.
#[derive(Clone, Copy, Debug)]
struct State {
    upstream: SocketAddr,
    refusing: bool,
    stalled: bool,
    stalled_downstream: bool,
    ends: u64,
    stalls: u64,
    downstream_stalls: u64,
}

impl Proxy {
    /// Listens on a loopback port and relays to `upstream`.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let state = State {
            upstream,
            refusing: false,
            stalled: false,
            stalled_downstream: false,
            ends: 0,
            stalls: 0,
            downstream_stalls: 0,
        };
        let (state, view) = watch::channel(state);
        let (end, live, ports) = (CancellationToken::new(), Arc::default(), Arc::default());
        let accepting =
            Accepting { view, live: Arc::clone(&live), ports: Arc::clone(&ports), end: end.clone() };
        tokio::spawn(accepting.run(listener));
        Ok(Self { addr, state, live, ports, _end: end.drop_guard() })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Relays new connections to another address; those that live stay where they are.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    /// Replaces these ports in what goes to clients. For connections that are made from now on, and once.
    pub fn rewrite(&self, ports: Ports) {
        // A second call changes nothing.
        let _ = self.ports.set(ports);
    }

    /// Resets every connection, and new ones at once, until [`heal`](Self::heal).
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.refusing = true;
            state.ends += 1;
        });
    }

    /// Closes every connection once; new ones are relayed as ever.
    pub fn drop_connections(&self) {
        self.state.send_modify(|state| state.ends += 1);
    }

    /// Stops relaying in both directions, as when a route is lost: sockets stay open, nothing moves, and
    /// neither side detects that the other is gone. New connections are accepted and never answered.
    pub fn stall(&self) {
        self.state.send_modify(|state| {
            state.stalled = true;
            state.stalls += 1;
        });
    }

    /// Loses everything on its way from server to client; the other direction works.
    pub fn stall_downstream(&self) {
        self.state.send_modify(|state| {
            state.stalled_downstream = true;
            state.downstream_stalls += 1;
        });
    }

    /// Relays new connections again. Those that lived through a stall stay as they are, for their bytes are
    /// lost: silent until one side closes, which the other side now detects.
    pub fn heal(&self) {
        self.state.send_modify(|state| {
            state.refusing = false;
            state.stalled = false;
            state.stalled_downstream = false;
        });
    }

    /// How many connections clients hold open here.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(live))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What every new connection needs.
struct Accepting {
    view: watch::Receiver<State>,
    live: Arc<AtomicUsize>,
    ports: Arc<OnceLock<Ports>>,
    end: CancellationToken,
}

impl Accepting {
    async fn run(self, listener: TcpListener) {
        while let Some(accepted) = self.end.run_until_cancelled(listener.accept()).await {
            // Fails for a client that is gone already, or for want of sockets: then let others finish first.
            let Ok((client, _)) = accepted else {
                tokio::task::yield_now().await;
                continue;
            };
            let born = *self.view.borrow();
            if born.refusing {
                reset(&client);
                continue;
            }
            let ports = self.ports.get().cloned().unwrap_or_default();
            let connection = Connection { born, view: self.view.clone(), ports };
            let (counted, end) = (Counted::new(&self.live), self.end.clone());
            tokio::spawn(async move { end.run_until_cancelled(connection.run(client, counted)).await });
        }
    }
}

/// Makes the close that follows an abrupt one.
fn reset(socket: &TcpStream) {
    // Fails for a socket that is closed already, which is as good.
    let _ = socket.set_zero_linger();
}

#[derive(Clone)]
struct Connection {
    born: State,
    view: watch::Receiver<State>,
    ports: Ports,
}

impl Connection {
    /// Waits until the state is such; for ever if the proxy is gone, for then the task is ended.
    async fn until(&self, such: impl Fn(&State) -> bool + Send + Sync) {
        let mut view = self.view.clone();
        if view.wait_for(|state| such(state)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn run(self, mut client: TcpStream, counted: Counted) {
        tokio::select! {
            biased;
            () = self.until(|state| state.ends != self.born.ends) => {}
            () = self.relay(&mut client, counted) => {}
        }
        if self.view.borrow().refusing {
            reset(&client);
        }
    }

    async fn relay(&self, client: &mut TcpStream, counted: Counted) {
        let mut counted = Some(counted);
        if self.born.stalled {
            return closed(client).await;
        }
        let Ok(mut server) = TcpStream::connect(self.born.upstream).await else { return };
        // Fails only for a socket that is closed already.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        {
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let upstream = async {
                if self.copy(&mut from_client, &mut to_server, false).await.is_ok() {
                    // The client has nothing more to send. It may wait until the server has hung up.
                    counted.take();
                    let _ = to_server.shutdown().await;
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = self.until(|state| state.stalls != self.born.stalls) => {}
                () = upstream => return,
                _ = self.copy(&mut from_server, &mut to_client, true) => return,
            }
        }
        let healed = || self.until(|state| !state.stalled);
        tokio::select! {
            () = closed(client) => drop(counted.take()),
            () = async { closed(&server).await; healed().await } => return,
        }
        healed().await;
    }

    /// Until `from` has nothing more to send.
    ///
    /// # Errors
    /// One of the two is gone.
    async fn copy(
        &self,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        downstream: bool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        let mut rewriter = Rewriter::new(if downstream { self.ports.clone() } else { Ports::default() });
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let now = *self.view.borrow();
            if now.ends != self.born.ends || now.stalls != self.born.stalls {
                // Whoever waits for these counts takes over.
                return std::future::pending().await;
            }
            let stalled_downstream =
                self.born.stalled_downstream || now.downstream_stalls != self.born.downstream_stalls;
            if downstream && stalled_downstream {
                continue;
            }
            to.write_all(&rewriter.pass(&buffer[..length])).await?;
        }
    }
}

/// Waits until the peer has closed, and reads nothing: bytes stay in the socket, as on a lost route.
async fn closed(socket: &TcpStream) {
    while let Ok(ready) = socket.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        // Forgets the readiness, so that the next `ready` waits for news.
        let _ = socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

#[cfg(test)]
mod tests;
