//! Queue: what a set of channels has taken from their rings and not yielded yet, bounded as a whole.
//!
//! Lock order: a member's place, then the queue. No waker is called and nothing of others is dropped under its lock.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{Arc, PoisonError},
    task::{Context, Waker},
};

use crate::{
    CloseReason, Error, Gap, GapCause, Message, NodeId,
    hub::{Entry, Hub, Notice, Tally, WakeList},
    runtime::{
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicU32, Ordering},
        },
        user_code::contain,
    },
    session::state::Shared,
};

#[cfg(test)]
thread_local! {
    /// How many members this thread has compared to find those of one that leaves.
    pub(super) static COMPARED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A member of the set, as the queue sees it.
pub(super) trait Queued {
    /// How many entries of it the queue has.
    fn queued(&self) -> &Count;
}

/// A number that is changed under a lock, and looked at without.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU32);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

/// How many gaps of each channel take no room of the messages: that its subscription has begun, and that a link was lost.
/// More of them count like messages, so that the queue is bounded.
const GAPS: usize = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue<M> {
    state: Mutex<State<M>>,
    /// How many messages wait at most.
    capacity: usize,
    /// How many bytes of payload they have at most; 0: as many as there are.
    most_bytes: u64,
    pub(super) hub: Arc<Hub>,
    /// Messages that this session of this node has posted for others are passed over.
    session: u64,
    node: NodeId,
    /// Nothing is taken before it is yielded: the newest message of a channel stays in its ring until then.
    pub(super) latest: bool,
}

#[derive(Debug)]
struct State<M> {
    entries: VecDeque<(Arc<M>, Entry)>,
    bytes: u64,
    /// How many of the entries are gaps.
    gaps: usize,
    /// What was dropped of each channel, to be reported before anything else of it. By the member's place in memory.
    lost: BTreeMap<usize, (Arc<M>, Lost)>,
    /// Channels that have something in their rings.
    ready: VecDeque<Arc<M>>,
    /// Channels that the backend refuses, from now on.
    refused: VecDeque<(Arc<M>, Error)>,
    /// How many members have not ended.
    live: usize,
    /// Nothing is yielded any more, and so nothing is taken.
    closed: bool,
    waker: Option<Waker>,
}

/// What was dropped of a channel.
#[derive(Debug, Default)]
struct Lost {
    /// The notice that its subscription has begun, which is the first of its entries.
    begun: bool,
    tally: Tally,
}

impl Lost {
    fn count(&mut self, entry: &Entry) {
        match gap_of(entry) {
            Some(gap) if gap.cause == GapCause::Subscribed => self.begun = true,
            _ => self.tally.count(entry),
        }
    }

    /// In the order in which they are yielded.
    fn gaps(&self) -> impl DoubleEndedIterator<Item = Gap> {
        let begun = self.begun.then_some(Gap::new(None, GapCause::Subscribed));
        begun.into_iter().chain(self.tally.gaps())
    }
}

/// What is next.
pub(super) enum Next<M> {
    Entry(Arc<M>, Entry),
    /// There is more in its ring.
    Look(Arc<M>),
    Refused(Arc<M>, Error),
    /// Nothing now; and how many channels may still have something.
    Nothing {
        live: usize,
    },
}

impl<M: Queued> Queue<M> {
    pub(super) fn new(
        session: &Shared,
        node: NodeId,
        capacity: usize,
        most_bytes: usize,
        latest: bool,
    ) -> Self {
        let (hub, session) = (Arc::clone(&session.hub), session.id);
        Self { state: Mutex::default(), capacity, most_bytes: most_bytes as u64, hub, session, node, latest }
    }

    pub(super) fn passes_over(&self, message: &Message) -> bool {
        message.sender().excludes(self.session) && message.origin() == self.node
    }

    /// No code of others runs under this lock, but for the cloning of a waker; a poisoned one is as good as new.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member begins.
    pub(super) fn add(&self) {
        self.lock().live += 1;
    }

    /// Takes over what a member has taken from its ring, the next one topmost. Its place is locked.
    pub(super) fn push(&self, member: &Arc<M>, batch: &mut Vec<Entry>, wakes: &mut WakeList) {
        let mut state = self.lock();
        if state.closed {
            return wakes.garbage.extend(batch.drain(..));
        }
        while let Some(entry) = batch.pop() {
            if matches!(&entry, Entry::Message(message) if self.passes_over(message)) {
                wakes.garbage.push(entry);
                continue;
            }
            state.count(&entry);
            member.queued().add();
            state.entries.push_back((Arc::clone(member), entry));
            while state.entries.len() > 1 && self.is_over(&state) {
                state.drop_oldest(wakes);
            }
        }
        wakes.wakers.extend(state.waker.take());
    }

    /// Of the newest messages each channel has one: what is skipped is no loss, so that none of them overflows.
    fn is_over(&self, state: &State<M>) -> bool {
        if self.latest {
            return false;
        }
        let free = state.gaps.min(GAPS * state.live);
        let messages = state.entries.len() - state.gaps;
        state.entries.len() - free > self.capacity
            || (self.most_bytes != 0 && state.bytes > self.most_bytes && messages > 1)
    }

    /// There is something in a member's ring, which is taken when it is its turn.
    pub(super) fn set_ready(&self, member: &Arc<M>, wakes: &mut WakeList) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.ready.push_back(Arc::clone(member));
        wakes.wakers.extend(state.waker.take());
    }

    /// A member has taken everything, and its ring has ended.
    pub(super) fn end(&self, member: &Arc<M>, reason: CloseReason, wakes: &mut WakeList) {
        let mut state = self.lock();
        state.live -= 1;
        if let CloseReason::Refused(error) = reason
            && !state.closed
        {
            state.refused.push_back((Arc::clone(member), error));
        }
        wakes.wakers.extend(state.waker.take());
    }

    /// A member has left, which had not ended if it is `live`: nothing of it is yielded.
    pub(super) fn remove(&self, member: &Arc<M>, live: bool, wakes: &mut WakeList) {
        let is_other = |other: &Arc<M>| {
            #[cfg(test)]
            COMPARED.set(COMPARED.get() + 1);
            !Arc::ptr_eq(other, member)
        };
        let mut state = self.lock();
        state.live -= usize::from(live);
        state.lost.remove(&key(member));
        state.refused.retain(|(other, _)| is_other(other));
        state.ready.retain(is_other);
        if !member.queued().is_empty() {
            for (other, entry) in mem::take(&mut state.entries) {
                if is_other(&other) {
                    state.entries.push_back((other, entry));
                } else {
                    state.uncount(&entry);
                    wakes.garbage.push(entry);
                }
            }
        }
        wakes.wakers.extend(state.waker.take());
    }

    /// What is next; when there is nothing, the waker waits. One that has `looked` into a ring yields something first:
    /// publishers may fill it faster than it can look.
    pub(super) fn next(&self, looked: bool, cx: &mut Context<'_>) -> Next<M> {
        let mut state = self.lock();
        if let Some(next) = state.next(self.latest || looked) {
            return next;
        }
        let live = state.live;
        let mut replaced = None; // dropped after the lock: a waker is foreign code
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            replaced = state.waker.replace(cx.waker().clone());
        }
        drop(state);
        drop(replaced);
        Next::Nothing { live }
    }

    /// Wakes the reader, so that it looks whether it is closed.
    pub(super) fn wake(&self, wakes: &mut WakeList) {
        wakes.wakers.extend(self.lock().waker.take());
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.entries.is_empty() && state.ready.is_empty() && state.lost.is_empty() && state.bytes == 0
    }

    /// Nothing is yielded any more: gives back what waits, all at once, so that members that leave afterwards find
    /// nothing to search for.
    pub(super) fn close(&self, wakes: &mut WakeList) {
        let State { entries, lost, refused, waker, .. } = {
            let mut state = self.lock();
            let live = state.live;
            mem::replace(&mut *state, State { live, closed: true, ..State::default() })
        };
        lost.values().for_each(|(member, _)| member.queued().remove());
        wakes.garbage.extend(entries.into_iter().map(|(member, entry)| {
            member.queued().remove();
            entry
        }));
        contain("an error that was dropped", || drop(refused));
        contain("a waker that was dropped", || drop(waker));
    }
}

// Derived, it would ask for members that have a default.
impl<M> Default for State<M> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            gaps: 0,
            lost: BTreeMap::new(),
            ready: VecDeque::new(),
            refused: VecDeque::new(),
            live: 0,
            closed: false,
            waker: None,
        }
    }
}

impl<M: Queued> State<M> {
    fn count(&mut self, entry: &Entry) {
        self.bytes += entry.size() as u64;
        self.gaps += usize::from(gap_of(entry).is_some());
    }

    fn uncount(&mut self, entry: &Entry) {
        self.bytes -= entry.size() as u64;
        self.gaps -= usize::from(gap_of(entry).is_some());
    }

    fn pop(&mut self) -> Option<(Arc<M>, Entry)> {
        let popped = self.entries.pop_front()?;
        self.uncount(&popped.1);
        Some(popped)
    }

    fn drop_oldest(&mut self, wakes: &mut WakeList) {
        let Some((member, entry)) = self.pop() else { return };
        let (member, lost) = self.lost.entry(key(&member)).or_insert_with(|| {
            member.queued().add();
            (member.clone(), Lost::default())
        });
        lost.count(&entry);
        member.queued().remove();
        wakes.garbage.push(entry);
    }

    /// What is queued goes before what is in the rings, or behind it.
    fn next(&mut self, queued_first: bool) -> Option<Next<M>> {
        // Whatever is queued of a channel came after what was dropped of it.
        if let Some((_, (member, lost))) = self.lost.pop_first() {
            let mut gaps = lost.gaps().map(Entry::gap);
            let first = gaps.next()?;
            for gap in gaps.rev() {
                self.count(&gap);
                member.queued().add();
                self.entries.push_front((Arc::clone(&member), gap));
            }
            member.queued().remove();
            return Some(Next::Entry(member, first));
        }
        if self.refused.front().is_some_and(|(member, _)| member.queued().is_empty()) {
            return self.refused.pop_front().map(|(member, error)| Next::Refused(member, error));
        }
        if !queued_first && let Some(member) = self.ready.pop_front() {
            return Some(Next::Look(member));
        }
        if let Some((member, entry)) = self.pop() {
            member.queued().remove();
            return Some(Next::Entry(member, entry));
        }
        self.ready.pop_front().map(Next::Look)
    }
}

fn gap_of(entry: &Entry) -> Option<&Gap> {
    match entry {
        Entry::Notice(notice) => match &**notice {
            Notice::Gap(gap) => Some(gap),
            Notice::Malformed(_) => None,
        },
        Entry::Message(_) => None,
    }
}

fn key<M>(member: &Arc<M>) -> usize {
    Arc::as_ptr(member).addr()
}
