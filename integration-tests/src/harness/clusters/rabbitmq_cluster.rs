//! RabbitClusterHarness: a virtual host of the case's own on a cluster of three, and fault proxies before every member
//! for every node.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    harness::{Harness, Members, is_core_own, quick_options},
    line::{Line, ProxyLines},
    pool::{Lease, Pool},
    wait::{LIMIT, eventually},
    watch::Watch,
};
use broker_core::{Backend, Capabilities, Confirmation, Options, Reach};
use futures_util::future::try_join_all;

use crate::{
    cases,
    harness::rabbitmq::trim,
    servers::{
        self, Source,
        rabbitmq::{
            Side, closing,
            cluster::{Partition, RabbitCluster},
        },
    },
};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster).confirmation(Confirmation::Accepted);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_rabbitmq::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(RabbitClusterHarness::start(needs).await?) as Box<dyn Harness>) })
})
.named("rabbitmq-cluster")
.on_request(&[])
.available(|| Box::pin(servers::rabbitmq::available()))
.lacks(lacks)
.end(|| CLUSTERS.end())
.own(cases::rabbitmq::CLUSTER_CASES);

/// The driver's own default.
const EXCHANGE: &str = "broker";
/// The faults beside those of single members.
const PARTITION: &str = "partition";

static CLUSTERS: Pool<RabbitCluster> = Pool::new();

fn lacks(need: Need) -> Option<&'static str> {
    match need {
        _ if !Source::is_process() => Some("clusters are processes of this machine"),
        Need::Durable => Some("the members keep their data, and nobody has put back older ones"),
        _ => None,
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RabbitClusterHarness {
    cluster: Lease<RabbitCluster>,
    /// Of the virtual host, its user, and the password.
    pub(crate) name: String,
    lines: ProxyLines,
    watch: Watch,
}

impl RabbitClusterHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        static CASES: AtomicU64 = AtomicU64::new(1);
        let cluster = CLUSTERS.lease(needs, || RabbitCluster::start(Partition::Ignore)).await?;
        if cluster.is_own() {
            // As the case before left it.
            revive(&cluster).await?;
        }
        let name = format!("case-{}", CASES.fetch_add(1, Ordering::Relaxed));
        cluster.control(0).add_vhost(&name).await?;
        Ok(Self { cluster, name, lines: ProxyLines::default(), watch: Watch::new() })
    }

    /// The one behind a case about a cluster of RabbitMQ alone.
    pub(crate) fn of(h: &dyn Harness) -> Result<&Self, String> {
        let any: &dyn Any = h;
        any.downcast_ref().ok_or_else(|| format!("a case for a cluster runs on {}", h.backend().name))
    }

    pub(crate) fn cluster(&self) -> &RabbitCluster {
        &self.cluster
    }

    /// The URL of these members.
    pub(crate) fn url_of(&self, members: &[usize]) -> String {
        let addrs: Vec<_> = members.iter().map(|n| self.cluster.addr(*n)).collect();
        self.url_at(&addrs)
    }

    fn url_at(&self, addrs: &[std::net::SocketAddr]) -> String {
        let (name, hosts) = (&self.name, addrs.iter().map(ToString::to_string).collect::<Vec<_>>());
        format!("amqp://{name}:{name}@{}/{name}", hosts.join(","))
    }

    fn all(&self) -> Vec<std::net::SocketAddr> {
        (0..self.cluster.count()).map(|n| self.cluster.addr(n)).collect()
    }

    fn owned(&self) -> Result<(), String> {
        let why = "other cases use this cluster: the case needs one of its own";
        if self.cluster.is_own() { Ok(()) } else { Err(why.to_owned()) }
    }
}

/// Starts what is not running, and joins what is apart.
async fn revive(cluster: &RabbitCluster) -> Result<(), String> {
    for n in 0..cluster.count() {
        // An error where there was no pause.
        let _ = cluster.host(n).resume().await;
        if cluster.control(n).get("overview").await.is_err() {
            cluster.host(n).kill().await?;
            cluster.start_member(n).await?;
        }
    }
    cluster.whole().await
}

const NO_PERMISSIONS: &str = "RabbitMQ knows no permission for single keys of a direct exchange";

#[async_trait]
impl Harness for RabbitClusterHarness {
    fn backend(&self) -> Backend {
        broker_rabbitmq::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn options(&self) -> Options {
        let mut options = quick_options();
        // A server that starts again takes longer than the others; a binding is a transaction of all.
        options.subscribe_timeout = LIMIT;
        options
    }

    fn url(&self) -> String {
        self.url_at(&self.all())
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add_to_members(&self.all(), |addrs| self.url_at(addrs)).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.owned()?;
        try_join_all((0..self.cluster.count()).map(|n| self.cluster.host(n).kill())).await.map(drop)
    }

    async fn start_server(&self) -> Result<(), String> {
        try_join_all((0..self.cluster.count()).map(|n| self.cluster.start_member(n))).await?;
        self.cluster.whole().await
    }

    async fn pause_server(&self) -> Result<(), String> {
        self.owned()?;
        try_join_all((0..self.cluster.count()).map(|n| self.cluster.host(n).pause())).await.map(drop)
    }

    async fn resume_server(&self) -> Result<(), String> {
        try_join_all((0..self.cluster.count()).map(|n| self.cluster.host(n).resume())).await.map(drop)
    }

    async fn drop_links(&self) -> Result<(), String> {
        let control = self.cluster.control(0);
        let before = control.connections(&self.name).await?;
        self.cluster.evaluate(0, &closing(&self.name, Side::Both))?;
        eventually("the connections to end", LIMIT, || async {
            let left = control.connections(&self.name).await?;
            if before.iter().any(|name| left.contains(name)) { Err(format!("{left:?}")) } else { Ok(()) }
        })
        .await
    }

    async fn drop_receivers(&self) -> Result<(), String> {
        self.cluster.evaluate(0, &closing(&self.name, Side::Receiving))
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let mut names = self.cluster.control(0).binding_keys(&self.name, EXCHANGE).await?;
        // The log is bound by a key that is no channel's.
        names.retain(|name| !is_core_own(name) && !name.contains(".."));
        names.sort_unstable();
        names.dedup();
        Ok(Some(names))
    }

    async fn connections(&self) -> Result<usize, String> {
        let control = self.cluster.control(0);
        let (mut last, mut same) = (control.connections(&self.name).await?, 0);
        // The servers write their lists a moment after they opened or closed one.
        while same < 20 {
            let now = control.connections(&self.name).await?;
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        Ok(last.len())
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        self.cluster.control(1).publish(&self.name, EXCHANGE, channel, bytes).await
    }

    async fn wipe_log(&self) -> Result<(), String> {
        let control = self.cluster.control(0);
        for stream in control.streams(&self.name).await? {
            control.call("DELETE", &format!("queues/{}/{stream}", self.name), None).await?;
        }
        Ok(())
    }

    async fn trim_log(&self) -> Result<(), String> {
        let control = self.cluster.control(0);
        for stream in control.streams(&self.name).await? {
            trim(&control, &self.name, &self.url_of(&[0]), &stream).await?;
        }
        Ok(())
    }

    async fn save_data(&self) -> Result<(), String> {
        Err(servers::NO_DATA.to_owned())
    }

    async fn restore_data(&self) -> Result<(), String> {
        Err(servers::NO_DATA.to_owned())
    }

    async fn allow_only(&self, _: &str) -> Result<(), String> {
        Err(NO_PERMISSIONS.to_owned())
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        Err(NO_PERMISSIONS.to_owned())
    }

    async fn allow_everything(&self) -> Result<(), String> {
        Err(NO_PERMISSIONS.to_owned())
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }
}

#[async_trait]
impl Members for RabbitClusterHarness {
    fn count(&self) -> usize {
        self.cluster.count()
    }

    async fn kill(&self, member: usize) -> Result<(), String> {
        self.cluster.host(member).kill().await
    }

    async fn start(&self, member: usize) -> Result<(), String> {
        self.cluster.start_member(member).await
    }

    async fn pause(&self, member: usize) -> Result<(), String> {
        self.cluster.host(member).pause().await
    }

    async fn resume(&self, member: usize) -> Result<(), String> {
        self.cluster.host(member).resume().await
    }

    /// No member is more than another, but the first keeps what was made first.
    async fn leader(&self) -> Result<usize, String> {
        Ok(0)
    }

    fn faults(&self) -> &'static [&'static str] {
        &[PARTITION]
    }

    async fn suffer(&self, fault: &str, pause: Duration) -> Result<(), String> {
        if fault != PARTITION {
            return Err(format!("nothing is called {fault:?}"));
        }
        self.cluster.cut_off(2)?;
        tokio::time::sleep(pause).await;
        // What was told to ignore a partition has to be started again to know what the others do.
        self.cluster.host(2).kill().await?;
        self.cluster.start_member(2).await
    }

    async fn whole(&self) -> Result<(), String> {
        self.cluster.whole().await
    }
}
