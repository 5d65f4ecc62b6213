//! NatsHarness: a NATS server of the case's own, and a fault proxy before it for every node.

use std::{any::Any, sync::Arc, time::Duration};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    harness::{Harness, is_core_own},
    line::{Line, ProxyLines},
    wait::eventually,
    watch::Watch,
};
use broker_core::{Backend, Capabilities, Confirmation, PermissionScope, Reach};
use serde_json::json;

use crate::{
    cases,
    servers::{
        self, LIMIT, Source,
        nats::{
            Nats,
            config::NatsConfig,
            control::{ask, connections, jetstream, kick, publish_raw, streams},
        },
    },
};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_nats::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(NatsHarness::start(needs).await?) as Box<dyn Harness>) })
})
.available(|| Box::pin(servers::nats::available()))
.lacks(lacks)
.own(cases::nats::CASES);

fn lacks(need: Need) -> Option<&'static str> {
    match need {
        Need::Process if !Source::is_process() => Some("the server is no process of this machine"),
        Need::Durable if !Source::is_process() => Some("the server is a container, which keeps no data"),
        _ => None,
    }
}

/// How long connections may take to come and go.
const STEADY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct NatsHarness {
    config: NatsConfig,
    server: Box<dyn Nats>,
    lines: ProxyLines,
    watch: Watch,
}

impl NatsHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        // Other programs may send more than a frame of ours can be.
        let mut config = NatsConfig::default().jetstream().line("max_payload: 8MB");
        if needs.contains(&Need::Durable) {
            config = config.durable();
        }
        let server = servers::nats::start(config.clone()).await?;
        Ok(Self { config, server, lines: ProxyLines::default(), watch: Watch::new() })
    }

    /// The harness behind a case that is about NATS alone.
    pub(crate) fn of(h: &dyn Harness) -> Result<&Self, String> {
        let h: &dyn Any = h;
        h.downcast_ref().ok_or_else(|| "this case is about NATS".to_owned())
    }

    pub(crate) fn server(&self) -> &dyn Nats {
        &*self.server
    }

    /// Has JetStream do something with each of its streams; the log is the only one.
    async fn with_log(&self, verb: &str) -> Result<(), String> {
        for stream in streams(self.server.addr()).await? {
            jetstream(self.server.addr(), &format!("STREAM.{verb}.{stream}"), &json!({})).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Harness for NatsHarness {
    fn backend(&self) -> Backend {
        broker_nats::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn url(&self) -> String {
        self.server.url_at(self.server.addr())
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add(self.server.addr(), |addr| self.server.url_at(addr)).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.server.kill().await
    }

    async fn start_server(&self) -> Result<(), String> {
        self.server.start_again().await?;
        self.lines.lead_to(self.server.addr());
        Ok(())
    }

    async fn pause_server(&self) -> Result<(), String> {
        self.server.pause().await
    }

    async fn resume_server(&self) -> Result<(), String> {
        self.server.resume().await
    }

    async fn drop_links(&self) -> Result<(), String> {
        let monitor = self.server.monitor();
        let about = ask(monitor, "varz").await?;
        let id = about["server_id"].as_str().ok_or("a server without an id")?;
        let before = connections(monitor).await?;
        for connection in &before {
            kick(self.server.addr(), id, connection.id).await?;
        }
        eventually("the links to end", LIMIT, || async {
            let now = connections(monitor).await?;
            let left = now.iter().filter(|one| before.iter().any(|other| other.id == one.id)).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
        })
        .await
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let connections = connections(self.server.monitor()).await?;
        let names = connections.into_iter().flat_map(|connection| connection.subjects);
        let mut names: Vec<String> =
            names.filter(|name| !is_core_own(name) && !name.starts_with("_INBOX.")).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Some(names))
    }

    async fn connections(&self) -> Result<usize, String> {
        let monitor = self.server.monitor();
        // A link that has closed has no subscription left, but the server detects a moment later that it hung up.
        let settled = eventually("every connection to be subscribed", STEADY, || async {
            let all = connections(monitor).await?;
            if all.iter().all(|one| !one.subjects.is_empty()) { Ok(all) } else { Err(String::new()) }
        });
        match settled.await {
            Ok(all) => Ok(all.len()),
            Err(_) => connections(monitor).await.map(|all| all.len()),
        }
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        publish_raw(self.server.addr(), channel, bytes).await
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.with_log("DELETE").await
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.with_log("PURGE").await
    }

    async fn save_data(&self) -> Result<(), String> {
        self.server.save_data().await?;
        self.lines.lead_to(self.server.addr());
        Ok(())
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.server.restore_data().await?;
        self.lines.lead_to(self.server.addr());
        Ok(())
    }

    /// NATS knows whole segments only, so `start` is one, or several.
    async fn allow_only(&self, start: &str) -> Result<(), String> {
        let below = format!("{start}.>");
        let own = ["$node.>", "$digests", "$revocations", "$revocations.>", "$JS.API.>", "_INBOX.>"];
        let allowed = [&[start, &below], &own[..]].concat();
        self.server.reconfigure(self.config.clone().allow(&allowed)).await
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.server.reconfigure(self.config.clone().allow(&["$JS.API.>", "_INBOX.>"])).await
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.server.reconfigure(self.config.clone()).await
    }
}
