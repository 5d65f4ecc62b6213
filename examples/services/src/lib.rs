//! Small services around a broker, each a program in `src/bin` with its tests: `cargo run -p services --bin axum-chat`.
//!
//! | program | shows |
//! |---|---|
//! | `axum-chat` | a whole service: WebSockets, server-sent events, posts, sign-in and sign-out, traces, probes, shutdown |
//! | `axum-sse` | a typed stream as server-sent events, and what a client missed |
//! | `tonic-stream` | the same as a stream of gRPC |
//! | `readiness` | a service that starts while its backend is away |
//! | `graceful-shutdown` | what ends when, with a load balancer in front |
//! | `worker` | a background job: a listener, a session, and an end in which no job is lost |
//! | `testing` | how a program of your own is tested |
//!
//! Each runs on `memory:` unless `BROKER_URL` names another backend. This library is what all of them begin with.

use std::{env, error::Error, io, net::SocketAddr, time::Duration};

use axum::{Router, serve::ListenerExt};
use broker::Broker;
use broker_axum::{serve, shutdown_signal};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// Serves an application on the address in the first argument, until Ctrl-C or SIGTERM.
///
/// # Errors
/// The backend is not reached, the address is taken, or the shutdown leaves something behind.
pub async fn run(app: impl FnOnce(Broker) -> Router + Send) -> Result<(), Box<dyn Error + Send + Sync>> {
    tracing_subscriber::fmt::init();
    let broker = broker::from_env().await?;
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    // Small messages go out at once.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    serve(listener, app(broker.clone()), broker).with_graceful_shutdown(shutdown_signal()).await?;
    Ok(())
}

/// A server in this process, on a port of its own: for tests.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its broker, on `memory:`.
    pub broker: Broker,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(app: impl FnOnce(Broker) -> Router) -> Result<Self, Box<dyn Error>> {
        let broker = broker::connect("memory:").await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, (stop, stopped)) = (listener.local_addr()?, oneshot::channel());
        let server = serve(listener, app(broker.clone()), broker.clone());
        let server = server.with_graceful_shutdown(async { drop(stopped.await) }).into_future();
        Ok(Self { address, broker, stop, serving: tokio::spawn(server) })
    }

    /// Begins the shutdown. The server has ended when the task has.
    pub fn stop(self) -> JoinHandle<io::Result<()>> {
        drop(self.stop);
        self.serving
    }
}

/// Ends a test that hangs.
///
/// # Panics
/// It has not ended within a minute.
pub async fn within_a_minute<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends within a minute")
}
