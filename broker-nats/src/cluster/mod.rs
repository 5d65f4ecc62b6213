//! Cluster: the other servers of the link's cluster, and the proof that they know what the link has subscribed.
//!
//! The server of the link tells the others of a subscription in its own time, and none of them says that it has heard of
//! it. So the link has a connection to each of them, a [helper](helper), and asks it through the cluster: the question
//! travels behind the subscriptions, on the same way, and its answer proves that they have arrived.
//!
//! Which servers there are the link's server tells in its greeting, and the URL. All of it is for one link, and ends with
//! it.

mod helper;
mod member;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{Client, ServerInfo};
use broker_core::{
    Result,
    driver::{ServerAddr, Warning},
};
use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use tokio::{
    select,
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout, timeout_at},
};

use self::member::{Member, PATIENCE, Standing};
use crate::{address::Address, connection_state::ConnectionState, opening};

/// How many addresses of servers are used; a server may have several. Those that are announced beyond that are left out.
const MEMBERS: usize = 64;
/// How often the link's server is asked which others there are.
const LOOK: Duration = Duration::from_secs(2);
/// How long a link's server that knows no other is left alone until it is asked again.
const ALONE: Duration = Duration::from_millis(20);
/// The time between two questions to a server that the link's server does not know yet, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// How a link came to its server.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) address: Arc<Address>,
    /// Where the link's server is.
    pub(crate) server: ServerAddr,
}

/// See the module.
pub(crate) struct Cluster(Arc<Shared>);

/// What the link and the tasks have in common.
struct Shared {
    way: Way,
    client: Client,
    connection: Arc<ConnectionState>,
    /// The link's server.
    id: String,
    name: String,
    members: Mutex<Vec<Arc<Member>>>,
    /// What keeps the helpers, and looks for more servers. They hold this, so [`Cluster`] ends them.
    tasks: Mutex<JoinSet<()>>,
    /// A server has gone, or may have come.
    look: Notify,
}

impl Cluster {
    /// Begins to look for the other servers; `None` if the link's server is in no cluster.
    pub(crate) fn watch(way: Way, client: Client, connection: Arc<ConnectionState>) -> Option<Self> {
        let info = client.server_info();
        let shared = Arc::new(Shared {
            way,
            client,
            connection,
            name: info.cluster.clone().filter(|name| !name.is_empty())?,
            id: info.server_id.clone(),
            members: Mutex::default(),
            tasks: Mutex::default(),
            look: Notify::new(),
        });
        for server in &shared.way.address.servers {
            shared.add(server, true, false);
        }
        shared.learn(&info, true);
        let watching = shared.connection.guard("watches the cluster", Arc::clone(&shared).watch());
        shared.tasks().spawn(watching);
        Some(Self(shared))
    }

    /// Waits until the link hears every other server: one that has just started lets clients in before it knows what is
    /// subscribed at the others, and even before it knows of them.
    ///
    /// # Errors
    /// The link is over.
    pub(crate) async fn join(&self) -> Result<()> {
        let others = async {
            while !self.0.members().iter().any(|member| member.is_other()) {
                self.0.look.notify_one();
                sleep(ALONE).await;
            }
        };
        // It may be the only one.
        let _alone = timeout(PATIENCE, others).await;
        let mut known = usize::MAX;
        // Those that answer have told of others.
        while known != self.0.members().len() {
            known = self.0.members().len();
            self.prove(async { Ok(()) }).await?;
        }
        Ok(())
    }

    /// Waits until every other server knows what was sent to the link's server before, or has had its time to. The
    /// `barrier` proves that the link's server knows it.
    ///
    /// # Errors
    /// The link is over.
    pub(crate) async fn prove(&self, barrier: impl Future<Output = Result<()>>) -> Result<()> {
        if self.0.members().iter().any(|member| member.is_missing()) {
            // Whom the link's server does not know afterwards will be told of everything when the two meet.
            barrier.await?;
            self.0.look().await;
            return self.answers().await;
        }
        try_join(barrier, self.answers()).await.map(drop)
    }

    async fn answers(&self) -> Result<()> {
        let members = self.0.members().clone();
        try_join_all(members.iter().map(|member| self.0.prove(member))).await.map(drop)
    }

    /// How many servers there are, as far as they have been reached.
    pub(crate) fn size(&self) -> usize {
        let mut ids: Vec<_> = self.0.members().iter().filter_map(|member| member.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len() + 1
    }

    /// What an operator should change.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let (members, name, way) = (self.0.members().clone(), &self.0.name, &self.0.way);
        let unreached = members.iter().filter_map(|member| member.unreached()).map(|why| {
            let what = format!(
                "what is posted at a server of the cluster `{name}` right after a subscription may be missed, for it \
                 cannot be asked whether it knows of that: {why}"
            );
            let remedy = "let this machine reach it, or have it announce an address for that (`client_advertise`); \
                          ignore it if another address of the same server can be reached";
            Warning::new(what, remedy)
        });
        let mut warnings: Vec<Warning> = unreached.collect();
        if way.address.servers.len() == 1 {
            let others = members.iter().filter(|member| member.id().is_some());
            let all: Vec<String> =
                others.map(|member| &member.server).chain([&way.server]).map(ToString::to_string).collect();
            let what = format!(
                "the url names one server of the cluster `{name}`: while that is away nobody connects"
            );
            // With one it would be what the url says already.
            let remedy = match &all[..] {
                [_] => "name all of them, with commas between".to_owned(),
                _ => format!("name all of them, as in {}", all.join(",")),
            };
            warnings.push(Warning::new(what, remedy));
        }
        warnings
    }

    /// Ends the helpers, and waits until their connections are closed.
    pub(crate) async fn end(&self) {
        self.0.tasks().abort_all();
        for helper in self.0.take_helpers() {
            helper.client_thread.end().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.0.tasks().abort_all();
        drop(self.0.take_helpers());
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_helpers(&self) -> Vec<member::Helper> {
        self.members().iter().filter_map(|member| member.take_helper()).collect()
    }

    /// Whether this server is the link's own, is of another cluster, or has a helper.
    fn is_needless(&self, info: &ServerInfo) -> bool {
        let other = info.cluster.as_deref() != Some(&self.name);
        other || info.server_id == self.id || self.members().iter().any(|one| one.serves(&info.server_id))
    }

    /// A server has lost its helper: whoever has another address of it looks there, too.
    fn lost(&self, id: Option<&str>) {
        self.members().iter().for_each(|member| member.needed_again(id));
        self.look.notify_one();
    }

    /// Asks a helper through the cluster. `false`: nobody answers there, as far as the link's server knows. There is no
    /// limit to the wait.
    async fn ask(&self, subject: String) -> Result<bool> {
        let (reply_to, answer) = self.connection.expect(subject.clone());
        let sent = self.client.publish_with_reply(subject, reply_to, Bytes::new()).await;
        sent.map_err(|_| self.connection.over())?;
        Ok(answer.await?.status.is_none())
    }

    async fn prove(&self, member: &Member) -> Result<()> {
        let answered = timeout_at(member.deadline(), self.answered(member)).await.unwrap_or(Ok(false))?;
        if !answered {
            member.go_on();
        }
        Ok(())
    }

    /// Waits for the answer of a server, or until none is needed. `false`: it cannot be had.
    async fn answered(&self, member: &Member) -> Result<bool> {
        let mut pause = PAUSES.0;
        loop {
            let changed = member.changed.notified();
            match member.standing() {
                Standing::Done => return Ok(true),
                Standing::GoOn => return Ok(false),
                Standing::Ask(subject) => select! {
                    answer = self.ask(subject) => match answer {
                        Ok(true) => return Ok(true),
                        Err(error) if self.connection.is_over() => return Err(error),
                        Ok(false) | Err(_) => sleep(pause).await,
                    },
                    () = changed => {}
                },
                Standing::Wait => changed.await,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Asks the link's server which others there are.
    async fn look(self: &Arc<Self>) {
        let greeting = opening::greeting(&self.way.address, &self.way.server);
        let Ok(Ok(info)) = timeout(PATIENCE, greeting).await else { return };
        // Behind the address of a load balancer there may be another one, which knows the same.
        self.learn(&info, true);
    }

    /// What a server tells of the others. Only what the `own` one announces is known to that.
    fn learn(self: &Arc<Self>, info: &ServerInfo, own: bool) {
        if info.cluster.as_deref() != Some(&self.name) {
            return;
        }
        // They come from the wire.
        let servers = info.connect_urls.iter().filter_map(|url| self.way.address.announced(url));
        let servers: Vec<ServerAddr> = servers.take(MEMBERS).collect();
        for server in &servers {
            self.add(server, false, own);
        }
        if own {
            let members = self.members().clone();
            members.iter().for_each(|member| member.announce(servers.contains(&member.server)));
        }
    }

    fn add(self: &Arc<Self>, server: &ServerAddr, named: bool, announced: bool) {
        let mut members = self.members();
        let known = members.iter().any(|member| member.server == *server) || *server == self.way.server;
        if known || members.len() >= MEMBERS {
            return;
        }
        let member = Member::new(server.clone(), named, announced);
        members.push(Arc::clone(&member));
        drop(members);
        let keeping = helper::keep(Arc::clone(self), Arc::clone(&member));
        let task = self.tasks().spawn(self.connection.guard("keeps a helper", keeping));
        member.is_kept_by(task);
    }

    /// Follows what the link's server tells, until the link ends.
    async fn watch(self: Arc<Self>) {
        loop {
            select! {
                () = sleep(LOOK) => {}
                () = self.look.notified() => {}
            }
            self.look().await;
            let left: Vec<_> = self.members().extract_if(.., |member| member.has_left()).collect();
            left.iter().for_each(|member| member.give_up());
            while self.tasks().try_join_next().is_some() {}
        }
    }
}
