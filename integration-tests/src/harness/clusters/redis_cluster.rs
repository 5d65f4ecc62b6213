//! RedisClusterHarness: a Redis Cluster of the case's own, and a fault proxy before every member for each node.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    entry::Start,
    harness::{Harness, Members, is_core_own, quick_options},
    line::{Line, ProxyLines},
    pool::{Lease, Pool},
    watch::Watch,
};
use broker_core::{Backend, Capabilities, Confirmation, Options, OrderGuarantee, PermissionScope, Reach};
use futures_util::future::try_join_all;

use crate::servers::{
    Server, Source,
    redis::{
        Redis as _,
        cluster::{MASTERS, MEMBERS, RedisCluster},
        config::RedisConfig,
        process::{self, RedisServer},
    },
};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerPublisher)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// The entry of the suite for plain channels.
pub const ENTRY: Entry = entry("redis-cluster", CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(RedisClusterHarness::start(needs, false).await?) as Box<dyn Harness>) })
})
.lacks(|need| {
    let passed_on = "what two members have taken arrives in any order";
    (need == Need::PostsInTurn).then_some(passed_on)
});

/// An entry for one way through a cluster.
pub(super) const fn entry(name: &'static str, capabilities: Capabilities, start: Start) -> Entry {
    Entry::new(broker_redis::BACKEND, capabilities, start)
        .named(name)
        .on_request(super::ACROSS_MEMBERS)
        .available(|| Box::pin(async { available() }))
        .end(|| SHARED.end())
}

fn available() -> Result<(), String> {
    if !Source::is_process() {
        return Err("the members have to be processes of this machine".to_owned());
    }
    process::available()
}

/// How long a member of a shared cluster may be silent. On a busy machine a second passes now and then, and cases in which
/// nothing breaks would see a fail-over.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where cases are that leave it as it is.
static SHARED: Pool<RedisCluster> = Pool::new();

#[derive(Debug)]
enum Place {
    Shared(Lease<RedisCluster>),
    Own(RedisCluster),
}

impl Deref for Place {
    type Target = RedisCluster;

    fn deref(&self) -> &RedisCluster {
        match self {
            Self::Shared(lease) => lease,
            Self::Own(cluster) => cluster,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct RedisClusterHarness {
    cluster: Place,
    sharded: bool,
    /// The user of the nodes, and its password. The members are another one's clients.
    user: String,
    /// Keeps cases apart where they share.
    prefix: String,
    lines: ProxyLines,
    watch: Watch,
    /// How many nodes there have been.
    nodes: AtomicUsize,
}

impl RedisClusterHarness {
    pub(super) async fn start(needs: &[Need], sharded: bool) -> Result<Self, String> {
        static CASES: AtomicUsize = AtomicUsize::new(1);
        let user = format!("case-{}", CASES.fetch_add(1, Ordering::Relaxed));
        let rules = format!("on >{user} ~* &* +@all");
        let own = RedisConfig::default().user(&format!("{user} {rules}"));
        let (cluster, prefix) = if needs.contains(&Need::Durable) {
            (Place::Own(RedisCluster::start(own.durable()).await?), String::new())
        } else if needs.iter().any(|need| matches!(need, Need::OwnServer | Need::Process)) {
            (Place::Own(RedisCluster::start(own).await?), String::new())
        } else {
            let start = || RedisCluster::start_with(RedisConfig::default(), PATIENCE);
            let shared = SHARED.lease(&[], start).await?;
            (Place::Shared(shared), user.clone())
        };
        let (lines, nodes) = (ProxyLines::default(), AtomicUsize::new(0));
        let watch = Watch::new();
        let harness = Self { cluster, sharded, user, prefix, lines, watch, nodes };
        if matches!(harness.cluster, Place::Shared(_)) {
            harness.user_may(&rules).await?;
        }
        Ok(harness)
    }

    /// Every member has its own list of users.
    async fn user_may(&self, rules: &str) -> Result<(), String> {
        self.cluster.ask_all(&format!("ACL SETUSER {} {rules}", self.user)).await
    }

    fn on_wire(&self, channel: &str) -> String {
        if self.prefix.is_empty() { channel.to_owned() } else { format!("{}.{channel}", self.prefix) }
    }

    fn url_at(&self, hosts: &[SocketAddr]) -> String {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let query = if self.sharded { "?sharded=true" } else { "" };
        format!("redis+cluster://{0}:{0}@{1}/{query}", self.user, hosts.join(","))
    }

    fn all(&self) -> impl Iterator<Item = &RedisServer> {
        (0..MEMBERS).map(|n| self.cluster.member(n))
    }

    /// The master that serves the slot of a name.
    async fn owner(&self, name: &str) -> Result<usize, String> {
        self.cluster.owner(0, RedisCluster::slot(name)).await
    }

    fn log(&self) -> String {
        self.on_wire("$revocations")
    }

    /// What every member's list of the clients of our nodes has.
    async fn clients(&self) -> Result<usize, String> {
        let start = format!(" user={} ", self.user);
        let mut count = 0;
        for n in 0..MEMBERS {
            let list: String = self.cluster.ask(n, "CLIENT LIST").await?;
            count += list.lines().filter(|line| line.contains(&start)).count();
        }
        Ok(count)
    }
}

#[async_trait]
impl Harness for RedisClusterHarness {
    fn backend(&self) -> Backend {
        broker_redis::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        if self.sharded { super::redis_sharded::CAPABILITIES } else { CAPABILITIES }
    }

    fn options(&self) -> Options {
        let mut options = quick_options();
        options.prefix.clone_from(&self.prefix);
        options
    }

    fn url(&self) -> String {
        let hosts: Vec<SocketAddr> = self.all().take(MASTERS.end).map(Server::addr).collect();
        self.url_at(&hosts)
    }

    /// Each node begins at another master, and learns the others from it.
    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        let members: Vec<SocketAddr> = self.all().map(Server::addr).collect();
        let first = self.nodes.fetch_add(1, Ordering::Relaxed) % MASTERS.end;
        self.lines.add_to_members(&members, |addrs| self.url_at(&addrs[first..=first])).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        try_join_all(self.all().map(|member| member.kill())).await.map(drop)
    }

    async fn start_server(&self) -> Result<(), String> {
        try_join_all(self.all().map(|member| member.start_again())).await?;
        self.cluster.wait_until_whole().await
    }

    async fn pause_server(&self) -> Result<(), String> {
        try_join_all(self.all().map(|member| member.pause())).await.map(drop)
    }

    async fn resume_server(&self) -> Result<(), String> {
        try_join_all(self.all().map(|member| member.resume())).await.map(drop)
    }

    async fn drop_links(&self) -> Result<(), String> {
        self.cluster.ask_all(&format!("CLIENT KILL USER {}", self.user)).await
    }

    async fn drop_receivers(&self) -> Result<(), String> {
        self.cluster.ask_all(&format!("CLIENT KILL USER {} TYPE pubsub", self.user)).await
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let kind = if self.sharded { "SHARDCHANNELS" } else { "CHANNELS" };
        let mut all = BTreeSet::new();
        for n in 0..MEMBERS {
            let names: Vec<String> =
                self.cluster.ask(n, &format!("PUBSUB {kind} {}", self.on_wire("*"))).await?;
            all.extend(names.into_iter().filter(|name| !is_core_own(name)));
        }
        Ok(Some(all.into_iter().collect()))
    }

    async fn connections(&self) -> Result<usize, String> {
        self.clients().await
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        let channel = self.on_wire(channel);
        let (command, n) =
            if self.sharded { ("SPUBLISH", self.owner(&channel).await?) } else { ("PUBLISH", 0) };
        self.cluster.member(n).command(&[command.as_bytes(), channel.as_bytes(), bytes]).await.map(drop)
    }

    async fn wipe_log(&self) -> Result<(), String> {
        let owner = self.owner(&self.log()).await?;
        self.cluster.ask(owner, &format!("DEL {}", self.log())).await
    }

    async fn trim_log(&self) -> Result<(), String> {
        let owner = self.owner(&self.log()).await?;
        self.cluster.ask(owner, &format!("XTRIM {} MAXLEN 0", self.log())).await
    }

    async fn save_data(&self) -> Result<(), String> {
        try_join_all(self.all().map(|member| member.save_data())).await.map(drop)
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.kill_server().await?;
        try_join_all(self.all().map(|member| member.restore_data())).await?;
        self.cluster.wait_until_whole().await
    }

    async fn allow_only(&self, start: &str) -> Result<(), String> {
        let (own, start) = (self.on_wire("$*"), self.on_wire(start));
        self.user_may(&format!("resetchannels &{own} &{start}*")).await
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.user_may("resetchannels").await
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.user_may("allchannels").await
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }
}

const FAIL_OVER: &str = "fail over on purpose";
const MOVE_A_SLOT: &str = "move a slot";

#[async_trait]
impl Members for RedisClusterHarness {
    fn count(&self) -> usize {
        MEMBERS
    }

    async fn kill(&self, member: usize) -> Result<(), String> {
        self.cluster.member(member).kill().await
    }

    async fn start(&self, member: usize) -> Result<(), String> {
        self.cluster.member(member).start_again().await
    }

    async fn pause(&self, member: usize) -> Result<(), String> {
        self.cluster.member(member).pause().await
    }

    async fn resume(&self, member: usize) -> Result<(), String> {
        self.cluster.member(member).resume().await
    }

    /// The master that keeps the log.
    async fn leader(&self) -> Result<usize, String> {
        self.owner(&self.log()).await
    }

    fn faults(&self) -> &'static [&'static str] {
        &[FAIL_OVER, MOVE_A_SLOT]
    }

    async fn suffer(&self, fault: &str, _: Duration) -> Result<(), String> {
        if fault == FAIL_OVER {
            for n in 0..MEMBERS {
                if !self.cluster.is_master(n).await? {
                    return self.cluster.ask(n, "CLUSTER FAILOVER").await;
                }
            }
            return Err("no replica".to_owned());
        }
        let slot = RedisCluster::slot(&self.on_wire("news"));
        let from = self.cluster.owner(0, slot).await?;
        let mut to = from;
        for other in [0, 5000, 10_000, 16_000] {
            let owner = self.cluster.owner(0, other).await?;
            to = if owner == from { to } else { owner };
        }
        self.cluster.move_slot(slot, from, to).await
    }

    async fn whole(&self) -> Result<(), String> {
        self.cluster.wait_until_whole().await
    }
}
