//! Subscription: the stream of a channel's events.

mod decode;
mod options;
mod owning;
pub(crate) mod several;
pub(crate) mod stream;

pub use self::{
    options::SubscribeOptions,
    owning::Owning,
    several::{EnumStream, MessagePart, Messages},
    stream::{MessageStream, StreamItem},
};

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio_util::sync::WaitForCancellationFuture;

use crate::{
    Broker, ChannelName, CloseReason, Error, Event, Message, NodeId,
    hub::{Cursor, Entry, Notice, Reads, Ring},
    metrics::Meter,
    runtime::{gate::Gate, user_code::contain},
    session::Owner,
    trace::Delivery,
};

/// How many entries one look into the ring takes at most.
const BATCH: usize = 32;

/// A stream of the [`Event`]s of one channel, beginning at the moment it was made.
///
/// A slow reader never slows a publisher or another reader: beyond
/// [`queue_capacity`](crate::Options::queue_capacity) the oldest messages are dropped for this reader only, and a
/// [`Gap`](crate::Gap) with their exact number stands in their place. Dropping it unsubscribes.
///
/// The stream ends when its session or the broker is closed; [`close_reason`](Self::close_reason) then says why.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    broker: Broker,
    ring: Arc<Ring>,
    cursor: Cursor,
    /// The next one on top.
    batch: Vec<Entry>,
    /// The session it ends with, if it was opened through one.
    owner: Option<Owner>,
    /// Boxed: most never end with a reason, and there may be millions.
    ended: Option<Box<CloseReason>>,
}

impl Subscription {
    /// `None` when the broker has ended.
    pub(crate) fn open(broker: &Broker, channel: &ChannelName, reads: Reads) -> Option<Self> {
        let (ring, cursor) = broker.hub().join(channel, reads)?;
        Some(Self { broker: broker.clone(), ring, cursor, batch: Vec::new(), owner: None, ended: None })
    }

    pub(crate) fn set_owner(&mut self, owner: Owner) {
        self.owner = Some(owner);
    }

    /// The node of its broker.
    pub(crate) fn node(&self) -> NodeId {
        self.broker.node_id()
    }

    /// A listener's gate.
    pub(crate) fn gate(&self) -> Option<&Gate> {
        self.owner.as_ref().and_then(Owner::gate)
    }

    /// The channel is subscribed. Forgets what arrived so far: while it waited for that, it may have been a rest of
    /// an earlier subscription of this node, with a hole behind it.
    pub(crate) fn begin_here(&mut self) {
        self.ring.skip(&mut self.cursor);
        if !self.is_closed() {
            self.ring.begin(self.cursor.seat, self.gate().is_some());
        }
        self.broker.hub().set_subscribed(&self.ring.channel);
    }

    /// Why the backend refused the channel, if it did.
    pub(crate) fn refusal(&self) -> Option<Error> {
        match self.ring.end_reason() {
            Some(CloseReason::Refused(error)) => Some(error),
            _ => None,
        }
    }

    /// Where its waker waits, so that its session can wake it.
    pub(crate) fn seat(&self) -> (Arc<Ring>, u8) {
        (Arc::clone(&self.ring), self.cursor.seat)
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.ring.channel
    }

    /// Why the stream ended; `None` while it lives.
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.as_deref()
    }

    /// The next event; `None` at the end. Cancel safe: nothing is lost when the future is dropped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Event, Scope};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut news = broker.subscribe("news").await?;
    /// broker.publish("news", "hello", Scope::Global).await?;
    /// if let Some(Event::Message(message)) = news.next().await {
    ///     assert_eq!(message.payload()?, "hello");
    /// }
    /// # Ok(()) }
    /// ```
    #[expect(clippy::should_implement_trait, reason = "the name that every stream's has")]
    #[inline]
    pub fn next(&mut self) -> impl Future<Output = Option<Event>> + Send + '_ {
        Next(self)
    }

    /// Inlined everywhere, and no more than is needed where a message lies ready: that is what each message costs.
    #[inline(always)]
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        // Before the local batch: a closed session yields nothing more (promise 8).
        if self.is_closed() {
            self.end_closed();
            return Poll::Ready(None);
        }
        // One busy stream must not starve its task's siblings.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        if self.batch.is_empty() && !ready!(self.refill(cx)) {
            return Poll::Ready(None);
        }
        let Some(mut entry) = self.batch.pop() else { return Poll::Ready(None) };
        if self.owner.is_some() && self.is_passed_over(&entry) {
            let Some(next) = ready!(self.pass_over(entry, cx)) else { return Poll::Ready(None) };
            entry = next;
        }
        budget.made_progress();
        self.cursor.uncounted += u8::from(matches!(entry, Entry::Message(_)));
        if self.batch.is_empty() {
            self.count();
            self.release();
        }
        Poll::Ready(Some(match entry {
            Entry::Message(message) => Event::Message(message),
            Entry::Notice(notice) => {
                self.broker.meter().noticed(&notice);
                match &*notice {
                    Notice::Gap(gap) => Event::Gap(*gap),
                    Notice::Malformed(malformed) => Event::Malformed(malformed.clone()),
                }
            }
        }))
    }

    /// Whether an entry is a message that its session has posted for others only.
    fn is_passed_over(&self, entry: &Entry) -> bool {
        let (Some(owner), Entry::Message(message)) = (&self.owner, entry) else { return false };
        owner.is_excluded_by(message.sender()) && message.origin() == self.node()
    }

    /// The first entry behind this one that is not passed over; `None` at the end.
    #[cold]
    fn pass_over(&mut self, mut entry: Entry, cx: &mut Context<'_>) -> Poll<Option<Entry>> {
        loop {
            contain("a message that was dropped", || drop(entry));
            if self.batch.is_empty() {
                self.count();
                self.release();
                if !ready!(self.refill(cx)) {
                    return Poll::Ready(None);
                }
            }
            let Some(next) = self.batch.pop() else { return Poll::Ready(None) };
            if !self.is_passed_over(&next) {
                return Poll::Ready(Some(next));
            }
            entry = next;
        }
    }

    /// Takes what the ring has, at least one entry. False at the end.
    fn refill(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (owner, node) = (self.owner.as_ref(), self.broker.node_id());
        let passed_over = |message: &Message| owner.is_some_and(|owner| owner.passes_over(message, node));
        match self.ring.take_unless(&mut self.cursor, &mut self.batch, BATCH, passed_over, cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(true),
            Poll::Ready(Err(reason)) => self.end(reason),
            // Closed between the first look and the waker's registration: nobody would wake us.
            Poll::Pending if self.is_closed() => self.end_closed(),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(false)
    }

    /// Drops what was taken and will not be yielded. The `Drop` of a value is foreign code.
    fn discard(&mut self) {
        self.batch.drain(..).for_each(|entry| contain("a message that was dropped", || drop(entry)));
    }

    fn count(&mut self) {
        self.broker.meter().delivered(mem::take(&mut self.cursor.uncounted).into());
    }

    /// All that was taken is yielded: a drain need not wait for this stream any more.
    #[inline]
    fn release(&mut self) {
        let hub = self.broker.hub();
        hub.released(&self.ring, &self.cursor);
        hub.note_read(&self.ring, &self.cursor, false);
    }

    pub(crate) fn meter(&self) -> &Meter {
        self.broker.meter()
    }

    /// The span in which an event is processed, if it is a message.
    pub(crate) fn delivery(&self, event: &Event) -> Delivery {
        match event {
            Event::Message(message) => Delivery::of(message, self.channel().as_str(), self.broker.backend()),
            _ => Delivery::none(),
        }
    }

    /// Runs a future that processes a message of this channel in a span of its own, which links to the span in which the
    /// message was posted. Without the feature `opentelemetry` it is the future alone. Listeners are called in such a
    /// span anyway.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Event, Scope};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut news = broker.subscribe("news").await?;
    /// broker.publish("news", "hello", Scope::Global).await?;
    /// let Some(Event::Message(message)) = news.next().await else { panic!("a message") };
    /// let length = news.in_span(&message, async { message.payload().map(|payload| payload.len()) }).await?;
    /// assert_eq!(length, 5);
    /// # Ok(()) }
    /// ```
    pub fn in_span<F: Future>(
        &self,
        message: &Message,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        Delivery::of(message, self.channel().as_str(), self.broker.backend()).around(future)
    }

    /// When its broker breaks off what still runs.
    pub(crate) fn aborted(&self) -> WaitForCancellationFuture<'_> {
        self.broker.abort().cancelled()
    }

    /// Whether nothing more may be yielded.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.ended.is_some()
            || self.owner.as_ref().is_some_and(Owner::is_closed)
            || self.broker.hub().is_closed()
    }

    /// It is closed.
    #[cold]
    fn end_closed(&mut self) {
        let owner = self.owner.as_ref().and_then(Owner::close_reason);
        self.end(owner.unwrap_or(CloseReason::BrokerClosed));
    }

    #[cold]
    fn end(&mut self, reason: CloseReason) {
        if self.ended.is_none() {
            self.ended = Some(Box::new(reason));
            self.discard();
            self.broker.hub().note_read(&self.ring, &self.cursor, true);
        }
    }
}

/// A type of its own because the closure of a `poll_fn`, or an `async fn`, is not inlined by another crate.
struct Next<'a>(&'a mut Subscription);

impl Future for Next<'_> {
    type Output = Option<Event>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_event(cx)
    }
}

impl Stream for Subscription {
    type Item = Event;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl Drop for Subscription {
    /// Edits the table and sends a notification, nothing more.
    fn drop(&mut self) {
        self.count();
        self.discard();
        if let Some(owner) = &self.owner {
            owner.forget();
        }
        let last = self.broker.hub().leave(&self.ring, &self.cursor);
        if last {
            self.broker.note_left(&self.ring.channel);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", self.channel())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
