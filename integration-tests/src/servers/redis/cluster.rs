//! RedisCluster: three masters and a replica of each, for one test that breaks them one by one.

use std::{ops::Range, time::Duration};

use broker_conformance::{free_port, wait::eventually};
use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value};

use crate::servers::{
    LIMIT, Server,
    redis::{Redis, config::RedisConfig, process::RedisServer},
};

/// How long a member may be silent before the others take it for dead.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(1);
/// The numbers of the masters, as long as none was replaced. The replica of each has a number that is higher by as many.
pub const MASTERS: Range<usize> = 0..3;
/// How many members there are.
pub const MEMBERS: usize = 2 * MASTERS.end;
const SLOTS: usize = 16_384;

/// Members that know each other. Dropping it kills them all.
#[derive(Debug)]
pub struct RedisCluster {
    members: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the members, each with this configuration, and waits until the cluster is whole.
    ///
    /// # Errors
    /// One of them did not start, or they did not come to terms in time.
    pub async fn start(config: RedisConfig) -> Result<Self, String> {
        Self::start_with(config, NODE_TIMEOUT).await
    }

    /// A server that may become a member and has joined none.
    ///
    /// # Errors
    /// It did not start.
    pub async fn alone(config: &RedisConfig, node_timeout: Duration) -> Result<RedisServer, String> {
        let mut attempts = 0;
        loop {
            let config = config
                .clone()
                .line("cluster-enabled yes")
                .line(&format!("cluster-node-timeout {}", node_timeout.as_millis()))
                .line(&format!("cluster-port {}", free_port()?))
                .line("repl-diskless-sync-delay 0");
            attempts += 1;
            match RedisServer::start(config).await {
                // Somebody took the port of the bus between the question and the start.
                Err(reason) if reason.contains("Address already in use") && attempts < 10 => {}
                started => return started,
            }
        }
    }

    /// The same, for members that may be silent for so long.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(config: RedisConfig, node_timeout: Duration) -> Result<Self, String> {
        let members = try_join_all((0..MEMBERS).map(|_| Self::alone(&config, node_timeout))).await?;
        let cluster = Self { members };
        cluster.found().await?;
        Ok(cluster)
    }

    async fn found(&self) -> Result<(), String> {
        let first = self.member(0);
        let (ip, port) = (first.addr().ip(), first.addr().port());
        let bus: Vec<String> = self.ask(0, "CONFIG GET cluster-port").await?;
        let bus = bus.last().ok_or("no cluster-port")?;
        for n in 0..MEMBERS {
            self.ask::<()>(n, &format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)).await?;
            if MASTERS.contains(&n) {
                let (from, to) =
                    ((SLOTS * n).div_ceil(MASTERS.end), (SLOTS * (n + 1)).div_ceil(MASTERS.end) - 1);
                self.ask::<()>(n, &format!("CLUSTER ADDSLOTSRANGE {from} {to}")).await?;
            }
            if n > 0 {
                self.ask::<()>(n, &format!("CLUSTER MEET {ip} {port} {bus}")).await?;
            }
        }
        for n in MASTERS.end..MEMBERS {
            let master = self.id(n - MASTERS.end).await?;
            let command = format!("CLUSTER REPLICATE {master}");
            eventually("the replica to know its master", LIMIT, || self.ask::<()>(n, &command)).await?;
        }
        self.wait_until_whole().await
    }

    /// One member.
    #[must_use]
    pub fn member(&self, n: usize) -> &RedisServer {
        &self.members[n]
    }

    /// Where a member is: `127.0.0.1:25000`.
    #[must_use]
    pub fn place(&self, n: usize) -> String {
        self.member(n).addr().to_string()
    }

    /// The URL of the cluster, with these members as its hosts. `more` begins with `?`, or is empty.
    #[must_use]
    pub fn url(&self, members: &[usize], more: &str) -> String {
        self.url_of("", members, more)
    }

    /// The same for a user: `ada:secret@`.
    #[must_use]
    pub fn url_of(&self, user: &str, members: &[usize], more: &str) -> String {
        let hosts: Vec<String> = members.iter().map(|n| self.place(*n)).collect();
        format!("redis+cluster://{user}{}/{more}", hosts.join(","))
    }

    /// Has a member run a command, written as in its shell, and without quotes.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn ask<T: FromRedisValue>(&self, n: usize, command: &str) -> Result<T, String> {
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let answer: Value =
            self.member(n).command(&args).await.map_err(|error| format!("{command} at {n}: {error}"))?;
        T::from_redis_value(answer).map_err(|error| error.to_string())
    }

    /// Has every member run a command.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn ask_all(&self, command: &str) -> Result<(), String> {
        try_join_all((0..MEMBERS).map(|n| self.ask::<Value>(n, command))).await.map(drop)
    }

    /// The id of a member.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn id(&self, n: usize) -> Result<String, String> {
        self.ask(n, "CLUSTER MYID").await
    }

    /// What a member says of its cluster: `ok` or `fail`.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn state(&self, n: usize) -> Result<String, String> {
        let info: String = self.ask(n, "CLUSTER INFO").await?;
        let state = info.lines().find_map(|line| line.strip_prefix("cluster_state:"));
        state.map(|state| state.trim().to_owned()).ok_or_else(|| format!("no state: {info}"))
    }

    /// Waits until a member says so of its cluster.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn wait_for_state(&self, n: usize, state: &str) -> Result<(), String> {
        eventually(&format!("cluster_state:{state} at {n}"), LIMIT, || async {
            let found = self.state(n).await?;
            if found == state { Ok(()) } else { Err(format!("it is {found}")) }
        })
        .await
    }

    /// Waits until all members know each other, every slot is served, and every replica follows its master.
    ///
    /// # Errors
    /// It does not become so in time.
    pub async fn wait_until_whole(&self) -> Result<(), String> {
        for n in 0..MEMBERS {
            eventually(&format!("the cluster to be whole for {n}"), LIMIT, || async {
                let state = self.state(n).await?;
                let nodes: String = self.ask(n, "CLUSTER NODES").await?;
                let replication: String = self.ask(n, "INFO replication").await?;
                let connected = nodes
                    .lines()
                    .filter(|line| line.contains(" connected") && !line.contains("fail"))
                    .count();
                let masters = nodes.lines().filter(|line| line.contains("master")).count();
                let follows =
                    replication.contains("role:master") || replication.contains("master_link_status:up");
                let whole = state == "ok" && follows && (connected, masters) == (MEMBERS, MASTERS.end);
                if whole { Ok(()) } else { Err(format!("{state}, {follows}: {nodes}")) }
            })
            .await?;
        }
        Ok(())
    }

    /// Whether a member is a master at present.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn is_master(&self, n: usize) -> Result<bool, String> {
        let replication: String = self.ask(n, "INFO replication").await?;
        Ok(replication.contains("role:master"))
    }

    /// The slot of a name.
    #[must_use]
    pub fn slot(name: &str) -> u16 {
        let inside = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let mut crc = 0_u16;
        for byte in inside.filter(|tag| !tag.is_empty()).unwrap_or(name).bytes() {
            crc ^= u16::from(byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            }
        }
        crc % SLOTS as u16
    }

    /// The number of the master that serves a slot, as member `n` knows it.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); or nobody does.
    pub async fn owner(&self, n: usize, slot: u16) -> Result<usize, String> {
        type Node = (String, u16, String, Value);
        let rows: Vec<Value> = self.ask(n, "CLUSTER SLOTS").await?;
        for row in rows {
            let Value::Array(fields) = row else { continue };
            let mut fields = fields.into_iter();
            let mut next = || fields.next().ok_or("a short row");
            let first = u16::from_redis_value(next()?).map_err(|error| error.to_string())?;
            let last = u16::from_redis_value(next()?).map_err(|error| error.to_string())?;
            let (_, port, ..) = Node::from_redis_value(next()?).map_err(|error| error.to_string())?;
            if (first..=last).contains(&slot) {
                let found = self.members.iter().position(|member| member.addr().port() == port);
                return found.ok_or_else(|| format!("an unknown member at port {port}"));
            }
        }
        Err(format!("nobody serves slot {slot}"))
    }

    /// Names that begin so, and whose slot a member serves at first.
    #[must_use]
    pub fn names_at(n: usize, start: &str, count: usize) -> Vec<String> {
        let names = (0..).map(|number| format!("{start}{number}"));
        names.filter(|name| Self::is_at_first(name, n)).take(count).collect()
    }

    /// Whether a member serves the slot of a name at first.
    #[must_use]
    pub fn is_at_first(name: &str, n: usize) -> bool {
        usize::from(Self::slot(name)) * MASTERS.end / SLOTS == n
    }

    /// Moves a slot and what is in it from one master to another, as an operator does it.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) -> Result<(), String> {
        let (source, target) = (self.id(from).await?, self.id(to).await?);
        self.ask::<()>(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}")).await?;
        self.ask::<()>(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}")).await?;
        let keys: Vec<String> = self.ask(from, &format!("CLUSTER GETKEYSINSLOT {slot} 100")).await?;
        let (ip, port) = (self.member(to).addr().ip(), self.member(to).addr().port());
        for key in keys {
            self.ask::<Value>(from, &format!("MIGRATE {ip} {port} {key} 0 5000")).await?;
        }
        for n in [to, from] {
            self.ask::<()>(n, &format!("CLUSTER SETSLOT {slot} NODE {target}")).await?;
        }
        Ok(())
    }
}
