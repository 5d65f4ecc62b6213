//! Broker: the handle users clone.

mod closing;
mod posting;
mod revoking;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ChannelName, CloseReason, Error, ErrorKind, Health, Identity, NodeId, Options, Result, Session,
    Subscription,
    driver::{Capabilities, Driver},
    foreign::shielded,
    health::{HealthChanges, State},
    hub::Hub,
    link::{
        Receivers, Supervisor, follower::Follower, interest::Interest, names::Names, outbox::Outbox,
        probe::Probe,
    },
    metrics::Meter,
    own_task::Tasks,
    revocation::register::Register,
    runtime::Runtime,
    session,
};

use closing::{Ending, Supervised};

/// How much later than it must the echo of an own post may be found missing: by a busy machine.
const OVERDUE: Duration = Duration::from_secs(1);

/// A node: publishes, subscribes, opens sessions. Cloning is cheap, and all clones are one broker.
///
/// Made by `broker::connect(url)`. When the last clone, session and subscription of it is dropped, its link
/// is closed in the background; [`close`](Self::close) and [`drain`](Self::drain) wait for that.
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
    /// To end what is open when the broker closes.
    sessions: Mutex<HashMap<u64, Weak<session::Shared>>>,
    /// Those that a revocation can end.
    register: Arc<Register>,
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
    interest: Arc<Interest>,
    outbox: Arc<Outbox>,
    probe: Arc<Probe>,
    follower: Arc<Follower>,
    malformed: Arc<AtomicU64>,
}

impl Broker {
    /// A broker without a backend: local posts only, no task, no I/O. A global post is an error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Broker, ErrorKind, Scope};
    ///
    /// let broker = Broker::local();
    /// broker.publish("news", "here", Scope::Auto).await?;
    /// let error = broker.publish("news", "everywhere", Scope::Global).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NoBackend);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn local() -> Self {
        let health = watch::Sender::new(Health::new(State::Local));
        Self::new(Options::default(), None, health, Runtime::default()).0
    }

    /// Starts a broker over a driver. It connects in the background, for as long as it takes;
    /// [`ready`](Self::ready) waits for it. Does no I/O itself.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for options out of bounds, or outside a tokio runtime.
    pub fn start(driver: Arc<dyn Driver>, options: Options) -> Result<Self> {
        options.check()?;
        let runtime = Runtime::current("a broker")?;
        let health = watch::Sender::new(Health::new(State::Connecting));
        let (broker, supervisor) = Self::new(options, Some(driver), health, runtime.clone());
        if let (Some(supervisor), Some(backend)) = (supervisor, &broker.0.backend) {
            let supervised = Supervised::new(&broker, backend).run(supervisor);
            broker.0.tasks.spawn_on(supervised, &runtime.handle("a broker")?);
        }
        Ok(broker)
    }

    /// Starts a broker and waits for the first link.
    ///
    /// # Errors
    /// As [`start`](Self::start), or why the first attempt to connect failed; the broker is closed then.
    pub async fn connect(driver: Arc<dyn Driver>, options: Options) -> Result<Self> {
        let broker = Self::start(driver, options)?;
        let mut health = broker.0.health.subscribe();
        let settled = |health: &Health| health.failures > 0 || health.state != State::Connecting;
        let failed = match health.wait_for(settled).await {
            Ok(health) if health.is_connected() => None,
            Ok(health) => Some(health.last_error.clone().unwrap_or_else(Error::closed)),
            Err(_) => Some(Error::closed()),
        };
        match failed {
            None => Ok(broker),
            Some(error) => {
                broker.close().await;
                Err(error)
            }
        }
    }

    fn new(
        options: Options,
        driver: Option<Arc<dyn Driver>>,
        health: watch::Sender<Health>,
        runtime: Runtime,
    ) -> (Self, Option<Supervisor>) {
        let node = NodeId::random();
        let hub = Arc::new(Hub::new(options.queue_capacity));
        let stop = CancellationToken::new();
        let names = Names::new(&options.prefix);
        let register = Arc::new(Register::new(node, options.clock_skew, options.revocation_retention));
        let backend = driver.map(|driver| Backend {
            driver,
            interest: Arc::new(Interest::new(options.unsubscribe_delay, runtime.clone())),
            outbox: Arc::new(Outbox::new(&options, node, names.clone(), runtime.clone())),
            probe: Arc::new(Probe::new(node, &names)),
            follower: Arc::new(Follower::new(node, Arc::clone(&register), &options)),
            malformed: Arc::default(),
        });
        let meter = Meter::new(backend.as_ref().map_or("none", |backend| backend.driver.name()));
        let supervisor = backend.as_ref().map(|backend| Supervisor {
            driver: Arc::clone(&backend.driver),
            receivers: Receivers {
                hub: Arc::clone(&hub),
                interest: Arc::clone(&backend.interest),
                names,
                probe: Arc::clone(&backend.probe),
                follower: Arc::clone(&backend.follower),
                malformed: Arc::clone(&backend.malformed),
                meter: meter.clone(),
            },
            outbox: Arc::clone(&backend.outbox),
            health: health.clone(),
            options: options.clone(),
            stop: stop.clone(),
        });
        let broker = Self(Arc::new(Shared {
            node,
            options,
            hub,
            backend,
            next_session: AtomicU64::new(0),
            meter,
            health,
            sessions: Mutex::default(),
            register,
            tasks: TaskTracker::new(),
            runtime,
            ending: Ending::default(),
            stop,
            abort: CancellationToken::new(),
        }));
        (broker, supervisor)
    }

    /// Opens an anonymous session, which no revocation touches. [`session_for`](Self::session_for) opens that of a
    /// user.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(self.clone(), self.new_session(), None)
    }

    fn new_session(&self) -> Arc<session::Shared> {
        let id = self.0.next_session.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(session::Shared::new(id, Arc::clone(&self.0.hub)));
        self.sessions().insert(id, Arc::downgrade(&shared));
        if self.is_closed() {
            drop(shared.close(&CloseReason::BrokerClosed));
        }
        shared
    }

    fn about(&self, operation: &'static str, error: Error) -> Error {
        let error = match &self.0.backend {
            Some(backend) => error.with_backend(backend.driver.name()),
            None => error,
        };
        error.with_operation(operation)
    }

    fn at(&self, operation: &'static str, channel: &str, error: Error) -> Error {
        let error = self.about(operation, error);
        // An illegal name is quoted by the message already, shortened.
        match ChannelName::new(channel) {
            Ok(name) => error.with_channel(name),
            Err(_) => error,
        }
    }

    /// Subscribes to a channel outside of any session. When it returns, every later post from any process is
    /// delivered, or reported missing. Cancel safe: a dropped call leaves nothing behind.
    ///
    /// # Errors
    /// As [`Session::create_stream`].
    pub async fn subscribe(&self, channel: impl AsRef<str> + Send) -> Result<Subscription> {
        let mut subscription = self.join("subscribe", channel.as_ref())?;
        self.confirm("subscribe", &mut subscription).await?;
        Ok(subscription)
    }

    pub(crate) fn join(&self, operation: &'static str, channel: &str) -> Result<Subscription> {
        let name = ChannelName::new(channel).map_err(|error| error.with_operation(operation))?;
        Subscription::open(self, &name).ok_or_else(|| self.at(operation, channel, self.closed_error()))
    }

    pub(crate) async fn confirm(
        &self,
        operation: &'static str,
        subscription: &mut Subscription,
    ) -> Result<()> {
        let Some(backend) = &self.0.backend else {
            subscription.begin_here();
            return Ok(());
        };
        let name = subscription.channel();
        let (limit, refusal) = (self.0.options.subscribe_timeout, || subscription.refusal());
        let confirmed = backend.interest.confirmed(name, limit, refusal).await;
        confirmed.map_err(|error| self.at(operation, name.as_str(), error))?;
        subscription.begin_here();
        Ok(())
    }

    pub(crate) fn note_left(&self, channel: &ChannelName) {
        if let Some(backend) = &self.0.backend {
            backend.interest.note_left(channel);
        }
    }

    /// Runs a task of this broker, which ends by itself when [`abort`](Self::abort) is cancelled.
    pub(crate) fn spawn(&self, what: &str, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let runtime = self.0.runtime.handle(what)?;
        self.0.tasks.spawn_on(task, &runtime);
        Ok(())
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

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Weak<session::Shared>>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget_session(&self, id: u64, identity: Option<&Identity>) {
        let session = self.sessions().remove(&id);
        drop(session);
        if let Some(identity) = identity {
            self.0.register.forget(id, identity);
        }
    }

    /// The id of this node, new at every start.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.0.node
    }

    /// The backend's name: `redis`; `None` for a local broker.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend.as_ref().map(|backend| backend.driver.name())
    }

    /// What the backend promises beyond the contract; `None` for a local broker.
    #[must_use]
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.0.backend.as_ref().map(|backend| backend.driver.capabilities())
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// The state of the receive path, now. When the broker's runtime is blocked or not driven, nothing keeps
    /// the state up to date: then it is [`State::Connecting`], with that as the last error.
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
                health.enter(State::Connecting);
            }
        }
        health
    }

    /// The state of the receive path, now and at every change. For whoever shows it, or takes a server out of
    /// rotation.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::State;
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut changes = broker.health_changes();
    /// assert_eq!(changes.next().await.map(|health| health.state), Some(State::Connected));
    /// broker.close().await;
    /// assert_eq!(changes.next().await.map(|health| health.state), Some(State::Closed));
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
                State::Connecting => {}
                State::Draining | State::Closed => return Err(self.closed_error()),
                State::Local | State::Connected => return Ok(()),
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
