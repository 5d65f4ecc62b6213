//! NatsClusterHarness: three NATS servers of the case's own, and fault proxies before each for every node. Node *i*
//! is at server *i*.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    harness::{Harness, Members, is_core_own},
    line::{Line, ProxyLines},
    wait::eventually,
    watch::Watch,
};
use broker_core::{Backend, Capabilities, Confirmation, PermissionScope, Reach};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::servers::{
    self, LIMIT, Source,
    nats::{
        cluster::NatsCluster,
        config::NatsConfig,
        control::{Connection, ask, connections, jetstream, kick, publish_raw, streams},
    },
};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_nats::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(NatsClusterHarness::start(needs).await?) as Box<dyn Harness>) })
})
.named("nats-cluster")
.on_request(super::ACROSS_MEMBERS)
.available(|| Box::pin(servers::nats::available()))
.lacks(|_| (!Source::is_process()).then_some("clusters are processes of this machine"));

/// How long connections may take to come and go.
const STEADY: Duration = Duration::from_secs(1);
/// The fault beside those of single members.
const LAME_DUCK: &str = "lame duck";

/// See the module.
#[derive(Debug)]
struct NatsClusterHarness {
    config: NatsConfig,
    cluster: NatsCluster,
    lines: ProxyLines,
    watch: Watch,
    nodes: AtomicUsize,
}

impl NatsClusterHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        // Other programs may send more than a frame of ours can be.
        let mut config = NatsConfig::default().jetstream().line("max_payload: 8MB");
        config = config.line("lame_duck_duration: 60s").line("lame_duck_grace_period: 30s");
        if needs.contains(&Need::Durable) {
            config = config.durable();
        }
        let cluster = NatsCluster::start(config.clone()).await?;
        cluster.has_log().await?;
        Ok(Self {
            config,
            cluster,
            lines: ProxyLines::default(),
            watch: Watch::new(),
            nodes: AtomicUsize::new(0),
        })
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        self.cluster.members().iter().map(|member| member.addr()).collect()
    }

    /// Has JetStream do something with each of its streams; the log is the only one.
    async fn with_log(&self, verb: &str) -> Result<(), String> {
        let addr = self.cluster.member(0).addr();
        for stream in streams(addr).await? {
            jetstream(addr, &format!("STREAM.{verb}.{stream}"), &json!({})).await?;
        }
        Ok(())
    }

    /// The connections of nodes at all members.
    async fn all_connections(&self) -> Result<Vec<Connection>, String> {
        let each = self.cluster.members().iter().map(|member| connections(member.monitor()));
        Ok(try_join_all(each).await?.concat())
    }
}

#[async_trait]
impl Harness for NatsClusterHarness {
    fn backend(&self) -> Backend {
        broker_nats::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn url(&self) -> String {
        self.cluster.url_of_all()
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        let node = self.nodes.fetch_add(1, Relaxed);
        let server = self.cluster.member(node);
        self.lines.add_to_members(&self.addrs(), |addrs| server.url_at(addrs[node % addrs.len()])).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        try_join_all(self.cluster.members().iter().map(|member| member.kill())).await.map(drop)
    }

    async fn start_server(&self) -> Result<(), String> {
        try_join_all(self.cluster.members().iter().map(|member| member.start_again())).await?;
        self.cluster.complete().await?;
        self.cluster.has_log().await
    }

    async fn pause_server(&self) -> Result<(), String> {
        try_join_all(self.cluster.members().iter().map(|member| member.pause())).await.map(drop)
    }

    async fn resume_server(&self) -> Result<(), String> {
        try_join_all(self.cluster.members().iter().map(|member| member.resume())).await.map(drop)
    }

    async fn drop_links(&self) -> Result<(), String> {
        for member in self.cluster.members() {
            let about = ask(member.monitor(), "varz").await?;
            let id = about["server_id"].as_str().ok_or("a server without an id")?;
            let before = connections(member.monitor()).await?;
            for connection in &before {
                kick(member.addr(), id, connection.id).await?;
            }
            eventually("the links to end", LIMIT, || async {
                let now = connections(member.monitor()).await?;
                let left = now.iter().filter(|one| before.iter().any(|other| other.id == one.id)).count();
                if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
            })
            .await?;
        }
        Ok(())
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let names = self.all_connections().await?.into_iter().flat_map(|connection| connection.subjects);
        let mut names: Vec<String> =
            names.filter(|name| !is_core_own(name) && !name.starts_with("_INBOX.")).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Some(names))
    }

    async fn connections(&self) -> Result<usize, String> {
        // A link that has closed has no subscription left, but a server detects a moment later that it hung up.
        let settled = eventually("every connection to be subscribed", STEADY, || async {
            let all = self.all_connections().await?;
            if all.iter().all(|one| !one.subjects.is_empty()) { Ok(all) } else { Err(String::new()) }
        });
        match settled.await {
            Ok(all) => Ok(all.len()),
            Err(_) => self.all_connections().await.map(|all| all.len()),
        }
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        publish_raw(self.cluster.member(2).addr(), channel, bytes).await
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.with_log("DELETE").await
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.with_log("PURGE").await
    }

    async fn save_data(&self) -> Result<(), String> {
        try_join_all(self.cluster.members().iter().map(|member| member.save_data())).await?;
        self.cluster.complete().await?;
        self.cluster.has_log().await
    }

    async fn restore_data(&self) -> Result<(), String> {
        try_join_all(self.cluster.members().iter().map(|member| member.restore_data())).await?;
        self.cluster.complete().await?;
        self.cluster.has_log().await
    }

    /// NATS knows whole segments only, so `start` is one, or several.
    async fn allow_only(&self, start: &str) -> Result<(), String> {
        let below = format!("{start}.>");
        let own = ["$node.>", "$digests", "$revocations", "$revocations.>", "$JS.API.>", "_INBOX.>"];
        let allowed = [&[start, &below], &own[..]].concat();
        self.cluster.reconfigure(&self.config.clone().allow(&allowed)).await
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.cluster.reconfigure(&self.config.clone().allow(&["$JS.API.>", "_INBOX.>"])).await
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.cluster.reconfigure(&self.config).await
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }
}

#[async_trait]
impl Members for NatsClusterHarness {
    fn count(&self) -> usize {
        self.cluster.members().len()
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

    /// That of JetStream.
    async fn leader(&self) -> Result<usize, String> {
        self.cluster.leader().await
    }

    fn faults(&self) -> &'static [&'static str] {
        &[LAME_DUCK]
    }

    async fn suffer(&self, fault: &str, pause: Duration) -> Result<(), String> {
        if fault != LAME_DUCK {
            return Err(format!("nothing is called {fault:?}"));
        }
        let member = self.cluster.member(1);
        member.retire().await?;
        tokio::time::sleep(pause).await;
        member.kill().await?;
        member.start_again().await
    }

    async fn whole(&self) -> Result<(), String> {
        self.cluster.complete().await?;
        self.cluster.has_log().await
    }
}
