//! Shards: which masters a sharded link is connected to, and which of its channels wait for one.
//!
//! Every channel that core has subscribed is either in the book of one shard, or *parked*: its shard is gone, or its slot is
//! being moved. Core waits for a parked channel; the broker's own ones are subscribed again from here.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{ConnectContext, Inbox, ServerAddr},
};
use futures_util::future::join_all;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    atlas::{ANSWER_LIMIT, Atlas, within},
    echoes::Echoes,
    held::Held,
    shard::{LinkSide, Shard, Watching},
    slots::{SlotMap, slot_of},
};

/// How often a call follows channels to another shard.
pub(crate) const ROUNDS: usize = 3;
/// How many masters a link connects to at most.
const MASTERS: usize = 128;

/// See the module.
pub(crate) struct Shards {
    pub(crate) atlas: Arc<Atlas>,
    pub(crate) inbox: Inbox,
    pub(crate) echoes: Arc<Echoes>,
    pub(crate) held: Arc<Held>,
    context: ConnectContext,
    state: Mutex<State>,
    /// The map or the shards may have changed.
    pub(crate) changed: Notify,
    /// Its receivers live in the connections, so it also tells when all are gone.
    pub(crate) closing: watch::Sender<bool>,
    next: AtomicU64,
    this: Weak<Self>,
}

/// What belongs to each shard; and what belongs to none.
type Groups<T> = (Vec<(Arc<Shard>, Vec<T>)>, Vec<T>);

#[derive(Debug, Default)]
struct State {
    live: Vec<Arc<Shard>>,
    parked: HashSet<ChannelName>,
    /// Why a master of the map is not connected.
    failures: Vec<(ServerAddr, Error)>,
}

impl Shards {
    pub(crate) fn new(atlas: Arc<Atlas>, context: ConnectContext) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            atlas,
            inbox: context.inbox.clone(),
            echoes: Arc::default(),
            held: Arc::new(Held::new(context.digests())),
            context,
            state: Mutex::default(),
            changed: Notify::new(),
            closing: watch::Sender::new(false),
            next: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the connections to a master.
    pub(crate) async fn open(&self, server: &ServerAddr) -> Result<Shard> {
        let watching: Weak<dyn Watching> = self.this.clone();
        let link = LinkSide {
            inbox: self.inbox.clone(),
            echoes: Arc::clone(&self.echoes),
            held: Arc::clone(&self.held),
            watching,
            closing: self.closing.subscribe(),
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        within(server, Shard::open(&self.atlas.address, server, id, link)).await
    }

    /// A shard is there.
    pub(crate) fn add(&self, shard: Shard) {
        let mut state = self.lock();
        state.failures.retain(|(server, _)| server != shard.server());
        state.live.push(Arc::new(shard));
        drop(state);
        self.changed.notify_one();
    }

    /// The shards that are there.
    pub(crate) fn live(&self) -> Vec<Arc<Shard>> {
        self.lock().live.clone()
    }

    /// Channels, or what belongs to them, by the shard that serves them; and those that none does.
    pub(crate) fn by_shard<T>(&self, items: Vec<T>, name: impl Fn(&T) -> &ChannelName) -> Groups<T> {
        let (map, live) = (self.atlas.map(), self.live());
        let mut groups: Vec<(Arc<Shard>, Vec<T>)> =
            live.into_iter().map(|shard| (shard, Vec::new())).collect();
        let mut unserved = Vec::new();
        for item in items {
            let owner = map.owner(slot_of(name(&item).as_str()));
            match groups.iter_mut().find(|(shard, _)| Some(shard.server()) == owner) {
                Some((_, group)) => group.push(item),
                None => unserved.push(item),
            }
        }
        groups.retain(|(_, group)| !group.is_empty());
        (groups, unserved)
    }

    /// Channels wait until a shard serves them.
    pub(crate) fn park(&self, channels: Vec<ChannelName>) {
        if channels.is_empty() {
            return;
        }
        self.lock().parked.extend(channels.iter().cloned());
        self.echoes.come_back(&channels, &self.inbox);
        let of_core: Vec<_> =
            channels.into_iter().filter(|channel| !self.context.is_own(channel.as_str())).collect();
        if !of_core.is_empty() {
            self.inbox.suspended(&of_core);
        }
        self.changed.notify_one();
    }

    /// Nobody waits for these any more.
    pub(crate) fn unpark(&self, channels: &[ChannelName]) {
        let mut state = self.lock();
        channels.iter().for_each(|channel| _ = state.parked.remove(channel));
    }

    pub(crate) fn is_parked(&self, channel: &ChannelName) -> bool {
        self.lock().parked.contains(channel)
    }

    /// Takes the parked channels that a shard serves by now: the broker's own, and those of core.
    pub(crate) fn take_served(&self) -> (Vec<ChannelName>, Vec<ChannelName>) {
        let map = self.atlas.map();
        let mut state = self.lock();
        let State { live, parked, .. } = &mut *state;
        let served = parked.extract_if(|channel| {
            let owner = map.owner(slot_of(channel.as_str()));
            live.iter().any(|shard| Some(shard.server()) == owner)
        });
        served.partition(|channel| self.context.is_own(channel.as_str()))
    }

    /// Whether every master is connected, and no channel waits.
    pub(crate) fn is_whole(&self) -> bool {
        let map = self.atlas.map();
        let state = self.lock();
        let served = |master| state.live.iter().any(|shard| shard.server() == master);
        state.parked.is_empty() && map.masters().iter().all(served)
    }

    /// The masters of the map that are not connected.
    pub(crate) fn missing(&self, map: &SlotMap) -> Vec<ServerAddr> {
        let live = self.live();
        let masters = map.masters().iter().take(MASTERS);
        masters.filter(|master| !live.iter().any(|shard| shard.server() == *master)).cloned().collect()
    }

    /// A master is not connected, and why.
    pub(crate) fn note_failure(&self, server: &ServerAddr, error: &Error) {
        let map = self.atlas.map();
        let failures = &mut self.lock().failures;
        failures.retain(|(known, _)| known != server && map.masters().contains(known));
        failures.push((server.clone(), error.clone()));
    }

    /// What of the cluster is out of reach, and why; `None` if nothing is.
    pub(crate) fn out_of_reach(&self) -> Option<Error> {
        let map = self.atlas.map();
        let Some(server) = self.missing(&map).into_iter().next() else {
            let slots = map.without_owner();
            let why = || format!("no master of the cluster serves {slots} of its slots");
            return (slots > 0).then(|| Error::new(ErrorKind::Unavailable, why()));
        };
        let why = self.failure(&server);
        Some(
            why.unwrap_or_else(|| {
                Error::new(ErrorKind::Unavailable, format!("{server} is not connected yet"))
            }),
        )
    }

    fn failure(&self, server: &ServerAddr) -> Option<Error> {
        let state = self.lock();
        state.failures.iter().find(|(known, _)| known == server).map(|(_, error)| error.clone())
    }

    /// The error for a post to a channel that no shard serves.
    pub(crate) fn unserved(&self, channel: &ChannelName) -> Error {
        let slot = slot_of(channel.as_str());
        let cause = self.atlas.map().owner(slot).and_then(|server| self.failure(server));
        let why = format!("no connection to a master that serves slot {slot} of `{channel}` at present");
        match cause {
            Some(cause) => Error::new(ErrorKind::Unavailable, format!("{why}: {}", cause.message())),
            None => Error::new(ErrorKind::Unavailable, why),
        }
    }

    /// Waits until what the shards had published before has arrived. One that does not answer is let go of.
    pub(crate) async fn fence(&self) {
        let live = self.live();
        let answers = join_all(live.iter().map(|shard| shard.fence())).await;
        for (shard, answer) in live.iter().zip(answers) {
            if let Err(cause) = answer {
                self.drop_shard(shard.id, cause);
            }
        }
    }

    /// Asks a shard for the map that agrees with most of them. A master that has lost the others goes by an old one, and
    /// keeps its slots in it.
    pub(crate) async fn ask_most(&self) {
        let live = self.live();
        let asked = join_all(live.iter().map(|shard| timeout(ANSWER_LIMIT, shard.publisher.slots()))).await;
        let maps: Vec<_> = asked.into_iter().map(|map| map.ok().and_then(Result::ok)).collect();
        let votes = |map: &SlotMap| maps.iter().flatten().filter(|other| *other == map).count();
        let known = live.iter().zip(&maps).filter_map(|(shard, map)| Some((shard, votes(map.as_ref()?))));
        if let Some((shard, _)) = known.max_by_key(|(_, votes)| *votes) {
            self.atlas.ask_first(&shard.publisher);
        }
    }

    /// Lets go of what is no master any more.
    pub(crate) fn retire(&self, map: &SlotMap) {
        for shard in self.live() {
            if !map.masters().contains(shard.server()) {
                let why = format!("{} serves no slots of its cluster any more", shard.server());
                self.drop_shard(shard.id, Error::new(ErrorKind::Unavailable, why));
            }
        }
    }

    /// A shard is of no use any more: its channels wait for another one. Without any the link is of no use either.
    pub(crate) fn drop_shard(&self, id: u64, cause: Error) {
        let (shard, last) = {
            let mut state = self.lock();
            let Some(at) = state.live.iter().position(|shard| shard.id == id) else { return };
            (state.live.swap_remove(at), state.live.is_empty())
        };
        self.atlas.avoid(shard.server());
        self.note_failure(shard.server(), &cause);
        if last {
            self.inbox.lost(cause);
        }
        self.park(shard.book.close());
    }

    /// Subscribes channels at their shards. Those that none serves for now are parked; the others are returned.
    ///
    /// # Errors
    /// A server refuses one of them.
    pub(crate) async fn subscribe(&self, channels: Vec<ChannelName>) -> Result<Vec<ChannelName>> {
        self.unpark(&channels);
        let (mut again, mut subscribed) = (channels, Vec::new());
        for _ in 0..ROUNDS {
            let (groups, unserved) = self.by_shard(again, |channel| channel);
            self.park(unserved);
            let asking = groups.iter().map(|(shard, group)| shard.subscribe(group));
            let outcomes = join_all(asking).await;
            again = Vec::new();
            let mut refused = None;
            for ((shard, group), outcome) in groups.iter().zip(outcomes) {
                match outcome {
                    Ok(left) => {
                        subscribed.extend(group.iter().filter(|name| !left.again.contains(name)).cloned());
                        if !left.again.is_empty() {
                            self.atlas.ask_first(&shard.publisher);
                        }
                        again.extend(left.again);
                        refused = refused.or(left.refused);
                    }
                    Err(cause) => {
                        self.drop_shard(shard.id, cause);
                        again.extend(group.iter().cloned());
                    }
                }
            }
            if let Some(error) = refused {
                self.park(again);
                return Err(error);
            }
            if again.is_empty() {
                return Ok(subscribed);
            }
            // Where it fails the old map serves, and what it is wrong about is parked.
            let _ = self.atlas.refresh().await;
        }
        self.park(again);
        Ok(subscribed)
    }

    /// The error for a map that a link cannot follow.
    pub(crate) fn check_size(map: &SlotMap) -> Result<()> {
        if map.masters().len() <= MASTERS {
            return Ok(());
        }
        let why = format!(
            "the cluster has {} masters, and a sharded link goes to {MASTERS} at most",
            map.masters().len()
        );
        Err(Error::new(ErrorKind::Unsupported, why))
    }
}

impl Watching for Shards {
    fn ended(&self, shard: u64, channel: ChannelName) {
        // Whoever gives a slot away knows first who has it.
        if let Some(shard) = self.live().into_iter().find(|live| live.id == shard) {
            self.atlas.ask_first(&shard.publisher);
        }
        self.park(vec![channel]);
    }

    fn gone(&self, shard: u64, cause: Error) {
        self.drop_shard(shard, cause);
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("state", &self.lock()).finish_non_exhaustive()
    }
}
