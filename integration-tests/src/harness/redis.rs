//! RedisHarness: a Redis of the case's own, and a fault proxy before it for every node.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use broker::Options;
use redis::{FromRedisValue, Value};

use super::{Entry, Harness, Line, ProxyLine, is_core_own, quick_options};
use crate::{
    case::Need,
    proxy::Proxy,
    redis_config::RedisConfig,
    server::{Redis, Source},
};

pub(super) const ENTRY: Entry = Entry {
    backend: broker_redis::BACKEND,
    example: "redis://localhost",
    available: || Box::pin(async { Source::from_env()?.redis_available().await }),
    lacks,
    start: |needs| Box::pin(async { Ok(Box::new(RedisHarness::start(needs).await?) as Box<dyn Harness>) }),
    end: || {},
};

fn lacks(need: Need) -> Option<&'static str> {
    match need {
        Need::OwnServer | Need::Permissions if matches!(Source::from_env(), Ok(Source::Existing(_))) => {
            Some("the server was given by BROKER_TEST_REDIS_URL and is not ours to change")
        }
        Need::Durable if !matches!(Source::from_env(), Ok(Source::Process)) => {
            Some("the server is no process of this machine: its data cannot be put back")
        }
        Need::Process if !matches!(Source::from_env(), Ok(Source::Process)) => {
            Some("the server is no process of this machine")
        }
        _ => None,
    }
}

#[derive(Debug)]
struct RedisHarness {
    server: Box<dyn Redis>,
    /// Keeps cases apart on a server that they share; empty on one of our own.
    prefix: String,
    proxies: Mutex<Vec<Weak<Proxy>>>,
}

impl RedisHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        static CASES: AtomicU64 = AtomicU64::new(1);
        let source = Source::from_env()?;
        let prefix = match source {
            Source::Existing(_) => {
                format!("case-{}-{}", std::process::id(), CASES.fetch_add(1, Ordering::Relaxed))
            }
            Source::Process | Source::Docker => String::new(),
        };
        let config = RedisConfig::default();
        let config = if needs.contains(&Need::Durable) { config.durable() } else { config };
        let server = source.start_redis(config).await?;
        Ok(Self { server, prefix, proxies: Mutex::default() })
    }

    fn on_wire(&self, channel: &str) -> String {
        if self.prefix.is_empty() { channel.to_owned() } else { format!("{}.{channel}", self.prefix) }
    }

    /// Leads every line to where the server is now.
    fn follow_server(&self) {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        for proxy in proxies.iter().filter_map(Weak::upgrade) {
            proxy.set_upstream(self.server.addr());
        }
    }

    async fn ask<T: FromRedisValue>(&self, args: &[&[u8]]) -> Result<T, String> {
        let value: Value = self.server.command(args).await?;
        T::from_redis_value(value).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Harness for RedisHarness {
    fn backend(&self) -> &'static str {
        broker_redis::BACKEND.name
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
        let proxy = Proxy::start(self.server.addr()).await.map_err(|error| format!("proxy: {error}"))?;
        let proxy = Arc::new(proxy);
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&proxy));
        Ok(Arc::new(ProxyLine { url: self.server.url_at(proxy.addr()), proxy }))
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.server.kill().await
    }

    async fn start_server(&self) -> Result<(), String> {
        self.server.start_again().await?;
        self.follow_server();
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

    async fn subscribed_channels(&self) -> Result<Vec<String>, String> {
        let pattern = self.on_wire("*");
        let names: HashSet<String> = self.ask(&[b"PUBSUB", b"CHANNELS", pattern.as_bytes()]).await?;
        let mut names: Vec<String> = names.into_iter().filter(|name| !is_core_own(name)).collect();
        names.sort_unstable();
        Ok(names)
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
        self.follow_server();
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
