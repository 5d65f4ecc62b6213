//! Harness: one cluster for one case, whatever the backend.

use std::{any::Any, fmt, ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use broker_core::{
    Backend, Broker, BrokerUrl, Error, ErrorKind, Options,
    driver::{Capabilities, Driver},
};

use crate::{line::Line, wait::eventually, watch::Watch};

/// One cluster for one case, and nodes that each have a line of their own to it. The server may be another's
/// too, unless the case [needs its own](crate::case::Need::OwnServer); it then receives nothing of the others.
///
/// Dropping it ends a server that was started for it. Drop it inside the Tokio runtime in which it was started.
#[async_trait]
pub trait Harness: Any + fmt::Debug + Send + Sync {
    /// The backend under test.
    fn backend(&self) -> Backend;

    /// What its links promise beyond the contract, as in its [`Entry`](crate::Entry).
    fn capabilities(&self) -> Capabilities;

    /// Options for quick tests that raise no false alarm on a loaded machine. Half-open links are found
    /// within [`QUICK_HEARTBEAT`] plus a `heartbeat_timeout` of 5 s: a case about them sets a shorter one.
    fn options(&self) -> Options {
        quick_options()
    }

    /// The driver of every node, with something around it. For tests of the suite itself.
    fn around(&self, driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
        driver
    }

    /// The server's URL, around any line.
    fn url(&self) -> String;

    /// A line to the server that no other node uses.
    async fn line(&self) -> Result<Arc<dyn Line>, String>;

    /// Ends the server at once: every link is lost, and nobody answers any more.
    async fn kill_server(&self) -> Result<(), String>;

    /// Starts a killed server again: empty, or with its data where the case [needs](crate::case::Need::Durable) that.
    async fn start_server(&self) -> Result<(), String>;

    /// Freezes the server: links stay open, nothing answers.
    async fn pause_server(&self) -> Result<(), String>;

    /// Ends a pause. Links that lived through it may live on, or be found dead.
    async fn resume_server(&self) -> Result<(), String>;

    /// The server ends every link once, and is there for new ones.
    async fn drop_links(&self) -> Result<(), String>;

    /// The server ends the connections through which nodes receive, once, and only those, as far as they are apart from
    /// the others.
    async fn drop_receivers(&self) -> Result<(), String> {
        self.drop_links().await
    }

    /// What core tells the links of this cluster's nodes. A harness keeps a [`Watch`], and hands it out here.
    fn watch(&self) -> &Watch;

    /// The names on the wire that have a subscriber, as the server says, sorted. Core's own (`$…`) are left out. `None`,
    /// as without an implementation: it does not say, and the [watch](Self::watch) alone knows.
    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        Ok(None)
    }

    /// How many connections of nodes the server has; a link has one or more.
    async fn connections(&self) -> Result<usize, String>;

    /// Publishes bytes that are no frame of ours, as another program would: of any length up to 4 MB, and to names that
    /// no node would use. With a name that the server cannot have it does nothing, and succeeds.
    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String>;

    /// Deletes the revocation log at the server, as an operator would; links live on.
    async fn wipe_log(&self) -> Result<(), String>;

    /// Drops the records that the revocation log has now, and keeps the log; links live on.
    async fn trim_log(&self) -> Result<(), String>;

    /// Keeps a copy of the server's data. Needs [`Need::Durable`](crate::case::Need::Durable).
    async fn save_data(&self) -> Result<(), String>;

    /// Kills the server, puts the copy of its data in their place, and starts it again. Needs [`Need::Durable`](crate::case::Need::Durable).
    async fn restore_data(&self) -> Result<(), String>;

    /// From now on the server refuses every channel that does not begin with `start`, but not the broker's own. Needs
    /// [`Need::Permissions`](crate::case::Need::Permissions); links that are open may be lost by it.
    async fn allow_only(&self, start: &str) -> Result<(), String>;

    /// From now on the server refuses every channel, the broker's own among them. As [`allow_only`](Self::allow_only).
    async fn allow_nothing(&self) -> Result<(), String>;

    /// From now on the server refuses no channel. As [`allow_only`](Self::allow_only).
    async fn allow_everything(&self) -> Result<(), String>;

    /// The members of the backend's own cluster, where there are several. What is said above of the server is done to
    /// all of them.
    fn members(&self) -> Option<&dyn Members> {
        None
    }
}

/// The members of a backend's own cluster, of which one alone can fail.
#[async_trait]
pub trait Members: Send + Sync {
    /// How many there are. They are numbered from 0, and keep their numbers.
    fn count(&self) -> usize;

    /// Ends a member at once, and waits until it is gone.
    async fn kill(&self, member: usize) -> Result<(), String>;

    /// Starts a killed member again, with the data that it had.
    async fn start(&self, member: usize) -> Result<(), String>;

    /// Freezes a member: connections stay open, nothing answers.
    async fn pause(&self, member: usize) -> Result<(), String>;

    /// Ends a pause.
    async fn resume(&self, member: usize) -> Result<(), String>;

    /// The member on which most depends: a master, or a leader.
    async fn leader(&self) -> Result<usize, String>;

    /// What else can happen to a cluster of this kind, by name: `fail over on purpose`.
    fn faults(&self) -> &'static [&'static str] {
        &[]
    }

    /// Does one of [these](Self::faults), and ends it after about `pause`, where it has an end.
    async fn suffer(&self, fault: &str, pause: Duration) -> Result<(), String> {
        Err(format!("nothing is called {fault:?}, which is to last {pause:?}"))
    }

    /// Waits until every member is there, and the cluster could bear another fault.
    async fn whole(&self) -> Result<(), String>;
}

/// How long a server and core may disagree on who is subscribed.
const AGREEMENT: Duration = Duration::from_secs(15);

/// How often the nodes of the suite test their links.
pub const QUICK_HEARTBEAT: Duration = Duration::from_millis(200);

/// The driver of a backend for a URL, and the options with those of the URL. Does no I/O.
pub(crate) fn prepare(
    backend: Backend,
    url: &str,
    options: Options,
) -> Result<(Arc<dyn Driver>, Options), Error> {
    let url = BrokerUrl::parse(url)?;
    let options = options.with_url(&url)?;
    options.check()?;
    if backend.scheme(url.scheme()).is_none() {
        let (scheme, known) =
            (url.scheme(), backend.schemes.iter().map(|scheme| scheme.name).collect::<Vec<_>>().join(", "));
        let message = format!("url scheme `{scheme}` is not one of {}, which has: {known}", backend.name);
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let driver = (backend.open)(&url).map_err(|error| error.with_backend(backend.name))?;
    Ok((driver, options))
}

/// The options of [`Harness::options`], for a harness that changes some of them.
#[must_use]
pub fn quick_options() -> Options {
    let mut options = Options::default();
    options.heartbeat = QUICK_HEARTBEAT;
    // Who is silent for three of these counts as killed: on a busy machine a node is, now and then, for half a second.
    options.digest_interval = Duration::from_millis(500);
    options.backoff_min = Duration::from_millis(10);
    options.backoff_max = Duration::from_millis(100);
    options.unsubscribe_delay = Duration::from_millis(30);
    options
}

/// Whether a name on the wire is one of the broker's own channels, with whatever prefix.
#[must_use]
pub fn is_core_own(wire: &str) -> bool {
    wire.starts_with('$')
        || wire.contains(".$node.")
        || wire.ends_with(".$revocations")
        || wire.ends_with(".$digests")
}

impl dyn Harness + '_ {
    /// A fresh node, connected.
    ///
    /// # Errors
    /// No line, or no link.
    pub async fn node(&self) -> Result<Node, String> {
        self.node_with(|_| {}).await
    }

    /// A fresh node with other options, connected.
    ///
    /// # Errors
    /// No line, or no link.
    pub async fn node_with(&self, change: impl FnOnce(&mut Options) + Send) -> Result<Node, String> {
        let node = self.open_node(change).await?;
        node.broker.ready().await.map_err(|error| error.to_string())?;
        Ok(node)
    }

    /// A fresh node that connects in the background.
    ///
    /// # Errors
    /// No line, or options out of bounds.
    pub async fn open_node(&self, change: impl FnOnce(&mut Options) + Send) -> Result<Node, String> {
        let line = self.line().await?;
        self.open_on(line, change)
    }

    /// A node on a line that exists already, connecting in the background.
    ///
    /// # Errors
    /// Options out of bounds.
    pub fn open_on(&self, line: Arc<dyn Line>, change: impl FnOnce(&mut Options)) -> Result<Node, String> {
        let mut options = self.options();
        change(&mut options);
        let broker = self.open(&line.url(), options).map_err(|error| error.to_string())?;
        Ok(Node { broker, line })
    }

    /// A fresh node, connected through a driver around that of its backend.
    ///
    /// # Errors
    /// No line, options out of bounds, or no link.
    pub async fn node_through(
        &self,
        change: impl FnOnce(&mut Options) + Send,
        around: impl FnOnce(Arc<dyn Driver>) -> Arc<dyn Driver> + Send,
    ) -> Result<Node, String> {
        let line = self.line().await?;
        let mut options = self.options();
        change(&mut options);
        let (driver, options) = self.prepare(&line.url(), options).map_err(|error| error.to_string())?;
        let broker = Broker::connect(around(driver), options).await.map_err(|error| error.to_string())?;
        Ok(Node { broker, line })
    }

    /// A broker at a URL of the backend, connecting in the background.
    ///
    /// # Errors
    /// The URL or an option is wrong.
    pub fn open(&self, url: &str, options: Options) -> Result<Broker, Error> {
        let (driver, options) = self.prepare(url, options)?;
        Broker::start(driver, options)
    }

    /// A broker at a URL of the backend, connected.
    ///
    /// # Errors
    /// The URL or an option is wrong, or there is no link.
    pub async fn connect(&self, url: &str, options: Options) -> Result<Broker, Error> {
        let (driver, options) = self.prepare(url, options)?;
        Broker::connect(driver, options).await
    }

    /// The driver for a URL, with what the harness puts around it, and the options with those of the URL.
    fn prepare(&self, url: &str, options: Options) -> Result<(Arc<dyn Driver>, Options), Error> {
        let (driver, options) = prepare(self.backend(), url, options)?;
        Ok((self.watch().around(self.around(driver)), options))
    }

    /// The names on the wire that have a subscriber, sorted. Core's own (`$…`) are left out. Where the server says it, that
    /// is its answer, and it comes to agree with what core told the links; else it is what core told them.
    ///
    /// # Errors
    /// The server does not answer, or it says something else for long.
    pub async fn subscribed_channels(&self) -> Result<Vec<String>, String> {
        let Some(answer) = self.channels_at_server().await? else { return Ok(self.watch().channels()) };
        if answer != self.watch().channels() {
            // Either may be a moment ahead. What the server said at first counts: a case may not wait for it.
            eventually("the server to agree with core", AGREEMENT, || async {
                let (server, core) = (self.channels_at_server().await?, self.watch().channels());
                if server.as_ref() == Some(&core) {
                    return Ok(());
                }
                Err(format!("subscribed at the server: {server:?}, by core: {core:?}"))
            })
            .await?;
        }
        Ok(answer)
    }

    /// Kills the server and starts it again; empty, unless the case needs it to be durable.
    ///
    /// # Errors
    /// It does not end, or not start.
    pub async fn restart_server(&self) -> Result<(), String> {
        self.kill_server().await?;
        self.start_server().await
    }
}

/// A node: a broker, and the line it is connected through.
#[derive(Debug)]
pub struct Node {
    /// The broker.
    pub broker: Broker,
    /// Its line.
    pub line: Arc<dyn Line>,
}

impl Deref for Node {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}
