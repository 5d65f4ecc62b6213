//! RedisHarness: a Redis of the case's own, and a fault proxy before it for every node.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    harness::{Harness, is_core_own, quick_options},
    line::{Line, ProxyLines},
    required,
    watch::Watch,
};
use broker_core::{Backend, Capabilities, Confirmation, Options, OrderGuarantee, PermissionScope, Reach};
use redis::{FromRedisValue, Value};

use crate::{
    cases,
    servers::{
        self, Source,
        redis::{Redis, config::RedisConfig},
    },
};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_redis::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(RedisHarness::start(needs).await?) as Box<dyn Harness>) })
})
.available(|| Box::pin(servers::redis::available()))
.lacks(lacks)
.own(cases::redis::CASES);

/// Whether the server is a process of ours.
fn is_process() -> bool {
    servers::redis::existing().is_none() && Source::is_process()
}

fn lacks(need: Need) -> Option<&'static str> {
    match need {
        Need::OwnServer | Need::Permissions if servers::redis::existing().is_some() => {
            Some("the server was given by BROKER_TEST_REDIS_URL and is not ours to change")
        }
        Need::Durable if !is_process() => {
            Some("the server is no process of this machine: its data cannot be put back")
        }
        // Where every server has to be there, the case says what is missing.
        Need::LoadBalancer
            if !(required("redis") && is_process()) && servers::haproxy::available().is_err() =>
        {
            Some("there is no `haproxy` on the PATH; install the package haproxy")
        }
        Need::Process if !is_process() => Some("the server is no process of this machine"),
        _ => None,
    }
}

#[derive(Debug)]
struct RedisHarness {
    server: Box<dyn Redis>,
    /// Keeps cases apart on a server that they share; empty on one of our own.
    prefix: String,
    lines: ProxyLines,
    watch: Watch,
}

impl RedisHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        static CASES: AtomicU64 = AtomicU64::new(1);
        let prefix = match servers::redis::existing() {
            Some(_) => format!("case-{}-{}", std::process::id(), CASES.fetch_add(1, Ordering::Relaxed)),
            None => String::new(),
        };
        let config = RedisConfig::default();
        let config = if needs.contains(&Need::Durable) { config.durable() } else { config };
        let server = servers::redis::start(config).await?;
        Ok(Self { server, prefix, lines: ProxyLines::default(), watch: Watch::new() })
    }

    fn on_wire(&self, channel: &str) -> String {
        if self.prefix.is_empty() { channel.to_owned() } else { format!("{}.{channel}", self.prefix) }
    }

    async fn ask<T: FromRedisValue>(&self, args: &[&[u8]]) -> Result<T, String> {
        let value: Value = self.server.command(args).await?;
        T::from_redis_value(value).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Harness for RedisHarness {
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
        // The tests' own connection is another user's.
        self.ask(&[b"CLIENT", b"KILL", b"USER", b"default"]).await
    }

    async fn drop_receivers(&self) -> Result<(), String> {
        self.ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let pattern = self.on_wire("*");
        let names: HashSet<String> = self.ask(&[b"PUBSUB", b"CHANNELS", pattern.as_bytes()]).await?;
        let mut names: Vec<String> = names.into_iter().filter(|name| !is_core_own(name)).collect();
        names.sort_unstable();
        Ok(Some(names))
    }

    async fn connections(&self) -> Result<usize, String> {
        let list: String = self.ask(&[b"CLIENT", b"LIST"]).await?;
        Ok(list.lines().filter(|line| line.contains(" user=default ")).count())
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        self.ask(&[b"PUBLISH", self.on_wire(channel).as_bytes(), bytes]).await
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.ask(&[b"DEL", self.on_wire("$revocations").as_bytes()]).await
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.ask(&[b"XTRIM", self.on_wire("$revocations").as_bytes(), b"MAXLEN", b"0"]).await
    }

    async fn save_data(&self) -> Result<(), String> {
        self.server.save_data().await
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.server.restore_data().await?;
        self.lines.lead_to(self.server.addr());
        Ok(())
    }

    async fn allow_only(&self, start: &str) -> Result<(), String> {
        let (own, start) = (format!("&{}", self.on_wire("$*")), format!("&{}", self.on_wire(start) + "*"));
        let args = ["ACL", "SETUSER", "default", "resetchannels", &own, &start];
        self.ask(&args.map(str::as_bytes)).await
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.ask(&[b"ACL", b"SETUSER", b"default", b"resetchannels"]).await
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.ask(&[b"ACL", b"SETUSER", b"default", b"allchannels"]).await
    }
}
