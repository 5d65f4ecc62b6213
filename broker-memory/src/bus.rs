//! Bus: what stands for the server. Members, their channels, and faults on purpose.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use broker_core::{
    ChannelName, Error, ErrorKind,
    driver::{Inbox, LogCursor, LogPage, LogSpec, Outgoing},
};
use bytes::Bytes;

use crate::log::Log;

/// A bus in this process, and the handle to disturb it in tests.
///
/// Faults follow those of a real network. *Cut*: links are lost at once and new ones are refused. *Stall*:
/// packets are swallowed without a word, in both directions; a link that lived through a stall stays dead
/// after [`heal`](Self::heal), and only its missing echo tells. They can be made for all, or for one
/// [`Line`] (`memory://name?line=n1`).
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    name: Option<Box<str>>,
    state: Mutex<State>,
}

/// Which channels the bus lets anybody use.
#[derive(Debug, Default)]
enum Permitted {
    #[default]
    Everything,
    /// Those whose names begin like this, and the broker's own.
    From(Box<str>),
    Nothing,
}

#[derive(Default)]
struct State {
    next: u64,
    members: BTreeMap<u64, Member>,
    channels: HashMap<ChannelName, HashSet<u64>>,
    /// The faults in force; the key "" is the bus as a whole.
    faults: HashMap<Box<str>, Fault>,
    permitted: Permitted,
    /// Under way to members. One publisher at a time delivers, without the lock, so that a woken task may
    /// come back here; the order of the queue is the order for all.
    queue: VecDeque<(Vec<Inbox>, ChannelName, Bytes)>,
    delivering: bool,
    logs: Logs,
}

/// The revocation logs of a bus, by name.
type Logs = HashMap<ChannelName, Log>;

/// The revocation logs of a [`Bus`], as they were at one moment.
#[derive(Clone)]
pub struct SavedLogs(Logs);

struct Member {
    inbox: Inbox,
    line: Box<str>,
    /// Lived through a stall: receives nothing, and nothing of it is received.
    dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Cut,
    Stall,
}

/// How many frames may be under way before a publisher waits; each may add one more batch.
const BEHIND: usize = 4096;

/// What a call through a line meets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Clear,
    /// Refused at once.
    Cut,
    /// No answer, ever.
    Stalled,
}

static NAMED: LazyLock<Mutex<HashMap<Box<str>, Weak<Shared>>>> = LazyLock::new(Mutex::default);

impl Bus {
    /// A bus that nobody else can reach.
    #[must_use]
    pub fn private() -> Self {
        Self(Arc::new(Shared { name: None, state: Mutex::default() }))
    }

    /// The bus of that name in this process; made when it does not exist, and gone when nobody holds it.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = named.get(name).and_then(Weak::upgrade) {
            return Self(shared);
        }
        named.retain(|_, bus| bus.strong_count() > 0);
        let shared = Arc::new(Shared { name: Some(name.into()), state: Mutex::default() });
        named.insert(name.into(), Arc::downgrade(&shared));
        Self(shared)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One node's piece of wire.
    #[must_use]
    pub fn line(&self, name: &str) -> Line {
        Line { bus: self.clone(), name: name.into() }
    }

    /// Loses every link, and refuses new ones until [`heal`](Self::heal): a killed server.
    pub fn cut(&self) {
        self.set_fault("", Fault::Cut);
    }

    /// Swallows everything until [`heal`](Self::heal): a server that hangs.
    pub fn stall(&self) {
        self.set_fault("", Fault::Stall);
    }

    /// Ends the fault of the bus as a whole; those of single lines stay.
    pub fn heal(&self) {
        self.lock().faults.remove("");
    }

    /// Loses every link once; new ones are welcome.
    pub fn drop_links(&self) {
        self.lose(|_| true);
    }

    /// From now on refuses every channel whose name does not begin with `start`, but for the broker's own.
    /// Links are lost, so that what they are subscribed to is asked for again.
    pub fn allow_only(&self, start: &str) {
        self.permit(Permitted::From(start.into()));
    }

    /// From now on refuses every channel, the broker's own among them. Links are lost.
    pub fn allow_nothing(&self) {
        self.permit(Permitted::Nothing);
    }

    /// From now on refuses no channel. Links are lost.
    pub fn allow_everything(&self) {
        self.permit(Permitted::Everything);
    }

    fn permit(&self, permitted: Permitted) {
        self.lock().permitted = permitted;
        self.drop_links();
    }

    /// The channels that have a subscriber, sorted.
    #[must_use]
    pub fn channels(&self) -> Vec<String> {
        let mut names: Vec<_> = self.lock().channels.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    /// How many links there are.
    #[must_use]
    pub fn links(&self) -> usize {
        self.lock().members.len()
    }

    /// Publishes bytes as they are, as a foreign program would.
    pub fn publish_raw(&self, channel: &str, bytes: impl Into<Bytes>) {
        // By the name under which somebody subscribes: a foreign program is not held to the rules for names.
        let subscribed = self.lock().channels.get_key_value(channel).map(|(name, _)| name.clone());
        self.enqueue(subscribed.map(|name| (name, bytes.into())));
    }

    /// Deletes every revocation log.
    pub fn wipe_logs(&self) {
        self.lock().logs.values_mut().for_each(Log::wipe);
    }

    /// Drops the records of every revocation log, and keeps the logs.
    pub fn trim_logs(&self) {
        self.lock().logs.values_mut().for_each(Log::trim);
    }

    /// A copy of every revocation log.
    #[must_use]
    pub fn save_logs(&self) -> SavedLogs {
        SavedLogs(self.lock().logs.clone())
    }

    /// Puts a copy in the place of every revocation log: a server whose snapshot was restored.
    pub fn restore_logs(&self, saved: &SavedLogs) {
        self.lock().logs.clone_from(&saved.0);
    }

    pub(crate) fn revoke(&self, log: &LogSpec, record: Bytes) {
        let mut state = self.lock();
        state.logs.entry(log.name.clone()).or_insert_with(Log::new).append(record, log.retention);
    }

    pub(crate) fn revocations(&self, log: &LogSpec, after: &LogCursor) -> LogPage {
        self.lock().logs.entry(log.name.clone()).or_insert_with(Log::new).read(after)
    }

    fn set_fault(&self, line: &str, fault: Fault) {
        let on_line = |member: &Member| line.is_empty() || *member.line == *line;
        self.lock().faults.insert(line.into(), fault);
        match fault {
            Fault::Cut => self.lose(on_line),
            Fault::Stall => {
                self.lock().members.values_mut().filter(|m| on_line(m)).for_each(|m| m.dead = true);
            }
        }
    }

    fn lose(&self, chosen: impl Fn(&Member) -> bool) {
        let lost: Vec<Inbox> = {
            let mut state = self.lock();
            let ids: Vec<u64> = state.members.iter().filter(|(_, m)| chosen(m)).map(|(id, _)| *id).collect();
            ids.into_iter().filter_map(|id| state.remove(id)).map(|member| member.inbox).collect()
        };
        for inbox in lost {
            inbox.lost(Error::new(ErrorKind::Unavailable, "the bus dropped the link"));
        }
    }

    /// What a call of a link meets.
    pub(crate) fn passage_of(&self, id: u64) -> Passage {
        match self.lock().members.get(&id) {
            None => Passage::Cut,
            Some(Member { dead: true, .. }) => Passage::Stalled,
            Some(_) => Passage::Clear,
        }
    }

    /// Whether the bus lets anybody use a channel.
    pub(crate) fn permits(&self, channel: &ChannelName) -> bool {
        let name = channel.as_str();
        match &self.lock().permitted {
            Permitted::Everything => true,
            Permitted::From(start) => name.starts_with(&**start) || name.contains('$'),
            Permitted::Nothing => false,
        }
    }

    /// A new link on a line, or what it meets instead. One step: a fault that is made meanwhile is not missed.
    pub(crate) fn join(&self, line: &str, inbox: Inbox) -> Result<u64, Passage> {
        let mut state = self.lock();
        match [state.faults.get(""), state.faults.get(line)] {
            [Some(Fault::Cut), _] | [_, Some(Fault::Cut)] => return Err(Passage::Cut),
            [None, None] => {}
            _ => return Err(Passage::Stalled),
        }
        state.next += 1;
        let id = state.next;
        state.members.insert(id, Member { inbox, line: line.into(), dead: false });
        Ok(id)
    }

    pub(crate) fn leave(&self, id: u64) {
        let member = self.lock().remove(id);
        drop(member);
    }

    pub(crate) fn subscribe(&self, id: u64, channels: &[ChannelName]) {
        let mut state = self.lock();
        if !state.members.contains_key(&id) {
            return; // lost meanwhile, and told so
        }
        for channel in channels {
            state.channels.entry(channel.clone()).or_default().insert(id);
        }
    }

    pub(crate) fn unsubscribe(&self, id: u64, channels: &[ChannelName]) {
        let mut state = self.lock();
        for channel in channels {
            state.unsubscribe(id, channel);
        }
    }

    /// Whether so much is under way to members that a publisher has to wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().queue.len() >= BEHIND
    }

    pub(crate) fn publish<'a>(&self, frames: impl Iterator<Item = &'a Outgoing>) {
        self.enqueue(frames.map(|out| (out.channel.clone(), out.frame())));
    }

    fn enqueue(&self, frames: impl IntoIterator<Item = (ChannelName, Bytes)>) {
        let mut state = self.lock();
        for (channel, frame) in frames {
            let members = state.subscribers_of(&channel);
            state.queue.push_back((members, channel, frame));
        }
        if mem::replace(&mut state.delivering, true) {
            return; // whoever delivers now delivers these too
        }
        loop {
            let queue = mem::take(&mut state.queue);
            if queue.is_empty() {
                state.delivering = false;
                return;
            }
            drop(state);
            for (members, channel, frame) in queue {
                members.iter().for_each(|inbox| deliver(inbox, &channel, &frame));
            }
            state = self.lock();
        }
    }
}

/// Hands a frame to one member. Whatever is behind its inbox is that node's; a panic there ends that node's link, and
/// neither the poster's nor the bus.
fn deliver(inbox: &Inbox, channel: &ChannelName, frame: &Bytes) {
    let delivered = catch_unwind(AssertUnwindSafe(|| inbox.deliver(channel.as_str(), frame.clone())));
    if delivered.is_err() {
        inbox.lost(Error::new(ErrorKind::Other, "the inbox of this node panicked"));
    }
}

impl State {
    fn subscribers_of(&self, channel: &ChannelName) -> Vec<Inbox> {
        let ids = self.channels.get(channel).into_iter().flatten();
        ids.filter_map(|id| self.members.get(id)).filter(|m| !m.dead).map(|m| m.inbox.clone()).collect()
    }

    fn unsubscribe(&mut self, id: u64, channel: &ChannelName) {
        if let Some(ids) = self.channels.get_mut(channel) {
            ids.remove(&id);
            if ids.is_empty() {
                self.channels.remove(channel);
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Member> {
        self.channels.retain(|_, ids| {
            ids.remove(&id);
            !ids.is_empty()
        });
        self.members.remove(&id)
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for SavedLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One node's piece of wire to a [`Bus`]: cut, stalled and healed by itself.
#[derive(Clone, Debug)]
pub struct Line {
    bus: Bus,
    name: Box<str>,
}

impl Line {
    /// Loses the links of this line, and refuses new ones until [`heal`](Self::heal).
    pub fn cut(&self) {
        self.bus.set_fault(&self.name, Fault::Cut);
    }

    /// Swallows everything on this line until [`heal`](Self::heal).
    pub fn stall(&self) {
        self.bus.set_fault(&self.name, Fault::Stall);
    }

    /// Ends the line's fault. Links that lived through a stall stay dead.
    pub fn heal(&self) {
        self.bus.lock().faults.remove(&self.name);
    }
}
