//! Atlas: the map of slots that a link goes by, and whom it asks for a newer one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker_core::{Error, ErrorKind, Result, driver::ServerAddr};
use tokio::time::timeout;

use super::{
    address::{ClusterAddress, in_random_order},
    member::Member,
    slots::SlotMap,
};

/// How long a connection to a member that the link has learned of may take to open.
pub(crate) const OPEN_LIMIT: Duration = Duration::from_secs(3);
/// How long a member may take to answer a question, before another one is asked.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Atlas {
    pub(crate) address: Arc<ClusterAddress>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    map: Arc<SlotMap>,
    /// Who was asked last.
    guide: Option<Member>,
}

impl Atlas {
    /// Asks any member that the URL names.
    pub(crate) async fn open(address: Arc<ClusterAddress>) -> Result<Self> {
        let (guide, map) = ask_any(&address, &address.members()).await?;
        address.learn(map.masters());
        Ok(Self { address, state: Mutex::new(State { map: Arc::new(map), guide: Some(guide) }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest map.
    pub(crate) fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.lock().map)
    }

    /// Who was asked last.
    pub(crate) fn guide(&self) -> Option<Member> {
        self.lock().guide.clone()
    }

    /// This member knows more than others just now.
    pub(crate) fn ask_first(&self, member: &Member) {
        self.lock().guide = Some(member.clone());
    }

    /// This member is out of reach.
    pub(crate) fn avoid(&self, server: &ServerAddr) {
        self.lock().guide.take_if(|guide| guide.server == *server);
    }

    /// Asks for a newer map: who was asked last, or else any member.
    pub(crate) async fn refresh(&self) -> Result<Arc<SlotMap>> {
        let guide = self.guide();
        let asked = match &guide {
            Some(guide) => timeout(ANSWER_LIMIT, guide.slots()).await.ok().and_then(Result::ok),
            None => None,
        };
        let (guide, map) = match (guide, asked) {
            (Some(guide), Some(map)) => (guide, map),
            (guide, _) => {
                self.lock().guide = None;
                let mut members = self.members();
                // Not the one that has just failed to answer, as long as there are others.
                members.sort_by_key(|member| guide.as_ref().is_some_and(|guide| guide.server == *member));
                ask_any(&self.address, &members).await?
            }
        };
        let mut state = self.lock();
        state.guide = Some(guide);
        if *state.map != map {
            self.address.learn(map.masters());
            state.map = Arc::new(map);
        }
        Ok(Arc::clone(&state.map))
    }

    /// Hangs up at who was asked last.
    pub(crate) async fn close(&self) {
        let guide = self.lock().guide.take();
        if let Some(guide) = guide {
            guide.quit().await;
        }
    }

    /// The members to try, in random order: the masters, and then those that only the URL names.
    pub(crate) fn members(&self) -> Vec<ServerAddr> {
        in_random_order(&[self.map().masters(), &self.address.hosts])
    }
}

/// The first of several members that answers with a map. One that has joined no cluster has none to offer.
async fn ask_any(address: &ClusterAddress, members: &[ServerAddr]) -> Result<(Member, SlotMap)> {
    ServerAddr::reach_any(members, |server| async move {
        let asking = async {
            let member = Member::ask_at(address, &server).await?;
            let map = member.slots().await?;
            if map.masters().is_empty() {
                let why = "knows of no master that serves slots: it has not joined the cluster, or that has yet to be made";
                return Err(member.peer.error(ErrorKind::Unavailable, why));
            }
            Ok((member, map))
        };
        within(&server, asking).await
    })
    .await
}

/// An attempt at a member, which ends by itself.
pub(crate) async fn within<T>(server: &ServerAddr, attempt: impl Future<Output = Result<T>>) -> Result<T> {
    let late =
        |_| Err(Error::new(ErrorKind::Timeout, format!("no answer from {server} within {OPEN_LIMIT:?}")));
    timeout(OPEN_LIMIT, attempt).await.unwrap_or_else(late)
}
