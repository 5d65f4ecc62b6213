//! SentinelHarness: three servers and three Sentinels, and for every node a fault proxy before each of the six.

use std::{
    collections::HashSet,
    net::SocketAddr,
    ops::Deref,
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
    watch::Watch,
};
use broker_core::{
    Backend, Capabilities, Options,
    driver::{Confirmation, OrderGuarantee, PermissionScope, Reach},
};
use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value};

use crate::servers::{
    Server, Source,
    redis::{
        Redis,
        config::RedisConfig,
        process::{self, RedisServer},
        sentinel::{MASTER, RedisSentinel, ask, url_at},
    },
};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_redis::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(SentinelHarness::start(needs).await?) as Box<dyn Harness>) })
})
.named("redis-sentinel")
.on_request(super::ACROSS_MEMBERS)
.available(|| Box::pin(async { available() }))
.end(|| SHARED.end());

/// The user of the nodes, and its password. Servers and Sentinels are another one's clients.
const NODE: &str = "node";
const FAIL_OVER: &str = "fail over on purpose";

/// Where cases are that leave it as it is.
static SHARED: Pool<RedisSentinel> = Pool::new();

fn available() -> Result<(), String> {
    if !Source::is_process() {
        return Err("servers and Sentinels have to be processes of this machine".to_owned());
    }
    process::available()
}

#[derive(Debug)]
enum Place {
    Shared(Lease<RedisSentinel>),
    Own(RedisSentinel),
}

impl Deref for Place {
    type Target = RedisSentinel;

    fn deref(&self) -> &RedisSentinel {
        match self {
            Self::Shared(lease) => lease,
            Self::Own(all) => all,
        }
    }
}

#[derive(Debug)]
struct SentinelHarness {
    all: Place,
    /// Keeps cases apart where they share.
    prefix: String,
    lines: ProxyLines,
    watch: Watch,
}

impl SentinelHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        static CASES: AtomicU64 = AtomicU64::new(1);
        let config = RedisConfig::default().user(&format!("{NODE} on >{NODE} ~* &* +@all"));
        let start = |config| RedisSentinel::start(config, RedisConfig::default());
        let alters =
            |need: &Need| matches!(need, Need::OwnServer | Need::Durable | Need::Permissions | Need::Process);
        let (all, prefix) = if needs.contains(&Need::Durable) {
            (Place::Own(start(config.durable()).await?), String::new())
        } else if needs.iter().any(alters) {
            (Place::Own(start(config).await?), String::new())
        } else {
            let prefix = format!("case-{}", CASES.fetch_add(1, Ordering::Relaxed));
            (Place::Shared(SHARED.lease(&[], || start(config)).await?), prefix)
        };
        Ok(Self { all, prefix, lines: ProxyLines::default(), watch: Watch::new() })
    }

    fn on_wire(&self, channel: &str) -> String {
        if self.prefix.is_empty() { channel.to_owned() } else { format!("{}.{channel}", self.prefix) }
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        self.each().map(Server::addr).collect()
    }

    /// The servers, and then the Sentinels.
    fn each(&self) -> impl Iterator<Item = &RedisServer> {
        self.all.servers().iter().chain(self.all.sentinels())
    }

    fn member(&self, number: usize) -> Result<&RedisServer, String> {
        self.each().nth(number).ok_or_else(|| format!("there is no member {number}"))
    }

    /// The URL of all as reached through these addresses, in the same order.
    fn url_at(&self, addrs: &[SocketAddr]) -> String {
        url_at("redis+sentinel", &format!("{NODE}:{NODE}@"), &addrs[self.all.servers().len()..], "")
    }

    async fn of_master<T: FromRedisValue>(&self, args: &[&[u8]]) -> Result<T, String> {
        let value: Value = self.all.master().await?.command(args).await?;
        T::from_redis_value(value).map_err(|error| error.to_string())
    }

    /// The same command at each server.
    async fn of_servers<T: FromRedisValue>(&self, args: &[&[u8]]) -> Result<Vec<T>, String> {
        let values = try_join_all(self.all.servers().iter().map(|server| server.command(args))).await?;
        let all =
            values.into_iter().map(|value| T::from_redis_value(value).map_err(|error| error.to_string()));
        all.collect()
    }

    async fn allow(&self, rules: &[&str]) -> Result<(), String> {
        let args: Vec<&[u8]> =
            ["ACL", "SETUSER", NODE].iter().chain(rules).map(|word| word.as_bytes()).collect();
        self.of_servers::<()>(&args).await.map(drop)
    }
}

#[async_trait]
impl Harness for SentinelHarness {
    fn backend(&self) -> Backend {
        broker_redis::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn options(&self) -> Options {
        let mut options = quick_options();
        options.prefix.clone_from(&self.prefix);
        options
    }

    fn url(&self) -> String {
        self.url_at(&self.addrs())
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add_to_members(&self.addrs(), |addrs| self.url_at(addrs)).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.all.kill().await
    }

    async fn start_server(&self) -> Result<(), String> {
        self.all.start_again().await
    }

    /// The Sentinels first, and last at the end: none of them finds that a server does not answer.
    async fn pause_server(&self) -> Result<(), String> {
        try_join_all(self.all.sentinels().iter().map(Server::pause)).await?;
        try_join_all(self.all.servers().iter().map(Server::pause)).await.map(drop)
    }

    async fn resume_server(&self) -> Result<(), String> {
        try_join_all(self.all.servers().iter().map(Server::resume)).await?;
        try_join_all(self.all.sentinels().iter().map(Server::resume)).await.map(drop)
    }

    async fn drop_links(&self) -> Result<(), String> {
        self.of_servers::<()>(&[b"CLIENT", b"KILL", b"USER", NODE.as_bytes()]).await.map(drop)
    }

    async fn drop_receivers(&self) -> Result<(), String> {
        let command: [&[u8]; 6] = [b"CLIENT", b"KILL", b"USER", NODE.as_bytes(), b"TYPE", b"pubsub"];
        self.of_servers::<()>(&command).await.map(drop)
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let pattern = self.on_wire("*");
        let names: HashSet<String> = self.of_master(&[b"PUBSUB", b"CHANNELS", pattern.as_bytes()]).await?;
        let others = |name: &str| is_core_own(name) || name.starts_with("__sentinel__");
        let mut names: Vec<String> = names.into_iter().filter(|name| !others(name)).collect();
        names.sort_unstable();
        Ok(Some(names))
    }

    async fn connections(&self) -> Result<usize, String> {
        let lists: Vec<String> = self.of_servers(&[b"CLIENT", b"LIST"]).await?;
        let ours = format!(" user={NODE} ");
        Ok(lists.iter().flat_map(|list| list.lines()).filter(|line| line.contains(&ours)).count())
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        self.of_master(&[b"PUBLISH", self.on_wire(channel).as_bytes(), bytes]).await
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.of_master(&[b"DEL", self.on_wire("$revocations").as_bytes()]).await
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.of_master(&[b"XTRIM", self.on_wire("$revocations").as_bytes(), b"MAXLEN", b"0"]).await
    }

    async fn save_data(&self) -> Result<(), String> {
        try_join_all(self.all.servers().iter().map(Server::save_data)).await.map(drop)
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.all.kill().await?;
        try_join_all(self.all.servers().iter().map(Server::restore_data)).await?;
        self.all.start_again().await
    }

    async fn allow_only(&self, start: &str) -> Result<(), String> {
        let (own, start) = (format!("&{}", self.on_wire("$*")), format!("&{}*", self.on_wire(start)));
        self.allow(&["resetchannels", &own, &start]).await
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.allow(&["resetchannels"]).await
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.allow(&["allchannels"]).await
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }
}

#[async_trait]
impl Members for SentinelHarness {
    fn count(&self) -> usize {
        self.each().count()
    }

    async fn kill(&self, member: usize) -> Result<(), String> {
        self.member(member)?.kill().await
    }

    async fn start(&self, member: usize) -> Result<(), String> {
        self.member(member)?.start_again().await
    }

    async fn pause(&self, member: usize) -> Result<(), String> {
        self.member(member)?.pause().await
    }

    async fn resume(&self, member: usize) -> Result<(), String> {
        self.member(member)?.resume().await
    }

    async fn leader(&self) -> Result<usize, String> {
        let master = self.all.master().await?.addr();
        self.each().position(|member| member.addr() == master).ok_or_else(|| format!("{master} is no member"))
    }

    fn faults(&self) -> &'static [&'static str] {
        &[FAIL_OVER]
    }

    async fn suffer(&self, fault: &str, _: Duration) -> Result<(), String> {
        if fault != FAIL_OVER {
            return Err(format!("nothing is called {fault:?}"));
        }
        let old = self.all.master().await?.addr();
        let sentinel = self.all.sentinels().first().ok_or("no Sentinel")?;
        ask::<()>(sentinel, &format!("SENTINEL FAILOVER {MASTER}")).await?;
        self.all.master_after(old).await.map(drop)
    }

    async fn whole(&self) -> Result<(), String> {
        self.all.ready().await
    }
}
