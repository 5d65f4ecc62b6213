//! NatsCluster: NATS servers that form a cluster, each a process of its own.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use broker_conformance::{free_port, wait::eventually};
use futures_util::future::try_join_all;

use super::{Nats, config::NatsConfig, control::ask};
use crate::servers::{LIMIT, delay::Delay, nats};

/// What a member that has answered before does when it has ended.
const REFUSED: &str = "Connection refused";
const GONE: &str = "a member has ended";

/// See the module. Dropping it ends every member.
#[derive(Debug)]
pub struct NatsCluster {
    /// What each member's configuration says of the others.
    lines: Vec<String>,
    members: Vec<Box<dyn Nats>>,
    /// What the members reach each other through.
    _routes: Vec<Delay>,
}

impl NatsCluster {
    /// Starts three members and waits until they know each other.
    ///
    /// # Errors
    /// One did not start, or they do not find each other in time.
    pub async fn start(config: NatsConfig) -> Result<Self, String> {
        Self::start_apart(config, None).await
    }

    /// Members between which everything takes so long, each way.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_apart(config: NatsConfig, distance: Option<Duration>) -> Result<Self, String> {
        Self::start_once_more([(); 3].map(|()| config.clone()), distance).await
    }

    /// Members of which each has its own configuration.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_each(configs: [NatsConfig; 3]) -> Result<Self, String> {
        Self::start_once_more(configs, None).await
    }

    /// Somebody may take a port between the question and the start: then once more, elsewhere. A member that has no port
    /// for the others ends, maybe after it has answered.
    async fn start_once_more(configs: [NatsConfig; 3], distance: Option<Duration>) -> Result<Self, String> {
        let passes = ["address already in use", GONE];
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::attempt(configs.clone(), distance).await {
                Err(reason) if passes.iter().any(|part| reason.contains(part)) && attempts < 10 => {}
                outcome => return outcome,
            }
        }
    }

    async fn attempt(configs: [NatsConfig; 3], distance: Option<Duration>) -> Result<Self, String> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ports = [free_port()?, free_port()?, free_port()?].map(local);
        let mut routes = Vec::new();
        let mut ways = ports;
        if let Some(distance) = distance {
            for (port, way) in ports.iter().zip(&mut ways) {
                let delay = Delay::start(*port, distance).await.map_err(|error| format!("delay: {error}"))?;
                *way = delay.addr();
                routes.push(delay);
            }
        }
        let line = |n: usize| {
            let others = ways.iter().filter(|way| **way != ways[n]);
            let others: Vec<String> = others.map(|way| format!("\"nats://{way}\"")).collect();
            format!(
                "cluster {{ name: one, listen: \"{}\", advertise: \"{}\", routes: [{}] }}",
                ports[n],
                ways[n],
                others.join(", ")
            )
        };
        let lines: Vec<String> = (0..ports.len()).map(line).collect();
        let starting = configs.into_iter().zip(&lines).map(|(config, line)| nats::start(config.line(line)));
        let cluster = Self { members: try_join_all(starting).await?, lines, _routes: routes };
        cluster.complete().await?;
        Ok(cluster)
    }

    /// Waits until every member knows all.
    ///
    /// # Errors
    /// They do not find each other in time.
    pub async fn complete(&self) -> Result<(), String> {
        for member in &self.members {
            let found = eventually("the members to find each other", LIMIT, || async {
                let routes = match ask(member.monitor(), "routez").await {
                    Err(reason) if reason.contains(REFUSED) => return Ok(Err(format!("{GONE}: {reason}"))),
                    routes => routes?,
                };
                let routes = routes["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
                let others: HashSet<String> =
                    routes.iter().map(|route| route["remote_id"].to_string()).collect();
                let known = others.len() + 1;
                if known == self.members.len() { Ok(Ok(())) } else { Err(format!("{known} known")) }
            });
            found.await??;
        }
        Ok(())
    }

    /// The member that leads JetStream.
    ///
    /// # Errors
    /// There is none.
    pub async fn leader(&self) -> Result<usize, String> {
        let monitor = self.members.first().ok_or("no members")?.monitor();
        let leader = ask(monitor, "jsz").await?["meta_cluster"]["leader"].clone();
        for (n, member) in self.members.iter().enumerate() {
            if ask(member.monitor(), "varz").await?["server_name"] == leader {
                return Ok(n);
            }
        }
        Err(format!("no leader is called {leader}"))
    }

    /// Waits until JetStream has a leader.
    ///
    /// # Errors
    /// It has none in time.
    pub async fn has_log(&self) -> Result<(), String> {
        eventually("a leader of JetStream", LIMIT, || self.leader()).await.map(drop)
    }

    /// Gives every member another configuration while it runs, and waits until that is in force.
    ///
    /// # Errors
    /// One does not take it.
    pub async fn reconfigure(&self, config: &NatsConfig) -> Result<(), String> {
        let all = self.members.iter().zip(&self.lines);
        try_join_all(all.map(|(member, line)| member.reconfigure(config.clone().line(line)))).await.map(drop)
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &[Box<dyn Nats>] {
        &self.members
    }

    /// A member.
    #[must_use]
    pub fn member(&self, n: usize) -> &dyn Nats {
        &*self.members[n % self.members.len()]
    }

    /// The URL of one member.
    #[must_use]
    pub fn url(&self, n: usize) -> String {
        self.member(n).url_at(self.member(n).addr())
    }

    /// The URL that names all members.
    #[must_use]
    pub fn url_of_all(&self) -> String {
        self.url_of(&[0, 1, 2])
    }

    /// The URL that names these members.
    #[must_use]
    pub fn url_of(&self, members: &[usize]) -> String {
        let hosts: Vec<String> = members.iter().map(|n| self.member(*n).addr().to_string()).collect();
        let first = self.member(members[0]);
        first.url_at(first.addr()).replace(&hosts[0], &hosts.join(","))
    }
}
