//! Harness: one cluster for one case, whatever the backend; and the list of backends.

mod memory;
pub(crate) mod nats;
pub(crate) mod rabbitmq;
mod redis;

use std::{any::Any, fmt, ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{
    Backend, Broker, BrokerUrl, Options,
    driver::{Capabilities, Driver},
};
use futures_util::future::BoxFuture;

use crate::{case::Need, faulty::faults::Wrong, proxy::Proxy};

/// Every backend of the suite: a file below `harness/`, a `mod` and a line here.
pub const HARNESSES: &[Entry] = &[memory::ENTRY, nats::ENTRY, redis::ENTRY, rabbitmq::ENTRY];

/// How the suite comes to one backend.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The backend under test.
    pub backend: Backend,
    /// A URL of that backend, to make a driver from and ask it what it declares. Nobody connects to it.
    pub example: &'static str,
    /// Whether a server can be had; if not, why, and what to do about it.
    pub available: fn() -> BoxFuture<'static, Result<(), String>>,
    /// Why it cannot give what a case needs; `None` when it can.
    pub lacks: fn(Need) -> Option<&'static str>,
    /// Starts a cluster for one case.
    pub start: Start,
    /// Ends what outlives a case. Called once, when no case runs any more.
    pub end: fn(),
}

/// A cluster on the memory bus whose nodes have a driver with something wrong. For tests of the suite itself.
#[must_use]
pub fn faulty_memory(wrong: Wrong) -> Box<dyn Harness> {
    Box::new(memory::MemoryHarness::new(wrong))
}

/// Starts a cluster for a case with these needs.
pub type Start = fn(&'static [Need]) -> BoxFuture<'static, Result<Box<dyn Harness>, String>>;

impl Entry {
    /// The name in the names of cases: `redis`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.backend.name
    }

    /// What the driver declares beyond the contract.
    ///
    /// # Panics
    /// The example is no URL of the backend.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let driver = BrokerUrl::parse(self.example).and_then(|url| (self.backend.open)(&url));
        driver.expect("the example is a URL of its backend").capabilities()
    }
}

/// One cluster for one case, and nodes that each have a line of their own to it. The server may be another's
/// too, unless the case [needs its own](Need::OwnServer); it then hears nothing of the others.
///
/// Dropping it ends a server that was started for it. Drop it inside the Tokio runtime in which it was started.
#[async_trait]
pub trait Harness: Any + fmt::Debug + Send + Sync {
    /// The backend's name.
    fn backend(&self) -> &'static str;

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

    /// Starts a killed server again: empty, or with its data where the case [needs](Need::Durable) that.
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

    /// The names on the wire that have a subscriber at the server, sorted. Core's own (`$…`) are left out.
    async fn subscribed_channels(&self) -> Result<Vec<String>, String>;

    /// How many connections of nodes the server has; a link has one or more.
    async fn connections(&self) -> Result<usize, String>;

    /// Publishes bytes that are no frame of ours, as another program would.
    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String>;

    /// Deletes the revocation log at the server, as an operator would; links live on.
    async fn wipe_log(&self) -> Result<(), String>;

    /// Drops the records that the revocation log has now, and keeps the log; links live on.
    async fn trim_log(&self) -> Result<(), String>;

    /// Keeps a copy of the server's data. Needs [`Need::Durable`].
    async fn save_data(&self) -> Result<(), String>;

    /// Kills the server, puts the copy of its data in their place, and starts it again. Needs [`Need::Durable`].
    async fn restore_data(&self) -> Result<(), String>;

    /// From now on the server refuses every channel that does not begin with `start`. Needs
    /// [`Need::Permissions`]; links that are open may be lost by it.
    async fn allow_only(&self, start: &str) -> Result<(), String>;

    /// From now on the server refuses every channel, the broker's own among them. As [`allow_only`](Self::allow_only).
    async fn allow_nothing(&self) -> Result<(), String>;

    /// From now on the server refuses no channel. As [`allow_only`](Self::allow_only).
    async fn allow_everything(&self) -> Result<(), String>;
}

/// How often the nodes of the suite test their links.
pub const QUICK_HEARTBEAT: Duration = Duration::from_millis(200);

pub(crate) fn quick_options() -> Options {
    let mut options = Options::default();
    options.heartbeat = QUICK_HEARTBEAT;
    options.digest_interval = QUICK_HEARTBEAT;
    options.backoff_min = Duration::from_millis(10);
    options.backoff_max = Duration::from_millis(100);
    options.unsubscribe_delay = Duration::from_millis(30);
    options
}

/// Whether a name on the wire is one of core's own channels, with whatever prefix.
fn is_core_own(wire: &str) -> bool {
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
        let opened = BrokerUrl::parse(&line.url()).and_then(|url| {
            let driver = self.around((self.entry_backend().open)(&url)?);
            Broker::start(driver, options.with_url(&url)?)
        });
        Ok(Node { broker: opened.map_err(|error| error.to_string())?, line })
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
        let driver = BrokerUrl::parse(&line.url()).and_then(|url| (self.entry_backend().open)(&url));
        let driver = around(self.around(driver.map_err(|error| error.to_string())?));
        let broker = Broker::connect(driver, options).await.map_err(|error| error.to_string())?;
        Ok(Node { broker, line })
    }

    pub(crate) fn entry_backend(&self) -> Backend {
        let entry = HARNESSES.iter().find(|entry| entry.name() == self.backend());
        entry.expect("a harness of a backend of the list").backend
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

/// One node's wire to the server. Dropping it ends what is connected through it.
pub trait Line: fmt::Debug + Send + Sync {
    /// The server's URL by way of this line.
    fn url(&self) -> String;

    /// Loses the links of this line at once, and refuses new ones until [`heal`](Self::heal).
    fn cut(&self);

    /// Swallows everything in both directions until [`heal`](Self::heal); nobody is told. What lived through
    /// it is dead for good.
    fn stall(&self);

    /// Swallows what comes from the server, as far as the backend knows directions; else as
    /// [`stall`](Self::stall).
    fn stall_downstream(&self) {
        self.stall();
    }

    /// Ends the fault.
    fn heal(&self);
}

/// A line through a fault proxy: what most servers need.
#[derive(Debug)]
pub(crate) struct ProxyLine {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) url: String,
}

impl Line for ProxyLine {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn cut(&self) {
        self.proxy.cut();
    }

    fn stall(&self) {
        self.proxy.stall();
    }

    fn stall_downstream(&self) {
        self.proxy.stall_downstream();
    }

    fn heal(&self) {
        self.proxy.heal();
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

#[cfg(test)]
mod tests {
    use super::HARNESSES;

    #[tokio::test]
    async fn every_backend_is_among_those_that_the_suite_is_built_with() {
        for entry in HARNESSES {
            let opened = broker::open(entry.example, broker::Options::default());
            assert!(opened.is_ok(), "{}: {opened:?}; is it in `full` in broker/Cargo.toml?", entry.name());
        }
    }
}
