//! RedisSentinel: a master, two replicas, and three Sentinels that watch them, all processes of one test.

use std::{collections::HashMap, iter, net::SocketAddr};

use broker_conformance::wait::eventually;
use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value};

use crate::servers::{
    LIMIT, Server,
    redis::{Redis, config::RedisConfig, process::RedisServer},
};

/// The name under which the master is watched.
pub const MASTER: &str = "main";
/// Of servers as of Sentinels.
const COUNT: usize = 3;
/// So many Sentinels have to agree that the master is down.
const QUORUM: usize = 2;

/// Three servers and three Sentinels. A master that does not answer is replaced after a second. Dropping it kills all.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

/// What a command of a server answers.
pub(crate) async fn ask<T: FromRedisValue>(server: &RedisServer, command: &str) -> Result<T, String> {
    let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let answer: Value = server.command(&args).await.map_err(|error| format!("{command}: {error}"))?;
    T::from_redis_value(answer).map_err(|error| format!("{command}: {error}"))
}

/// Waits until one of the servers is the master of all others, which have what it has.
async fn replicated(servers: &[RedisServer]) -> Result<(), String> {
    eventually("the replicas", LIMIT, || async {
        let info =
            try_join_all(servers.iter().map(|server| ask::<String>(server, "INFO replication"))).await?;
        let up = info.iter().filter(|info| info.contains("master_link_status:up")).count();
        let all = info.iter().any(|info| info.contains("role:master") && info.contains("connected_slaves:2"));
        if all && up == COUNT - 1 { Ok(()) } else { Err(info.concat()) }
    })
    .await
}

impl RedisSentinel {
    /// Starts all six, each with a configuration of its kind, and waits until the Sentinels know each other and both
    /// replicas.
    ///
    /// # Errors
    /// One did not start, or they did not find each other.
    pub async fn start(servers: RedisConfig, sentinels: RedisConfig) -> Result<Self, String> {
        let servers = servers.line("repl-diskless-sync-delay 0");
        let master = RedisServer::start(servers.clone()).await?;
        let port = master.addr().port();
        let replica = servers.line(&format!("replicaof 127.0.0.1 {port}"));
        let watching = sentinels
            .sentinel()
            .line(&format!("sentinel monitor {MASTER} 127.0.0.1 {port} {QUORUM}"))
            .line(&format!("sentinel down-after-milliseconds {MASTER} 2000"))
            .line(&format!("sentinel failover-timeout {MASTER} 3000"));
        let start = |config: &RedisConfig, count| {
            try_join_all((0..count).map(|_| RedisServer::start(config.clone())).collect::<Vec<_>>())
        };
        let replicas = start(&replica, COUNT - 1).await?;
        let servers: Vec<RedisServer> = iter::once(master).chain(replicas).collect();
        // A Sentinel asks a master for its replicas at once, and then every ten seconds.
        replicated(&servers).await?;
        let sentinels = start(&watching, COUNT).await?;
        let all = Self { servers, sentinels };
        all.ready().await?;
        Ok(all)
    }

    /// Kills all six.
    ///
    /// # Errors
    /// One does not end.
    pub async fn kill(&self) -> Result<(), String> {
        // While a server is missing, no Sentinel looks for another master.
        try_join_all(self.sentinels.iter().map(Server::kill)).await?;
        try_join_all(self.servers.iter().map(Server::kill)).await.map(drop)
    }

    /// Starts those that do not run, each with the part that it had, and waits until all is as at the start.
    ///
    /// # Errors
    /// One does not start, or they do not find each other.
    pub async fn start_again(&self) -> Result<(), String> {
        for kind in [&self.servers, &self.sentinels] {
            let gone = kind.iter().filter(|server| !server.is_running());
            try_join_all(gone.map(Server::start_again)).await?;
            replicated(&self.servers).await?;
        }
        self.ready().await
    }

    /// Waits until every Sentinel knows a master that is up, all others, and every replica, and until every replica
    /// has what its master has.
    ///
    /// # Errors
    /// They do not.
    pub async fn ready(&self) -> Result<(), String> {
        replicated(&self.servers).await?;
        eventually("the Sentinels to know everybody", LIMIT, || async {
            for sentinel in &self.sentinels {
                let seen: HashMap<String, String> =
                    ask(sentinel, &format!("SENTINEL MASTER {MASTER}")).await?;
                let is = |key: &str, value: &str| seen.get(key).is_some_and(|found| found == value);
                if !(is("flags", "master") && is("num-slaves", "2") && is("num-other-sentinels", "2")) {
                    return Err(format!("{} sees {seen:?}", sentinel.addr()));
                }
            }
            Ok(())
        })
        .await
    }

    /// The servers: at first the master, and its two replicas.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The Sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The server that most of all Sentinels name.
    ///
    /// # Errors
    /// They name no server of ours by a majority.
    pub async fn master(&self) -> Result<&RedisServer, String> {
        let mut named = Vec::new();
        for sentinel in &self.sentinels {
            let question = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER}");
            named.extend(ask::<(String, u16)>(sentinel, &question).await.map(|(_, port)| port));
        }
        let votes =
            |server: &&RedisServer| named.iter().filter(|port| **port == server.addr().port()).count();
        self.servers.iter().find(|server| votes(server) >= QUORUM).ok_or(format!("they name {named:?}"))
    }

    /// Waits until most of the Sentinels name another server than this.
    ///
    /// # Errors
    /// They do not.
    pub async fn master_after(&self, old: SocketAddr) -> Result<&RedisServer, String> {
        eventually("another master", LIMIT, || async {
            let now = self.master().await?;
            if now.addr() == old { Err("still the old one".to_owned()) } else { Ok(now) }
        })
        .await
    }

    /// The URL of a node; `keys` stand behind the name of the master: `&sentinel_password=…`.
    #[must_use]
    pub fn url(&self, scheme: &str, keys: &str) -> String {
        let addrs: Vec<SocketAddr> = self.sentinels.iter().map(RedisServer::addr).collect();
        url_at(scheme, "", &addrs, keys)
    }
}

/// The URL of Sentinels at these addresses, with `user:password@` before them.
#[must_use]
pub fn url_at(scheme: &str, login: &str, sentinels: &[SocketAddr], keys: &str) -> String {
    let hosts: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
    format!("{scheme}://{login}{}/?master={MASTER}{keys}", hosts.join(","))
}
