//! Broker: the handle users clone.

mod channel_handle;
mod ending;
mod post_raw;
mod publish;
mod publish_future;
mod requests;
mod revoke;
mod sessions;
mod shutdown;
mod start;
mod subscribe;

pub(crate) use self::requests::ReplyTo;
pub use self::{channel_handle::ChannelHandle, publish_future::PublishFuture};
pub(crate) use publish::Target;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ChannelName, Error, ErrorKind, Health, Message, NodeId, Options, Result,
    driver::{Capabilities, Driver},
    health::{ConnectionState, HealthChanges},
    hub::Hub,
    metrics::Meter,
    request::replies::Replies,
    revocation::{log_state::Follower, registry::Registry},
    runtime::{Runtime, tasks::Tasks, user_code::shielded},
    session::state,
    supervisor::{outbox::Outbox, probe::Probe, subscriptions::Subscriptions},
};

use ending::Ending;

/// How much later than it must the echo of an own post may be found missing: by a busy machine.
const OVERDUE: Duration = Duration::from_secs(1);

/// A node: publishes, subscribes, opens sessions. Cloning is cheap, and all clones are one broker.
///
/// Made by `broker::connect(url)`. When the last clone, session, subscription and [listener](Self::add_listener) of
/// it is gone, its link is closed in the background; [`close`](Self::close) and [`drain`](Self::drain) wait for that.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    node: NodeId,
    options: Options,
    hub: Arc<Hub>,
    /// `None` for a local broker.
    backend: Option<Backend>,
    next_session: AtomicU64,
    meter: Meter,
    health: watch::Sender<Health>,
    /// The open sessions, which end when the broker closes.
    sessions: Mutex<HashMap<u64, Weak<state::Shared>>>,
    /// Those that a revocation can end.
    registry: Arc<Registry>,
    /// The requests that wait.
    replies: Arc<Replies>,
    /// The supervisor, the listeners, and what calls hooks.
    tasks: TaskTracker,
    runtime: Runtime,
    ending: Ending,
    stop: CancellationToken,
    /// Ends listeners in the middle of a call; only when the broker closes.
    abort: CancellationToken,
}

struct Backend {
    driver: Arc<dyn Driver>,
    subscriptions: Arc<Subscriptions>,
    outbox: Arc<Outbox>,
    probe: Arc<Probe>,
    follower: Arc<Follower>,
    malformed: Arc<AtomicU64>,
}

impl Broker {
    pub(crate) fn about(&self, operation: &'static str, error: Error) -> Error {
        let error = match &self.0.backend {
            Some(backend) => error.with_backend(backend.driver.name()),
            None => error,
        };
        error.with_operation(operation)
    }

    pub(crate) fn at(&self, operation: &'static str, channel: &str, error: Error) -> Error {
        let error = self.about(operation, error);
        // An illegal name is quoted by the message already, shortened.
        match ChannelName::new(channel) {
            Ok(name) => error.with_channel(name),
            Err(_) => error,
        }
    }

    /// Runs a task of this broker, which ends by itself when [`abort`](Self::abort) is cancelled.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        what: &str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let runtime = self.0.runtime.handle(what)?;
        Ok(self.0.tasks.spawn_on(task, &runtime))
    }

    pub(crate) fn tasks(&self) -> Tasks {
        let (tracker, abort) = (self.0.tasks.clone(), self.0.abort.clone());
        Tasks { node: self.0.node, tracker, abort }
    }

    /// Cancelled when what still runs is broken off.
    pub(crate) fn abort(&self) -> &CancellationToken {
        &self.0.abort
    }

    #[inline]
    pub(crate) fn meter(&self) -> &Meter {
        &self.0.meter
    }

    #[inline]
    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// The id of this node, new at every start.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.0.node
    }

    /// Whether this node has posted a message, by whichever session or none.
    #[must_use]
    pub fn has_posted(&self, message: &Message) -> bool {
        message.origin() == self.0.node
    }

    /// The backend's name: `redis`; `None` for a local broker.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend.as_ref().map(|backend| backend.driver.name())
    }

    /// What the last link promised beyond the contract; `None` for a local broker, and before the first link. It depends
    /// on the server, and may be another after a reconnect.
    #[must_use]
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.0.health.borrow().capabilities
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// The state of the receive path, now. When the broker's runtime is blocked or not driven, nothing keeps
    /// the state up to date: then it is [`ConnectionState::Connecting`], with that as the last error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// let broker = broker::connect("memory:").await?;
    /// assert!(broker.health().is_connected());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = self.0.health.borrow().clone();
        if let Some(backend) = &self.0.backend {
            health.malformed = backend.malformed.load(Ordering::Relaxed);
            let options = &self.0.options;
            let stale = options.heartbeat + options.heartbeat_timeout + OVERDUE;
            if let Some(age) = backend.probe.age().filter(|age| health.is_connected() && *age > stale) {
                let message = format!(
                    "no task of the broker has run for {age:?}: its runtime is blocked or not driven"
                );
                health.last_error = Some(Error::new(ErrorKind::Timeout, message));
                health.enter(ConnectionState::Connecting);
            }
        }
        health
    }

    /// The state of the receive path, now and at every change. For showing it, or for taking a server out of
    /// rotation.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::ConnectionState;
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut changes = broker.health_changes();
    /// assert_eq!(changes.next().await.map(|health| health.state), Some(ConnectionState::Connected));
    /// broker.close().await;
    /// assert_eq!(changes.next().await.map(|health| health.state), Some(ConnectionState::Closed));
    /// assert!(changes.next().await.is_none());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn health_changes(&self) -> HealthChanges {
        HealthChanges::new(self.0.health.subscribe())
    }

    /// Waits until the broker is connected (a local one always is). Waits as long as it takes: put a time
    /// limit around it. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) when the broker is drained or closed instead.
    pub async fn ready(&self) -> Result<()> {
        let mut changes = self.0.health.subscribe();
        loop {
            changes.mark_unchanged();
            match self.health().state {
                ConnectionState::Connecting => {}
                ConnectionState::Draining | ConnectionState::Closed => return Err(self.closed_error()),
                ConnectionState::Local | ConnectionState::Connected => return Ok(()),
            }
            // A runtime that runs again announces no change.
            let _ = self.0.runtime.timeout(self.0.options.heartbeat, shielded(changes.changed())).await;
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.stop.is_cancelled()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("node", &self.0.node)
            .field("backend", &self.backend())
            .field("state", &self.0.health.borrow().state)
            .finish_non_exhaustive()
    }
}
