//! Endpoints: the client of the streaming endpoints of Serverpod before version 4, which share one
//! connection.

mod feed;
mod task;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker_model::Value;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_tungstenite::tungstenite::http::{HeaderMap, Uri};

pub use self::feed::{EndpointMessage, EndpointStream};
use crate::{
    BuildError, CallError, Credentials,
    connector::{self, Connector, Route},
    credentials::{Nobody, Provider},
    inputs::too_long,
};

/// Whether the connection of the endpoints is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamingStatus {
    /// It is.
    Connected,
    /// It is being made: until the server's first frame has come.
    Connecting,
    /// It is not, and is not going to be.
    Disconnected,
    /// It was lost, or could not be made; there is another attempt. This changes every second.
    WaitingToRetry {
        /// The time until the attempt.
        retry_in: Duration,
    },
}

/// The client of a server's streaming endpoints: one connection, over which all of them send and receive.
///
/// Clones share the connection. It is owned by one task, which ends with
/// [`close_streaming_connection`](Self::close_streaming_connection), or with the last clone and stream.
#[derive(Clone)]
pub struct Endpoints {
    inner: Arc<Inner>,
}

/// What ends the task when it goes.
struct Inner {
    shared: Arc<Shared>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
}

struct Shared {
    uri: Uri,
    connector: Connector,
    provider: Arc<dyn Provider>,
    retry_every: Option<Duration>,
    max_frame: usize,
    max_buffered: usize,
    feeds: feed::Feeds,
    status: watch::Sender<Known>,
}

/// The status, and why there is no connection.
#[derive(Clone)]
struct Known {
    status: StreamingStatus,
    why: Option<CallError>,
}

enum Command {
    Send(String),
    Authenticate,
}

/// Frames that wait for the task. A sender waits for room.
const COMMANDS: usize = 64;

/// The time for a connection and the server's first frame.
const CONNECT: Duration = Duration::from_secs(5);

impl Endpoints {
    /// A client of the server at an address: `ws://example.org/websocket`.
    pub fn builder(url: &str) -> EndpointsBuilder {
        EndpointsBuilder {
            url: url.to_owned(),
            connector: None,
            provider: Arc::new(Nobody),
            retry_every: Some(Duration::from_secs(5)),
            max_frame: 4 << 20,
            max_buffered: 1 << 20,
        }
    }

    /// Connects, and returns when that is done. The connection is made again whenever it is lost.
    ///
    /// It tries until it succeeds, unless retries are [off](EndpointsBuilder::retry_every). Cancel safe: the
    /// attempts go on when the future is dropped.
    ///
    /// # Errors
    /// Without retries, why the attempt failed. [`CallError::SocketClosed`] if the connection was closed
    /// meanwhile, and [`CallError::Stopped`] without a runtime.
    pub async fn open_streaming_connection(&self) -> Result<(), CallError> {
        let mut status = self.inner.shared.status.subscribe();
        self.start()?;
        let known = status
            .wait_for(|known| {
                matches!(known.status, StreamingStatus::Connected | StreamingStatus::Disconnected)
            })
            .await
            .map_err(|_| CallError::Stopped)?;
        match known.status {
            StreamingStatus::Connected => Ok(()),
            _ => Err(known.why.clone().unwrap_or(CallError::SocketClosed)),
        }
    }

    fn start(&self) -> Result<(), CallError> {
        let runtime = Handle::try_current().map_err(|_| CallError::Stopped)?;
        let mut commands = self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if commands.as_ref().is_some_and(|commands| !commands.is_closed()) {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel(COMMANDS);
        *commands = Some(sender);
        drop(commands);
        self.inner.shared.publish(StreamingStatus::Connecting, None);
        runtime.spawn(task::run(Arc::clone(&self.inner.shared), receiver));
        Ok(())
    }

    /// Closes the connection. Streams wait for the next.
    pub fn close_streaming_connection(&self) {
        let commands = self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(commands);
    }

    /// Sends a message to an endpoint. It may be lost with the connection.
    ///
    /// # Errors
    /// [`CallError::SocketLost`] if there is no connection, and [`CallError::Unwritable`] for a value that
    /// cannot be written or is too long.
    pub fn send_stream_message<T: Value>(
        &self,
        endpoint: &str,
        value: &T,
    ) -> impl Future<Output = Result<(), CallError>> + Send + use<'_, T> {
        let text = message(endpoint, value, self.inner.shared.max_frame);
        async move { self.command(Command::Send(text?)).await }
    }

    /// Shows new credentials on the connection that is there: the provider is asked for them.
    ///
    /// # Errors
    /// [`CallError::SocketLost`] if there is no connection.
    pub async fn authenticate_again(&self) -> Result<(), CallError> {
        self.command(Command::Authenticate).await
    }

    async fn command(&self, command: Command) -> Result<(), CallError> {
        let commands = self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match commands {
            Some(commands) if self.status() == StreamingStatus::Connected => {
                commands.send(command).await.map_err(|_| CallError::SocketLost)
            }
            _ => Err(CallError::SocketLost),
        }
    }

    /// The messages of an endpoint from now on, also those of later connections.
    #[must_use]
    pub fn stream(&self, endpoint: &str) -> EndpointStream {
        self.inner.shared.feeds.open(endpoint, Arc::clone(&self.inner))
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn status(&self) -> StreamingStatus {
        self.inner.shared.status.borrow().status
    }

    /// Calls a function with the latest status whenever it has changed, from a task of its own that ends with the
    /// client. A function that takes long misses what lies between; one
    /// that panics is not called again.
    ///
    /// # Errors
    /// [`CallError::Stopped`] without a runtime.
    pub fn on_status(
        &self,
        mut listener: impl FnMut(StreamingStatus) + Send + 'static,
    ) -> Result<(), CallError> {
        let runtime = Handle::try_current().map_err(|_| CallError::Stopped)?;
        let mut status = self.inner.shared.status.subscribe();
        runtime.spawn(async move {
            while status.changed().await.is_ok() {
                let now = status.borrow_and_update().status;
                listener(now);
            }
        });
        Ok(())
    }
}

/// The frame of a message.
fn message<T: Value>(endpoint: &str, value: &T, limit: usize) -> Result<String, CallError> {
    let unwritable = |error: serde_json::Error| CallError::Unwritable(error.to_string().into());
    let mut json = Vec::new();
    value.encode(&mut json).map_err(unwritable)?;
    let json = String::from_utf8(json).map_err(|error| CallError::Unwritable(error.to_string().into()))?;
    let name = |name: &str| serde_json::to_string(name).map_err(unwritable);
    let (endpoint, class_name) = (name(endpoint)?, name(&value.class_name())?);
    let text = format!(r#"{{"endpoint":{endpoint},"object":{{"className":{class_name},"data":{json}}}}}"#);
    if text.len() > limit {
        let what = format!("a message for the endpoint {endpoint}");
        return Err(CallError::Unwritable(too_long(&what, text.len(), limit)));
    }
    Ok(text)
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Shared {
    fn publish(&self, status: StreamingStatus, why: Option<CallError>) {
        self.status.send_if_modified(|known| {
            let is_new = known.status != status;
            *known = Known { status, why };
            is_new
        });
    }

    /// The way to the server with a key in the address, where these servers expect it.
    fn route(&self, key: Option<&str>) -> Result<Route, CallError> {
        let uri = match key {
            None => self.uri.clone(),
            Some(key) => {
                let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
                let separator = if self.uri.query().is_some() { '&' } else { '?' };
                let uri = format!("{}{separator}auth={key}", self.uri);
                uri.parse().map_err(|_| CallError::Credentials)?
            }
        };
        let connector = Arc::clone(&self.connector);
        let headers = HeaderMap::new();
        Ok(Route { uri, headers, connector, limit: CONNECT, max_frame: self.max_frame })
    }
}

/// A frame of a control command.
#[derive(Serialize)]
struct Control<'a, T> {
    command: &'a str,
    args: T,
}

/// Sets up [`Endpoints`]. By [`Endpoints::builder`].
#[must_use]
pub struct EndpointsBuilder {
    url: String,
    connector: Option<Connector>,
    provider: Arc<dyn Provider>,
    retry_every: Option<Duration>,
    max_frame: usize,
    max_buffered: usize,
}

impl EndpointsBuilder {
    /// Who gives the key: the bare one, without `Bearer` or `Basic`. It is asked for at every attempt, and
    /// goes in the address, where these servers expect it, and proxies may log it.
    pub fn credentials(mut self, provider: impl Credentials) -> Self {
        self.provider = Arc::new(provider);
        self
    }

    /// How to get to the server, instead of by TCP to the host of the address.
    pub fn connector<S, Fut>(mut self, connect: impl Fn() -> Fut + Send + Sync + 'static) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        Fut: Future<Output = std::io::Result<S>> + Send + 'static,
    {
        self.connector = Some(connector::by(connect));
        self
    }

    /// The longest frame in either direction, in bytes; at least 1,024. By default 4 MiB.
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Bytes that are held for a stream whose reader is slow; one message is held whatever its length. The
    /// oldest make room, and [`CallError::Gap`] stands in their place. By default 1 MiB.
    pub const fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_buffered = bytes;
        self
    }

    /// The time between attempts. By default 5 seconds; `None`: a connection that is lost is not made again.
    pub const fn retry_every(mut self, time: Option<Duration>) -> Self {
        self.retry_every = time;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`BuildError`] for an address that cannot be used, or a number that is out of range.
    pub fn build(self) -> Result<Endpoints, BuildError> {
        let uri = crate::builder::address(&self.url)?;
        crate::builder::check_max_frame(self.max_frame)?;
        let connector = match self.connector {
            Some(connector) => connector,
            None => connector::to(&uri).map_err(BuildError::new)?,
        };
        let shared = Arc::new(Shared {
            uri,
            connector,
            provider: self.provider,
            retry_every: self.retry_every,
            max_frame: self.max_frame,
            max_buffered: self.max_buffered,
            feeds: feed::Feeds::default(),
            status: watch::Sender::new(Known { status: StreamingStatus::Disconnected, why: None }),
        });
        Ok(Endpoints { inner: Arc::new(Inner { shared, commands: Mutex::default() }) })
    }
}

/// Without the address, which may hold a secret.
impl fmt::Debug for EndpointsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointsBuilder")
    }
}
