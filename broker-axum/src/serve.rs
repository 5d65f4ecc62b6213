//! Serve: an axum server and its broker, which end together.

use std::{
    fmt,
    future::{Future, IntoFuture, pending},
    io,
    pin::{Pin, pin},
    time::Duration,
};

use axum::{
    Extension, Router,
    serve::{Listener, ListenerExt},
};
use broker_core::Broker;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    connection::{Connections, Counted},
    probes::Stopping,
};

/// How long a client may take none of what it is sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// What the shutdown takes beyond the limits of the broker.
const MORE: Duration = Duration::from_secs(5);
/// How long the tasks of connections that are broken off may take to end.
const LAST: Duration = Duration::from_secs(2);

/// Serves an application and, once its signal comes, ends it together with its broker: so that no stream is cut off, and
/// nothing waits for itself.
///
/// `axum::serve` with a graceful shutdown waits for its connections, streams among them, and those end with the broker; a
/// program that drains the broker afterwards waits for ever, and one that does so before serves requests from a closed
/// broker. WebSockets axum does not wait for at all. Here, when the signal comes:
///
/// 1. [`readyz`](crate::readyz) says 503. For [`delay`](Serve::delay), zero unless set, everything else goes on.
/// 2. The broker is [drained](Broker::drain), while no more connections are accepted and those without a request are closed.
///    Streams yield the rest and end; so do server-sent events, with an event that says why, and WebSockets, with a close
///    code. Requests are answered.
/// 3. When all connections are gone, WebSockets among them, the broker is closed. Then this returns.
///
/// After [`deadline`](Serve::deadline), counted from step 2, the broker is closed and connections that are left are
/// broken off.
///
/// It also closes the connection of a client that takes nothing of what it is sent for
/// [`send_timeout`](Serve::send_timeout), which axum does not. [`ConnectInfo`](axum::extract::ConnectInfo) has the
/// address of the client. The listener is used as it is: one that sets `TCP_NODELAY`, by
/// [`tap_io`](axum::serve::ListenerExt::tap_io), sends small messages without delay.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::Router;
/// use broker_axum::{probes, serve};
///
/// let broker = broker::connect("memory:").await?;
/// let app = Router::new().merge(probes()).with_state(broker.clone());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// # drop(stop);
/// let signal = async move { drop(stopped.await) };
/// serve(listener, app, broker).with_graceful_shutdown(signal).await?;
/// # Ok(()) }
/// ```
pub fn serve<L>(listener: L, app: Router, broker: Broker) -> Serve<L>
where
    L: Listener,
    L::Addr: Clone + fmt::Debug + Sync + 'static,
{
    let options = broker.options();
    Serve {
        deadline: options.drain_timeout + options.close_timeout + MORE,
        listener,
        app,
        broker,
        signal: Box::pin(pending()),
        delay: Duration::ZERO,
        send_timeout: SEND_TIMEOUT,
    }
}

/// A server that is about to run: made by [`serve`], and awaited.
///
/// It runs until the signal. Dropped before, it breaks off its connections.
///
/// # Errors
/// When tasks hold connections that were broken off, 2 s after the deadline: they wait for something else than the client.
#[must_use = "it serves nothing until it is awaited"]
pub struct Serve<L> {
    listener: L,
    app: Router,
    broker: Broker,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    delay: Duration,
    deadline: Duration,
    send_timeout: Duration,
}

impl<L> Serve<L> {
    /// What begins the shutdown: [`shutdown_signal`], or any future. Without it the server runs for ever.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// For how long everything goes on after the signal, but for the readiness: as long as a load balancer needs to
    /// notice that. Zero unless set.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How long requests, streams and WebSockets have to end. Unless set `drain_timeout` and `close_timeout` of the broker
    /// and 5 s more: 17 s. Together with the delay it should be less than what the orchestrator grants.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long a client may take nothing of what it is sent, before its connection is closed; 30 s unless set.
    pub fn send_timeout(mut self, limit: Duration) -> Self {
        self.send_timeout = limit;
        self
    }
}

impl<L> Serve<L>
where
    L: Listener,
    L::Addr: Clone + fmt::Debug + Sync + 'static,
{
    async fn run(self) -> io::Result<()> {
        let Self { listener, app, broker, signal, delay, deadline, send_timeout } = self;
        let connections = Connections::new(send_timeout);
        // Also when this call is dropped.
        let _break_off = BreakOff(connections.clone());
        let (stopping, (stop, stopped)) = (Stopping::default(), oneshot::channel::<()>());
        let app = app.layer(Extension(stopping.clone())).into_make_service_with_connect_info::<L::Addr>();
        // The function that does nothing makes it a listener for which axum knows the address of clients.
        let listener = Counted { listener, connections: connections.clone() }.tap_io(|_| {});
        let serving = axum::serve(listener, app).with_graceful_shutdown(async move { drop(stopped.await) });
        // First those that axum waits for, and with them the last one that was accepted; then those that it does not.
        let mut ended = pin!(async {
            let served = serving.into_future().await;
            connections.gone().await;
            served
        });
        let signalled = async {
            signal.await;
            tracing::info!("the server shuts down");
            stopping.begin();
            tokio::time::sleep(delay).await;
        };
        tokio::select! {
            served = &mut ended => return served,
            () = signalled => drop(stop),
        }
        let in_order = async { tokio::join!(broker.drain(), &mut ended).1 };
        let Ok(served) = timeout(deadline, in_order).await else {
            tracing::warn!("{} connections have not ended within {deadline:?}", connections.count());
            // Both: a request may wait for the broker, and a client may take nothing.
            connections.break_off();
            broker.close().await;
            return timeout(LAST, connections.gone()).await.map_err(|_| unended(&connections));
        };
        broker.close().await;
        served
    }
}

/// What is left when a task holds a connection and neither reads nor writes.
fn unended(connections: &Connections) -> io::Error {
    let message = format!(
        "{} connections are held by tasks that do not end; let what runs after an upgrade end with its socket",
        connections.count()
    );
    io::Error::new(io::ErrorKind::TimedOut, message)
}

struct BreakOff(Connections);

impl Drop for BreakOff {
    fn drop(&mut self) {
        self.0.break_off();
    }
}

impl<L> IntoFuture for Serve<L>
where
    L: Listener,
    L::Addr: Clone + fmt::Debug + Sync + 'static,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<L> fmt::Debug for Serve<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("broker", &self.broker)
            .field("delay", &self.delay)
            .field("deadline", &self.deadline)
            .field("send_timeout", &self.send_timeout)
            .finish_non_exhaustive()
    }
}

/// Waits for what ends a server from outside: Ctrl-C, and on Unix SIGTERM, which orchestrators send.
///
/// Once it was called, neither ends the process by itself any more. If the signals cannot be received, that is logged, and
/// it waits for ever.
pub async fn shutdown_signal() {
    tokio::select! {
        () = received("Ctrl-C", tokio::signal::ctrl_c()) => {}
        () = received("SIGTERM", terminated()) => {}
    }
}

async fn received(name: &str, signal: impl Future<Output = io::Result<()>> + Send) {
    if let Err(error) = signal.await {
        tracing::error!("{name} cannot be received: {error}");
        pending::<()>().await;
    }
}

#[cfg(unix)]
async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

#[cfg(not(unix))]
async fn terminated() -> io::Result<()> {
    pending().await
}
