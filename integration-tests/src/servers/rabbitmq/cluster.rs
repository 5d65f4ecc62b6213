//! RabbitCluster: RabbitMQ servers that form a cluster, each a process of its own. It takes most of a minute to start.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::Duration,
};

use broker_conformance::{free_port, wait::eventually};
use futures_util::future::try_join_all;
use tempfile::TempDir;

use super::{NEEDS, control::RabbitControl, process::available};
use crate::servers::{
    Host,
    process::{Process, last_lines, leashed},
};

/// How long members may take to start, and to find each other, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// What the members sign in at each other with.
const COOKIE: &str = "members";
/// The program behind the wrapper of Debian; see [`RabbitServer`](super::process::RabbitServer).
const UNWRAPPED: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// What a cluster does when some of its members do not reach the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// All go on. What a server does that was told nothing.
    Ignore,
    /// The smaller side ends its connections.
    PauseMinority,
}

/// See the module. Dropping it ends every member.
#[derive(Debug)]
pub struct RabbitCluster {
    members: Vec<Member>,
    /// The port mapper of Erlang, which finds the members for each other.
    mapper: Process,
    dir: TempDir,
}

/// One of the servers. It keeps its ports and its data.
#[derive(Debug)]
struct Member {
    name: String,
    server: Process,
    amqp: SocketAddr,
    http: SocketAddr,
    peers: u16,
}

impl RabbitCluster {
    /// Starts three members and waits until they know each other.
    ///
    /// # Errors
    /// A program is missing, or one did not start, or they do not find each other in time.
    pub async fn start(partition: Partition) -> Result<Self, String> {
        available()?;
        let dir = tempfile::Builder::new().prefix("rabbitmq-cluster-").tempdir();
        let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut members = Vec::new();
        for n in 1..=3 {
            members.push(Member {
                name: format!("r{n}@localhost"),
                server: Process::new(&NEEDS.program),
                amqp: at(free_port()?),
                http: at(free_port()?),
                peers: free_port()?,
            });
        }
        let cluster = Self { members, mapper: Process::new("epmd"), dir };
        cluster.prepare(partition)?;
        // The others join the first.
        cluster.start_member(0).await?;
        try_join_all([1, 2].map(|n| cluster.start_member(n))).await?;
        cluster.whole().await?;
        Ok(cluster)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn prepare(&self, partition: Partition) -> Result<(), String> {
        let cookie = self.path().join(".erlang.cookie");
        write(&cookie, COOKIE)?;
        let private = fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400));
        private.map_err(|error| format!("{}: {error}", cookie.display()))?;
        write(&self.path().join("enabled_plugins"), "[rabbitmq_management].\n")?;
        let names = self.members.iter().enumerate();
        let names = names.map(|(n, member)| {
            format!("cluster_formation.classic_config.nodes.{} = {}\n", n + 1, member.name)
        });
        let names: String = names.collect();
        let partition = match partition {
            Partition::Ignore => "ignore",
            Partition::PauseMinority => "pause_minority",
        };
        for member in &self.members {
            let text = format!(
                "listeners.tcp.1 = {}\n\
                 management.tcp.ip = 127.0.0.1\n\
                 management.tcp.port = {}\n\
                 cluster_formation.peer_discovery_backend = classic_config\n\
                 {names}\
                 cluster_partition_handling = {partition}\n\
                 log.console = true\n\
                 log.console.level = warning\n\
                 log.file = false\n",
                member.amqp,
                member.http.port()
            );
            write(&self.path().join(format!("{}.conf", member.name)), &text)?;
        }
        let mapper = free_port()?;
        write(&self.path().join("mapper"), &mapper.to_string())?;
        let mut command = leashed("sh");
        command.args(["-c", &format!("epmd -port {mapper} -address 127.0.0.1 & cat; kill $!")]);
        self.mapper.start(&mut command, &self.path().join("epmd.log"))
    }

    /// Starts a member that has been killed, or was never there, and waits until it lets clients in.
    ///
    /// # Errors
    /// It did not start.
    pub async fn start_member(&self, n: usize) -> Result<(), String> {
        let member = &self.members[n];
        let log = self.path().join(format!("{}.log", member.name));
        let mapper = fs::read_to_string(self.path().join("mapper")).map_err(|error| error.to_string())?;
        let mut command = leashed(if Path::new(UNWRAPPED).is_file() { UNWRAPPED } else { &NEEDS.program });
        environment(&mut command, self.path(), member, &mapper);
        member.server.start(&mut command, &log)?;
        let control = self.control(n);
        let answer = eventually("a member to answer", LIMIT, || async {
            match member.server.ended()? {
                Some(status) => Ok(Err(format!("rabbitmq-server ended with {status}"))),
                None => control.listens(member.amqp.port()).await.map(Ok),
            }
        });
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) | Err(reason) => Err(format!("{reason}\n{}", last_lines(&log))),
        }
    }

    /// Waits until every member that runs knows that all do.
    ///
    /// # Errors
    /// Not in time.
    pub async fn whole(&self) -> Result<(), String> {
        for n in 0..self.members.len() {
            eventually("the members to find each other", LIMIT, || async {
                let nodes = self.control(n).get("nodes").await?;
                let running = nodes.as_array().into_iter().flatten();
                let running = running
                    .filter(|node| node["running"] == true && node["partitions"] == serde_json::json!([]));
                let running = running.count();
                if running == self.members.len() { Ok(()) } else { Err(format!("{running} run")) }
            })
            .await?;
        }
        Ok(())
    }

    /// How many members there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Where clients reach a member.
    #[must_use]
    pub fn addr(&self, n: usize) -> SocketAddr {
        self.members[n].amqp
    }

    /// The management interface of a member.
    #[must_use]
    pub fn control(&self, n: usize) -> RabbitControl {
        RabbitControl::new(self.members[n].http)
    }

    /// What a member runs in.
    #[must_use]
    pub fn host(&self, n: usize) -> &dyn Host {
        &self.members[n].server
    }

    /// Has a member evaluate an Erlang expression. What that gives is not told.
    ///
    /// # Errors
    /// It is not running.
    pub fn evaluate(&self, n: usize, expression: &str) -> Result<(), String> {
        self.members[n].server.tell(&format!("(fun() -> {expression} end)()."))
    }

    /// Cuts a member off from the others: it knows them no more, and they are not let in.
    ///
    /// # Errors
    /// It is not running.
    pub fn cut_off(&self, n: usize) -> Result<(), String> {
        for other in self.others(n) {
            let name = &other.name;
            let cut = format!("erlang:set_cookie('{name}', elsewhere), erlang:disconnect_node('{name}')");
            self.evaluate(n, &cut)?;
        }
        Ok(())
    }

    /// Ends that: the members reach each other again. What they know may stay different.
    ///
    /// # Errors
    /// It is not running.
    pub fn reconnect(&self, n: usize) -> Result<(), String> {
        for other in self.others(n) {
            let name = &other.name;
            self.evaluate(n, &format!("erlang:set_cookie('{name}', '{COOKIE}'), net_adm:ping('{name}')"))?;
        }
        Ok(())
    }

    fn others(&self, n: usize) -> impl Iterator<Item = &Member> {
        self.members.iter().enumerate().filter(move |(other, _)| *other != n).map(|(_, member)| member)
    }
}

impl Drop for RabbitCluster {
    fn drop(&mut self) {
        // Killed, the shell before it could not take it along.
        self.mapper.let_go();
    }
}

fn environment(command: &mut Command, dir: &Path, member: &Member, mapper: &str) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RABBITMQ_") {
            command.env_remove(name);
        }
    }
    // Three of them share the processors with the tests.
    let arguments = "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none";
    command
        .env("HOME", dir)
        .env("RABBITMQ_ALLOW_INPUT", "true")
        .env("RABBITMQ_NODENAME", &member.name)
        .env("RABBITMQ_NODE_PORT", member.amqp.port().to_string())
        .env("RABBITMQ_DIST_PORT", member.peers.to_string())
        .env("ERL_EPMD_PORT", mapper)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments)
        .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_CONFIG_FILE", dir.join(format!("{}.conf", member.name)));
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
