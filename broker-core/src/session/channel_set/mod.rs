//! ChannelSet: one stream over a set of channels that changes, with one bound for all of them.
//!
//! Each member has a seat in its channel's ring, and is the waker of that seat: the call that posts takes what the ring has
//! into the set's [`Queue`], after all locks of the hub are released. Its lock order: session, members; and place, ring
//! or queue.

mod event;
mod joining;
mod member;
mod queue;
#[cfg(all(test, not(shuttle)))]
mod tests;

pub use event::SetEvent;

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, ready},
};

use foldhash::fast::RandomState;
use futures_core::Stream;
use hashbrown::HashMap;

use super::{Session, state::Owner};
use crate::{
    AsChannelName, Broker, ChannelName, CloseReason, Result, SubscribeOptions,
    hub::{Entry, Hub, Notice, Reads, Seats, WakeList},
    runtime::sync::{Mutex, MutexGuard},
};

use member::Member;
use queue::{Next, Queue};

/// One stream over a set of channels that changes: its items are the events of all of them, each with its channel.
///
/// Made by [`Session::channel_set`]. For a connection that follows many channels, and other ones from minute to minute:
/// a client of a chat, or a screen of prices.
///
/// - **Order.** The events of a channel are yielded in its order, with the same guarantees as a
///   [`Subscription`](crate::Subscription)'s. Between channels there is none.
/// - **One bound.** Together they may have [`queue_capacity`](crate::Options::queue_capacity) messages waiting, or the
///   [capacity](SubscribeOptions::capacity) of the options, and [`queue_bytes`](crate::Options::queue_bytes). Beyond that
///   the oldest message of all is dropped, and a gap with the exact number is yielded for the channel that lost it,
///   before anything else of it. With [`latest_only`](SubscribeOptions::latest_only) nothing waits but the newest message
///   of each channel.
/// - **The end.** It ends with its session, or the broker, as every stream does. A channel that the backend refuses
///   later leaves the set with a [`SetEvent::Refused`]; the others go on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Scope, SetEvent};
///
/// let broker = broker::connect("memory:").await?;
/// let session = broker.session();
/// let mut rooms = session.channel_set();
/// rooms.join_all(["room.1", "room.2", "room.3"]).await?;
/// rooms.leave("room.2");
/// session.post("room.2", "not received", Scope::Global).await?;
/// session.post("room.3", "hello", Scope::Global).await?;
/// if let Some((channel, SetEvent::Message(message))) = rooms.next().await {
///     assert_eq!((channel.as_str(), &message.payload()?[..]), ("room.3", &b"hello"[..]));
/// }
/// # Ok(()) }
/// ```
#[must_use = "dropping it unsubscribes"]
pub struct ChannelSet {
    broker: Broker,
    members: Arc<Members>,
    queue: Arc<Queue<Member>>,
    owner: Option<Owner>,
    options: SubscribeOptions,
    reads: Reads,
    ended: Option<CloseReason>,
    /// Messages that have been yielded, to be counted all at once.
    uncounted: u32,
}

/// How many deliveries are counted at once.
const COUNTED: u32 = 32;

/// Which channels a set has. What a session closes.
struct Members {
    by_name: Mutex<HashMap<ChannelName, Arc<Member>, RandomState>>,
    queue: Arc<Queue<Member>>,
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Arc<Member>, RandomState>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats for Members {
    fn close(&self, hub: &Hub, wakes: &mut WakeList) {
        // Under the lock: who leaves takes its member out first, so that none of these seats is another's yet.
        self.lock().values().for_each(|member| hub.close_seat(&member.ring, member.seat, wakes));
        self.queue.wake(wakes);
    }
}

impl Session {
    /// A stream over a set of channels, which is empty at first. It ends with the session.
    pub fn channel_set(&self) -> ChannelSet {
        self.open_set(SubscribeOptions::new(), Reads { queueing: true, ..Reads::default() })
    }

    /// The same with options: the [capacity](SubscribeOptions::capacity) is that of the whole set, all else applies to
    /// each of its channels.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for options out of bounds.
    pub fn channel_set_with(&self, options: SubscribeOptions) -> Result<ChannelSet> {
        let about = |error: crate::Error| error.with_operation("channel_set_with");
        options.limit(self.broker().options().subscribe_timeout).map_err(about)?;
        let reads = Reads { queueing: true, ..options.reads().map_err(about)? };
        Ok(self.open_set(options, reads))
    }

    fn open_set(&self, options: SubscribeOptions, reads: Reads) -> ChannelSet {
        let of_broker = self.broker.options();
        let capacity = reads.capacity.map_or(of_broker.queue_capacity, |capacity| capacity as usize);
        let queue = Arc::new(Queue::new(
            &self.shared,
            self.broker.node_id(),
            capacity,
            of_broker.queue_bytes,
            reads.latest,
        ));
        let members = Members { by_name: Mutex::default(), queue: Arc::clone(&queue) };
        let members = Arc::new(members);
        // Of a session that is closed: it ends at once.
        let owner = self.shared.own_set(Arc::clone(&members) as Arc<dyn Seats>);
        let ended = if owner.is_none() { self.shared.close_reason().cloned() } else { None };
        // What a channel's ring keeps is taken at once: the set's capacity is no concern of it.
        let reads = Reads { capacity: None, ..reads };
        ChannelSet { broker: self.broker.clone(), members, queue, owner, options, reads, ended, uncounted: 0 }
    }
}

impl ChannelSet {
    /// The channels of the set, in no order.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelName> {
        self.members.lock().keys().cloned().collect()
    }

    /// Whether a channel is in the set.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "as all verbs take a channel")]
    pub fn contains(&self, channel: impl AsChannelName) -> bool {
        self.members.lock().contains_key(channel.channel_name())
    }

    /// How many channels are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.lock().len()
    }

    /// Whether no channel is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why the stream ended; `None` while it lives.
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.as_ref()
    }

    /// Removes a channel: nothing of it is yielded any more, also nothing that waits. Whether it was in the set.
    #[expect(clippy::needless_pass_by_value, reason = "as all verbs take a channel")]
    pub fn leave(&mut self, channel: impl AsChannelName) -> bool {
        let member = self.members.lock().remove(channel.channel_name());
        member.is_some_and(|member| {
            self.give_back(&member);
            true
        })
    }

    /// Gives the seat of a member back that is not in the set any more.
    fn give_back(&self, member: &Arc<Member>) {
        if member.leave(self.broker.hub()) {
            self.broker.note_left(&member.ring.channel);
        }
    }

    /// The next event, with its channel; `None` at the end. Waits while the set is empty. Cancel safe: nothing is lost
    /// when the future is dropped.
    pub async fn next(&mut self) -> Option<(ChannelName, SetEvent)> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<(ChannelName, SetEvent)>> {
        // Before what is queued: a closed session yields nothing more (promise 8).
        if self.is_closed() {
            return self.end_closed();
        }
        // One busy stream must not starve its task's siblings.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let mut looked = false;
        loop {
            let (channel, event) = match self.queue.next(looked, cx) {
                Next::Look(member) => {
                    member.take();
                    looked = true;
                    continue;
                }
                Next::Entry(member, entry) => {
                    member.release();
                    (member.ring.channel.clone(), self.event(entry))
                }
                Next::Refused(member, error) => {
                    let channel = member.ring.channel.clone();
                    self.members.lock().remove(&channel);
                    self.give_back(&member);
                    (channel, SetEvent::Refused(error))
                }
                Next::Nothing { live: 0 } if self.broker.hub().has_ended() => {
                    self.end(CloseReason::BrokerClosed);
                    return Poll::Ready(None);
                }
                Next::Nothing { .. } => {
                    self.count();
                    // Closed between the first look and the waker's registration: the waker is not woken.
                    return if self.is_closed() { self.end_closed() } else { Poll::Pending };
                }
            };
            budget.made_progress();
            return Poll::Ready(Some((channel, event)));
        }
    }

    fn event(&mut self, entry: Entry) -> SetEvent {
        match entry {
            Entry::Message(message) => {
                self.uncounted += 1;
                if self.uncounted == COUNTED {
                    self.count();
                }
                SetEvent::Message(message)
            }
            Entry::Notice(notice) => {
                self.broker.meter().noticed(&notice);
                match &*notice {
                    Notice::Gap(gap) => SetEvent::Gap(*gap),
                    Notice::Malformed(malformed) => SetEvent::Malformed(malformed.clone()),
                }
            }
        }
    }

    fn count(&mut self) {
        self.broker.meter().delivered(mem::take(&mut self.uncounted).into());
    }

    fn is_closed(&self) -> bool {
        self.ended.is_some()
            || self.owner.as_ref().is_some_and(Owner::is_closed)
            || self.broker.hub().is_closed()
    }

    #[cold]
    fn end_closed(&mut self) -> Poll<Option<(ChannelName, SetEvent)>> {
        let owner = self.owner.as_ref().and_then(Owner::close_reason);
        self.end(owner.unwrap_or(CloseReason::BrokerClosed));
        Poll::Ready(None)
    }

    #[cold]
    fn end(&mut self, reason: CloseReason) {
        if self.ended.is_none() {
            self.ended = Some(reason);
            self.count();
            let hub = self.broker.hub();
            let members: Vec<_> = self.members.lock().values().cloned().collect();
            let mut wakes = WakeList::default();
            self.queue.close(&mut wakes);
            wakes.finish();
            members.iter().for_each(|member| member.finish(hub));
        }
    }
}

impl Stream for ChannelSet {
    type Item = (ChannelName, SetEvent);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl Drop for ChannelSet {
    /// Edits tables and sends notifications, nothing more.
    fn drop(&mut self) {
        self.count();
        if let Some(owner) = &self.owner {
            owner.forget();
        }
        let mut wakes = WakeList::default();
        self.queue.close(&mut wakes);
        wakes.finish();
        let members = mem::take(&mut *self.members.lock());
        members.values().for_each(|member| self.give_back(member));
    }
}

impl fmt::Debug for ChannelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSet")
            .field("channels", &self.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
