//! How a broker starts: alone, in the background, or once its link is up.

use std::sync::{Arc, Mutex, atomic::AtomicU64};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Backend, Broker, Shared, ending::Ending, shutdown::Supervised};
use crate::{
    Error, Health, NodeId, Options, Result,
    driver::Driver,
    health::ConnectionState,
    hub::Hub,
    metrics::Meter,
    request::replies::Replies,
    revocation::{log_state::Follower, registry::Registry},
    runtime::Runtime,
    supervisor::{
        Receivers, Supervisor, chunks::Chunks, outbox::Outbox, probe::Probe, subscriptions::Subscriptions,
    },
    wire::names::Names,
};

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
        let health = watch::Sender::new(Health::new(ConnectionState::Local));
        Self::new(Options::default(), None, health, Runtime::default()).0
    }

    /// Starts a broker over a driver. It connects in the background, for as long as it takes;
    /// [`ready`](Self::ready) waits for it. Does no I/O itself.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for options out of bounds, or outside a tokio runtime.
    pub fn start(driver: Arc<dyn Driver>, options: Options) -> Result<Self> {
        options.check()?;
        let runtime = Runtime::current("a broker")?;
        let health = watch::Sender::new(Health::new(ConnectionState::Connecting));
        let (broker, supervisor) = Self::new(options, Some(driver), health, runtime.clone());
        if let (Some(supervisor), Some(backend)) = (supervisor, &broker.0.backend) {
            let (tasks, runtime) = (&broker.0.tasks, runtime.handle("a broker")?);
            let watchdog = tasks.spawn_on(Arc::clone(&backend.outbox).watch(), &runtime).abort_handle();
            let supervised = Supervised::new(&broker, backend, watchdog).run(supervisor);
            tasks.spawn_on(supervised, &runtime);
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
        let decided = |health: &Health| health.failures > 0 || health.state != ConnectionState::Connecting;
        let failed = match health.wait_for(decided).await {
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

    pub(super) fn new(
        options: Options,
        driver: Option<Arc<dyn Driver>>,
        health: watch::Sender<Health>,
        runtime: Runtime,
    ) -> (Self, Option<Supervisor>) {
        let node = NodeId::random();
        let hub = Arc::new(Hub::new(options.queue_capacity, options.queue_bytes));
        let stop = CancellationToken::new();
        let names = Names::new(&options.prefix);
        let replies = Arc::new(Replies::default());
        let registry = Arc::new(Registry::new(node, options.clock_skew, options.revocation_retention));
        let backend = driver.map(|driver| Backend {
            driver,
            subscriptions: Arc::new(Subscriptions::new(options.unsubscribe_delay, runtime.clone())),
            outbox: Arc::new(Outbox::new(&options, node, names.clone(), runtime.clone())),
            probe: Arc::new(Probe::new(node, &names)),
            follower: Arc::new(Follower::new(node, Arc::clone(&registry), &options)),
            malformed: Arc::default(),
        });
        let meter = Meter::new(backend.as_ref().map_or("none", |backend| backend.driver.name()));
        let supervisor = backend.as_ref().map(|backend| Supervisor {
            driver: Arc::clone(&backend.driver),
            receivers: Receivers {
                hub: Arc::clone(&hub),
                subscriptions: Arc::clone(&backend.subscriptions),
                names,
                probe: Arc::clone(&backend.probe),
                follower: Arc::clone(&backend.follower),
                replies: Arc::clone(&replies),
                malformed: Arc::clone(&backend.malformed),
                raw: Arc::new(options.raw.clone()),
                meter: meter.clone(),
            },
            outbox: Arc::clone(&backend.outbox),
            health: health.clone(),
            options: options.clone(),
            chunks: Chunks::default(),
            stop: stop.clone(),
        });
        let broker = Self(Arc::new(Shared {
            node,
            options,
            hub,
            backend,
            next_session: AtomicU64::new(1), // 0 is none
            meter,
            health,
            sessions: Mutex::default(),
            registry,
            replies,
            tasks: TaskTracker::new(),
            runtime,
            ending: Ending::default(),
            stop,
            abort: CancellationToken::new(),
        }));
        (broker, supervisor)
    }
}
