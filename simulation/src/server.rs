//! Server: what stands for the backend: who is linked and subscribed, one queue of work, and a way of constant length.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{Inbox, Outgoing},
};
use bytes::Bytes;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::counts::{Counts, Kind};

/// What the server takes for each thing that it does, one after the other, and the way to it.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// From a node to the server, and from there to a node.
    pub way: Duration,
    /// To accept a connection.
    pub connect: Duration,
    /// To subscribe or unsubscribe one name.
    pub name: Duration,
    /// To take a post.
    pub post: Duration,
    /// To send a frame to one receiver, without its bytes.
    pub delivery: Duration,
    /// To send one KiB to one receiver.
    pub kib: Duration,
}

impl Default for Costs {
    /// Of the order of one core of Redis on a network of 10 Gbit/s; TLS makes a connection some ten times dearer.
    fn default() -> Self {
        Self {
            way: Duration::from_micros(500),
            connect: Duration::from_micros(100),
            name: Duration::from_micros(3),
            post: Duration::from_micros(2),
            delivery: Duration::from_micros(1),
            kib: Duration::from_nanos(800),
        }
    }
}

/// A server in this process. Its task ends with the runtime.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Notified when something is under way to nodes.
    notify: Notify,
}

struct State {
    next: u64,
    links: BTreeMap<u64, Linked>,
    channels: HashMap<ChannelName, Vec<u64>>,
    /// No connection is accepted.
    down: bool,
    costs: Costs,
    /// When everything that was begun is done.
    busy_until: Instant,
    /// Under way to nodes, in the order in which it arrives.
    under_way: VecDeque<UnderWay>,
    counts: Counts,
    /// What was posted is kept here, if somebody wants that.
    record: Option<Vec<(ChannelName, Bytes)>>,
}

struct Linked {
    inbox: Inbox,
    channels: Vec<ChannelName>,
}

struct UnderWay {
    due: Instant,
    links: Vec<u64>,
    channel: ChannelName,
    frame: Bytes,
}

impl Server {
    /// A server, and the task that delivers; inside a runtime.
    #[must_use]
    pub fn start(costs: Costs) -> (Self, JoinHandle<()>) {
        let state = State {
            next: 0,
            links: BTreeMap::new(),
            channels: HashMap::new(),
            down: false,
            costs,
            busy_until: Instant::now(),
            under_way: VecDeque::new(),
            counts: Counts::new(),
            record: None,
        };
        let server = Self(Arc::new(Shared { state: Mutex::new(state), notify: Notify::new() }));
        let delivering = server.clone();
        (server, tokio::spawn(async move { delivering.deliver().await }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts anew from here on. What was counted so far.
    pub fn count_anew(&self) -> Counts {
        std::mem::replace(&mut self.lock().counts, Counts::new())
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// How many links there are.
    #[must_use]
    pub fn links(&self) -> usize {
        self.lock().links.len()
    }

    /// How many names are subscribed, over all links.
    #[must_use]
    pub fn subscribed(&self) -> usize {
        self.lock().channels.values().map(Vec::len).sum()
    }

    /// From now on connections are refused, or accepted again.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// From now on everything takes so long.
    pub fn set_costs(&self, costs: Costs) {
        self.lock().costs = costs;
    }

    /// Loses links: those at these places in the order of their age.
    pub fn lose(&self, places: &[usize]) {
        let lost: Vec<Inbox> = {
            let mut state = self.lock();
            let ids: Vec<u64> = state.links.keys().copied().collect();
            let ids = places.iter().filter_map(|place| ids.get(*place).copied());
            ids.filter_map(|id| state.remove(id)).map(|linked| linked.inbox).collect()
        };
        for inbox in lost {
            inbox.lost(Error::new(ErrorKind::Unavailable, "the server ended the link"));
        }
    }

    /// Keeps what is posted from now on; what was kept until now.
    pub(crate) fn record(&self, on: bool) -> Vec<(ChannelName, Bytes)> {
        std::mem::replace(&mut self.lock().record, on.then(Vec::new)).unwrap_or_default()
    }

    /// The inbox of the newest link.
    pub(crate) fn newest_inbox(&self) -> Option<Inbox> {
        self.lock().links.values().next_back().map(|linked| linked.inbox.clone())
    }

    /// Goes the way to the server, and waits until it has done something that takes so long.
    async fn serve(&self, cost: impl FnOnce(&Costs) -> Duration) {
        let done = {
            let mut state = self.lock();
            let cost = cost(&state.costs);
            state.counts.busy += cost;
            state.busy_until = state.busy_until.max(Instant::now() + state.costs.way) + cost;
            state.busy_until
        };
        sleep_until(done).await;
    }

    /// The way back.
    pub(crate) async fn answer(&self) {
        let way = self.lock().costs.way;
        sleep_until(Instant::now() + way).await;
    }

    /// A new link. Whoever gets its number has to see that it leaves.
    pub(crate) async fn join(&self, inbox: Inbox) -> Result<u64> {
        self.lock().counts.connected();
        if self.lock().down {
            self.answer().await;
            self.answer().await;
            return Err(Error::new(ErrorKind::Unavailable, "the server is down"));
        }
        self.serve(|costs| costs.connect).await;
        let mut state = self.lock();
        if state.down {
            return Err(Error::new(ErrorKind::Unavailable, "the server is down"));
        }
        state.next += 1;
        let id = state.next;
        state.links.insert(id, Linked { inbox, channels: Vec::new() });
        Ok(id)
    }

    pub(crate) fn leave(&self, id: u64) {
        let linked = self.lock().remove(id);
        drop(linked);
    }

    pub(crate) async fn subscribe(&self, id: u64, channels: &[ChannelName]) -> Result<()> {
        self.lock().counts.subscribed(channels.len());
        self.serve(|costs| costs.name * channels.len() as u32).await;
        self.lock().subscribe(id, channels)?;
        self.answer().await;
        Ok(())
    }

    pub(crate) async fn unsubscribe(&self, id: u64, channels: &[ChannelName]) -> Result<()> {
        self.lock().counts.unsubscribed += channels.len() as u64;
        self.serve(|costs| costs.name * channels.len() as u32).await;
        self.lock().unsubscribe(id, channels);
        self.answer().await;
        Ok(())
    }

    pub(crate) async fn publish(&self, id: u64, batch: &[Outgoing]) -> Result<()> {
        self.serve(|costs| costs.post * batch.len() as u32).await;
        let answered = self.lock().publish(id, batch)?;
        self.0.notify.notify_one();
        sleep_until(answered).await;
        Ok(())
    }

    /// Hands over what is under way, when it is due.
    async fn deliver(&self) {
        loop {
            let next = self.lock().under_way.front().map(|under_way| under_way.due);
            match next {
                None => self.0.notify.notified().await,
                Some(due) if due > Instant::now() => sleep_until(due).await,
                Some(_) => {
                    let (inboxes, under_way) = {
                        let mut state = self.lock();
                        let Some(under_way) = state.under_way.pop_front() else { continue };
                        let links = under_way.links.iter().filter_map(|id| state.links.get(id));
                        (links.map(|linked| linked.inbox.clone()).collect::<Vec<_>>(), under_way)
                    };
                    for inbox in inboxes {
                        inbox.deliver(under_way.channel.as_str(), under_way.frame.clone());
                    }
                    // So that readers keep up, as they would on machines of their own.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the link is gone")
}

impl State {
    fn subscribe(&mut self, id: u64, channels: &[ChannelName]) -> Result<()> {
        let linked = self.links.get_mut(&id).ok_or_else(gone)?;
        for channel in channels {
            let ids = self.channels.entry(channel.clone()).or_default();
            if !ids.contains(&id) {
                ids.push(id);
                linked.channels.push(channel.clone());
            }
        }
        Ok(())
    }

    fn unsubscribe(&mut self, id: u64, channels: &[ChannelName]) {
        for channel in channels {
            if let Some(ids) = self.channels.get_mut(channel) {
                ids.retain(|other| *other != id);
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Linked> {
        let mut linked = self.links.remove(&id)?;
        let channels = std::mem::take(&mut linked.channels);
        self.unsubscribe(id, &channels);
        Some(linked)
    }

    /// When the answer is back: behind everything that this batch makes the server send.
    fn publish(&mut self, id: u64, batch: &[Outgoing]) -> Result<Instant> {
        if !self.links.contains_key(&id) {
            return Err(gone());
        }
        let costs = self.costs;
        self.busy_until = self.busy_until.max(Instant::now());
        for outgoing in batch {
            let links = self.channels.get(&outgoing.channel).cloned().unwrap_or_default();
            let bytes = outgoing.size();
            let each = costs.delivery + costs.kib.mul_f64(bytes as f64 / 1024.0);
            self.counts.posted(Kind::of(outgoing.channel.as_str()), bytes, links.len());
            self.counts.busy += each * links.len() as u32;
            self.busy_until += each * links.len() as u32;
            if let Some(record) = &mut self.record {
                record.push((outgoing.channel.clone(), outgoing.frame()));
            }
            let due = self.busy_until + costs.way;
            let (channel, frame) = (outgoing.channel.clone(), outgoing.frame());
            self.under_way.push_back(UnderWay { due, links, channel, frame });
        }
        Ok(self.busy_until + costs.way)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
