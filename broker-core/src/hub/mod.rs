//! Hub: who listens to what in this process. Private; `hub.md` of the design has the measurements behind it.
//!
//! A table of channels, sharded by name so that cores do not meet on one lock, each channel a chain of
//! [`Ring`]s. Lock order: shard, then ring. Nobody is woken and nothing of others is dropped under a lock:
//! both are collected in an [`WakeList`].

mod ending;
mod entry;
mod pin;
mod probe_epochs;
#[cfg(test)]
mod reader_tests;
mod ring;
mod seat;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(test)]
mod tests;
mod wake_list;

use std::{
    hash::BuildHasher,
    sync::{Arc, PoisonError},
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use tokio::sync::Notify;

use crate::{
    ChannelName, CloseReason, Gap, GapCause, Message, NodeId,
    runtime::sync::{
        RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    wire::digest::Span,
};

pub(crate) use entry::{Entry, Notice, PutBy, Tally};
pub(crate) use probe_epochs::ProbeEpochs;
pub(crate) use ring::{Cursor, Reads, Ring};
pub(crate) use seat::{Seat, Seats};
pub(crate) use wake_list::WakeList;

const SHARDS: usize = 64;

/// Who listens to what.
#[derive(Debug)]
pub(crate) struct Hub {
    shards: Vec<RwLock<HashTable<Arc<Ring>>>>,
    /// Seeded at random: names come from users.
    hasher: RandomState,
    /// How many entries wait for a reader at most, unless it says otherwise.
    capacity: u32,
    /// How many bytes of payload a ring keeps at most; 0: as many as there are.
    most_bytes: u32,
    /// No new subscriber; the present ones read the rest and end. Set before any ring ends.
    ended: AtomicBool,
    /// No subscriber yields anything more.
    closed: AtomicBool,
    /// Subscribers that had something to read, or to finish, when the hub ended, and have not yet.
    owing: AtomicUsize,
    /// Notified when `owing` falls to zero.
    drained: Notify,
    /// The newest probe epoch that has begun, from 1, and the newest that has come back.
    begun: AtomicU64,
    back: AtomicU64,
    /// The newest in which a channel was found subscribed; and notified when there is one more.
    newest: AtomicU64,
    found_subscribed: Notify,
}

/// Which message this is: its node, and its number on its channel there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageSeq {
    pub(crate) origin: NodeId,
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
}

impl Hub {
    pub(crate) fn new(capacity: usize, most_bytes: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::default(),
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            most_bytes: u32::try_from(most_bytes).unwrap_or(u32::MAX),
            ended: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            owing: AtomicUsize::new(0),
            drained: Notify::new(),
            begun: AtomicU64::new(1),
            back: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            found_subscribed: Notify::new(),
        }
    }

    #[inline]
    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    #[inline]
    fn read(&self, hash: u64) -> RwLockReadGuard<'_, HashTable<Arc<Ring>>> {
        self.shards[(hash >> 48) as usize % SHARDS].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, HashTable<Arc<Ring>>> {
        self.shards[(hash >> 48) as usize % SHARDS].write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Arc<Ring>> {
        self.with_head(name, Arc::clone)
    }

    /// Looks at the first ring of a channel under its shard's lock, which is cheaper than to hold on to it. What `with`
    /// owns is dropped after the lock if there is no such channel.
    #[inline]
    fn with_head<R>(&self, name: &str, with: impl FnOnce(&Arc<Ring>) -> R) -> Option<R> {
        let hash = self.hash(name);
        let shard = self.read(hash);
        let head = shard.find(hash, |ring| ring.channel.as_str() == name)?;
        Some(with(head))
    }

    /// Adds a subscriber; `None` once the hub has ended. The seat is taken under the shard's lock, so that
    /// an empty channel is not taken away at the same time.
    pub(crate) fn join(&self, name: &ChannelName, reads: Reads) -> Option<(Arc<Ring>, Cursor)> {
        self.with_ring(name, |head| self.take_seat(head, reads))
    }

    /// Looks at the first ring of a channel under its shard's lock, and makes it if there is none; `None` once the hub
    /// has ended.
    fn with_ring<R>(&self, name: &ChannelName, with: impl Fn(&Arc<Ring>) -> R) -> Option<R> {
        let hash = self.hash(name.as_str());
        let found = {
            let shard = self.read(hash);
            if self.ended.load(Ordering::SeqCst) {
                return None;
            }
            shard.find(hash, |ring| ring.channel == *name).filter(|head| !is_resting(head)).map(&with)
        };
        found.or_else(|| {
            let mut shard = self.write(hash);
            if self.ended.load(Ordering::SeqCst) {
                return None;
            }
            let rehash = |ring: &Arc<Ring>| self.hash(ring.channel.as_str());
            let entry = shard.entry(hash, |ring| ring.channel == *name, rehash);
            let entry = entry.or_insert_with(|| Arc::new(Ring::new(name.clone())));
            if is_resting(entry.get()) {
                entry.get().reset(); // what was noted for its last subscribers is not true for the next
            }
            Some(with(entry.get()))
        })
    }

    /// A seat in the first ring of the chain that has one free, or in a new one at its end.
    fn take_seat(&self, head: &Arc<Ring>, reads: Reads) -> (Arc<Ring>, Cursor) {
        let mut ring = head;
        loop {
            if let Some(cursor) = ring.join(reads, self.capacity) {
                return (Arc::clone(ring), cursor);
            }
            ring = ring.next.get_or_init(|| Arc::new(Ring::new(ring.channel.clone())));
        }
    }

    /// Removes a subscriber. True when the channel has nobody left here.
    pub(crate) fn leave(&self, ring: &Ring, cursor: &Cursor) -> bool {
        let mut wakes = WakeList::default();
        // Under one lock with the seat: the end may count it until it is given back.
        let (nobody_left, owed) = ring.leave(cursor, &mut wakes);
        if owed {
            self.one_less_owing();
        }
        let last = nobody_left && self.remove_if_empty(&ring.channel);
        wakes.finish();
        last
    }

    /// Whether the channel has no subscriber. Then it is taken away, unless it is pinned.
    fn remove_if_empty(&self, name: &ChannelName) -> bool {
        let hash = self.hash(name.as_str());
        let mut shard = self.write(hash);
        let Ok(entry) = shard.find_entry(hash, |ring| ring.channel == *name) else { return false };
        if !has_no_subscriber(entry.get()) {
            return false;
        }
        if entry.get().pins.load(Ordering::SeqCst) > 0 {
            entry.get().rest();
            return true;
        }
        let (removed, _) = entry.remove();
        drop(shard);
        drop(removed);
        true
    }

    /// Hands an entry to every subscriber of a channel here. False when there is none.
    ///
    /// A message is passed as what it is, here and below: it fits two registers, an entry does not.
    #[inline]
    pub(crate) fn put<E: Into<Entry> + Clone>(
        &self,
        name: &str,
        entry: E,
        from: PutBy,
        wakes: &mut WakeList,
    ) -> bool {
        self.with_head(name, |head| self.put_into(head, entry, from, wakes)).is_some()
    }

    #[inline]
    fn put_into<E: Into<Entry> + Clone>(
        &self,
        mut ring: &Arc<Ring>,
        entry: E,
        from: PutBy,
        wakes: &mut WakeList,
    ) {
        while let Some(next) = ring.next.get() {
            ring.put(entry.clone(), from, self.most_bytes, wakes);
            ring = next;
        }
        ring.put(entry, from, self.most_bytes, wakes);
    }

    /// Hands a message of the link to every subscriber here: behind a gap when others are missing before it, and not
    /// at all when it is a repeat. Whether it is known to be one. One at a time.
    pub(crate) fn receive(
        &self,
        name: &str,
        message: Message,
        seq: &MessageSeq,
        wakes: &mut WakeList,
    ) -> bool {
        let repeat = self.with_head(name, |head| {
            let Some(missed) = head.compare(seq) else {
                wakes.garbage.push(Entry::Message(message));
                return true;
            };
            if missed > 0 {
                self.put_into(head, skipped(Some(missed)), PutBy::Link, wakes);
            }
            self.put_into(head, message, PutBy::Link, wakes);
            false
        });
        repeat.unwrap_or(false)
    }

    /// Compares what a node has posted with what was received: reports what is missing.
    pub(crate) fn compare(
        &self,
        origin: NodeId,
        span: &Span,
        probe_epochs: ProbeEpochs,
        wakes: &mut WakeList,
    ) {
        self.with_head(span.channel.as_str(), |head| {
            let missed = head.compare_span(origin, span, probe_epochs);
            if missed > 0 {
                self.put_into(head, skipped(Some(missed)), PutBy::Link, wakes);
            }
        });
    }

    /// A channel that a subscriber has joined is subscribed at the backend.
    pub(crate) fn set_subscribed(&self, name: &ChannelName) {
        if let Some(head) = self.find(name.as_str()) {
            self.find_subscribed(&head);
        }
    }

    fn find_subscribed(&self, head: &Ring) {
        let (probe_epoch, _) = self.probe_epochs();
        if head.set_subscribed(probe_epoch) {
            self.note_subscribed(probe_epoch);
        }
    }

    /// A channel is not subscribed any more.
    pub(crate) fn reset(&self, name: &ChannelName) {
        self.find(name.as_str()).iter().for_each(|ring| ring.reset());
    }

    /// The link is gone: none is.
    pub(crate) fn reset_all(&self) {
        self.rings().iter().for_each(|ring| ring.reset());
    }

    /// The link carrying a channel was lost; the gap is delivered when the channel is subscribed again.
    pub(crate) fn mark_gap(&self, name: &ChannelName, gap: &Entry) {
        if let Some(head) = self.find(name.as_str()) {
            chain(&head).for_each(|ring| ring.mark_gap(gap.clone()));
        }
    }

    /// A channel is subscribed at the backend: delivers the gap that is due on it, if there is one.
    pub(crate) fn flush_gap(&self, name: &ChannelName) {
        let mut wakes = WakeList::default();
        if let Some(head) = self.find(name.as_str()) {
            self.find_subscribed(&head);
            chain(&head).for_each(|ring| ring.flush_gap(self.most_bytes, &mut wakes));
        }
        wakes.finish();
    }

    /// A channel is subscribed, and known to be: the subscriptions begin that did not wait for it.
    pub(crate) fn go_live(&self, name: &ChannelName) {
        let Some(head) = self.find(name.as_str()) else { return };
        self.find_subscribed(&head);
        let mut wakes = WakeList::default();
        chain(&head).for_each(|ring| ring.go_live(&mut wakes));
        wakes.finish();
    }

    /// Ends a channel's present subscribers. A later subscriber begins anew.
    pub(crate) fn refuse(&self, name: &ChannelName, reason: &CloseReason) {
        let hash = self.hash(name.as_str());
        let mut wakes = WakeList::default();
        let removed = {
            let mut shard = self.write(hash);
            let removed =
                shard.find_entry(hash, |ring| ring.channel == *name).ok().map(|entry| entry.remove().0);
            // Under this lock: who has pinned it must not put anything into it that later subscribers do not get.
            removed.iter().flat_map(chain).for_each(|ring| ring.end(reason, &mut wakes));
            removed
        };
        wakes.finish();
        drop(removed);
    }

    /// Whether anybody here listens to a channel.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.find(name).is_some_and(|head| !has_no_subscriber(&head))
    }

    /// Every channel somebody here listens to.
    pub(crate) fn channels(&self) -> Vec<ChannelName> {
        self.rings().iter().filter(|head| !has_no_subscriber(head)).map(|ring| ring.channel.clone()).collect()
    }

    fn rings(&self) -> Vec<Arc<Ring>> {
        let shard = |shard: &RwLock<HashTable<Arc<Ring>>>| {
            shard.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(shard).collect()
    }
}

/// Numbers show that the backend has lost messages. No subscriber loses more than this at once: such a number is forged, or
/// damaged, and says only that some may be missing.
pub(crate) fn skipped(missed: Option<u64>) -> Entry {
    let missed = missed.filter(|missed| *missed <= u64::from(u32::MAX));
    Entry::gap(Gap::new(missed, GapCause::Skipped))
}

/// Whether a channel is only there because it is pinned.
fn is_resting(head: &Arc<Ring>) -> bool {
    head.pins.load(Ordering::SeqCst) > 0 && has_no_subscriber(head)
}

fn has_no_subscriber(head: &Arc<Ring>) -> bool {
    chain(head).all(|ring| ring.is_empty())
}

fn chain(head: &Arc<Ring>) -> impl Iterator<Item = &Arc<Ring>> {
    std::iter::successors(Some(head), |ring| ring.next.get())
}
