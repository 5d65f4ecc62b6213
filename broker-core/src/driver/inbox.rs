//! Inbox: where a link hands over what it receives.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use crate::{ChannelName, Error, ErrorKind, NodeId};

/// Where a link hands over what it receives. Calls never block and never await; they may come from any thread.
///
/// An inbox belongs to one link. Once core has given the link up, whatever the inbox is handed is discarded.
#[derive(Clone)]
pub struct Inbox(Arc<Inner>);

struct Inner {
    lost: AtomicBool,
    sink: Box<dyn Sink>,
}

/// Receives what a link hands over: core does, and so can a driver around another one, or a test of a driver.
///
/// No method may block.
pub trait Sink: Send + Sync + 'static {
    /// A frame arrived: see [`Inbox::deliver`].
    fn deliver(&self, arrival: Arrival<'_>);

    /// Messages may be missing: see [`Inbox::gap`], [`Inbox::gap_on`] and [`Inbox::gap_from`].
    fn gap(&self, missing: Missing<'_>) {
        let _ = missing;
    }

    /// Channels are not subscribed any more: see [`Inbox::unsubscribed`].
    fn unsubscribed(&self, channels: &[ChannelName]) {
        let _ = channels;
    }

    /// Channels are not subscribed any more, and cannot be for now: see [`Inbox::suspended`].
    fn suspended(&self, channels: &[ChannelName]) {
        self.unsubscribed(channels);
    }

    /// A part of the backend is out of reach, and why; `None`: none is any more. See [`Inbox::degraded`].
    fn degraded(&self, why: Option<Error>) {
        let _ = why;
    }

    /// The link is unusable. Called once: see [`Inbox::lost`].
    fn lost(&self, error: Error) {
        let _ = error;
    }
}

/// A frame that arrived.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// The channel's name on the wire.
    pub channel: &'a str,
    /// The frame.
    pub frame: Bytes,
}

/// Which messages may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing<'a> {
    /// On every channel of the link.
    Everywhere,
    /// On these channels, by their names on the wire.
    On(&'a [ChannelName]),
    /// Those of one node, on every channel.
    From(NodeId),
}

impl Inbox {
    /// An inbox that passes everything on.
    pub fn new(sink: impl Sink) -> Self {
        Self(Arc::new(Inner { lost: AtomicBool::new(false), sink: Box::new(sink) }))
    }

    /// An inbox that discards what it is handed. For tests of a driver, which open a link without a broker.
    #[must_use]
    pub fn discard() -> Self {
        Self::new(Discard)
    }

    /// Whether the link has been reported lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::SeqCst)
    }

    /// Hands over one frame that arrived on a channel, by the channel's name on the wire. It goes straight
    /// to the queues of the listeners. Bytes that are no frame, of whatever length, are reported to them as malformed: other
    /// programs may publish, too. The order of the
    /// calls is the order that listeners see; what comes on a channel before it is subscribed is nothing. A frame
    /// that is a slice of a large buffer keeps all of it alive: copy it out.
    pub fn deliver(&self, channel: &str, frame: Bytes) {
        self.0.sink.deliver(Arrival { channel, frame });
    }

    /// The client dropped messages but the link lives on: every channel of the link gets a gap.
    pub fn gap(&self) {
        self.0.sink.gap(Missing::Everywhere);
    }

    /// Messages of some channels may be missing and the link lives on: these get a gap. For a link of several
    /// connections of which one was replaced.
    pub fn gap_on(&self, channels: &[ChannelName]) {
        self.0.sink.gap(Missing::On(channels));
    }

    /// Messages of one node may be missing and the link lives on. It may have posted on any channel, also on one where
    /// nothing of it has arrived so far: so every channel of the link gets a gap.
    pub fn gap_from(&self, node: NodeId) {
        self.0.sink.gap(Missing::From(node));
    }

    /// The server does not deliver these channels any more, by their names on the wire, and the link lives on. Core
    /// subscribes those that are still wanted again; each then gets a gap. Without one of the broker's own channels the link
    /// is given up.
    pub fn unsubscribed(&self, channels: &[ChannelName]) {
        self.0.sink.unsubscribed(channels);
    }

    /// As [`unsubscribed`](Self::unsubscribed), for channels that cannot be subscribed either, because the part of the
    /// backend that serves them is out of reach: core subscribes them again when they are then reported
    /// `unsubscribed`. A driver may report a channel so while [`Link::subscribe`](super::Link::subscribe) is under way, and
    /// return `Ok` for the others. Not for the broker's [own](super::ConnectContext::is_own) channels, which the driver
    /// subscribes again itself, with a [`gap_on`](Self::gap_on) once it has.
    pub fn suspended(&self, channels: &[ChannelName]) {
        self.0.sink.suspended(channels);
    }

    /// Reports which part of the backend is out of reach while the rest of the link goes on, and why; `None` when all of
    /// it is within reach again. Operators see it in [`Health::degraded`](crate::Health::degraded). May be called as often
    /// as the driver likes: only a change counts.
    pub fn degraded(&self, why: Option<Error>) {
        self.0.sink.degraded(why);
    }

    /// A task of the driver, which reports the link lost if it panics: nobody else would notice. `what` is what the task
    /// does, for the error. Dropped before its end it reports nothing.
    pub fn guard<F: Future>(&self, what: &'static str, task: F) -> impl Future<Output = F::Output> + use<F> {
        let guard = LostByPanic { inbox: self.clone(), what };
        async move {
            let output = task.await;
            drop(guard);
            output
        }
    }

    /// Reports that the link is unusable. The first call counts; core drops the link.
    pub fn lost(&self, error: Error) {
        if !self.0.lost.swap(true, Ordering::SeqCst) {
            self.0.sink.lost(error);
        }
    }
}

/// So that a driver around another one passes on what it does not change.
impl Sink for Inbox {
    fn deliver(&self, arrival: Arrival<'_>) {
        self.0.sink.deliver(arrival);
    }

    fn gap(&self, missing: Missing<'_>) {
        self.0.sink.gap(missing);
    }

    fn unsubscribed(&self, channels: &[ChannelName]) {
        self.0.sink.unsubscribed(channels);
    }

    fn suspended(&self, channels: &[ChannelName]) {
        self.0.sink.suspended(channels);
    }

    fn degraded(&self, why: Option<Error>) {
        self.0.sink.degraded(why);
    }

    fn lost(&self, error: Error) {
        Self::lost(self, error);
    }
}

struct LostByPanic {
    inbox: Inbox,
    what: &'static str,
}

impl Drop for LostByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = format!("the driver's task that {} has panicked", self.what);
            self.inbox.lost(Error::new(ErrorKind::Other, why));
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("lost", &self.is_lost()).finish_non_exhaustive()
    }
}

struct Discard;

impl Sink for Discard {
    fn deliver(&self, _arrival: Arrival<'_>) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_discarding_inbox_accepts_anything_and_records_a_loss() {
        let inbox = Inbox::discard();
        inbox.deliver("news", Bytes::from_static(b"no frame"));
        inbox.deliver("$node.1", Bytes::new());
        inbox.gap();
        assert!(!inbox.is_lost());
        inbox.lost(Error::new(ErrorKind::Unavailable, "gone"));
        assert!(inbox.is_lost());
    }

    #[derive(Clone, Default)]
    struct Record(Arc<Mutex<Vec<String>>>);

    impl Sink for Record {
        fn deliver(&self, arrival: Arrival<'_>) {
            self.0.lock().unwrap().push(format!("{}: {:?}", arrival.channel, arrival.frame));
        }

        fn gap(&self, missing: Missing<'_>) {
            self.0.lock().unwrap().push(format!("{missing:?}"));
        }

        fn lost(&self, error: Error) {
            self.0.lock().unwrap().push(error.message().to_owned());
        }
    }

    #[test]
    fn a_sink_receives_everything_and_a_loss_once() {
        let record = Record::default();
        let inbox = Inbox::new(record.clone());
        inbox.deliver("news", Bytes::from_static(b"x"));
        inbox.gap();
        assert!(!inbox.is_lost());
        inbox.clone().lost(Error::new(ErrorKind::Unavailable, "gone"));
        inbox.lost(Error::new(ErrorKind::Unavailable, "gone again"));
        assert!(inbox.is_lost());
        assert_eq!(*record.0.lock().unwrap(), ["news: b\"x\"", "Everywhere", "gone"]);
    }

    #[tokio::test]
    async fn a_task_that_panics_loses_the_link_and_one_that_ends_does_not() {
        let inbox = Inbox::discard();
        assert_eq!(tokio::spawn(inbox.guard("ends", async { 7 })).await.unwrap(), 7);
        let aborted = tokio::spawn(inbox.guard("waits", std::future::pending::<()>()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert!(!inbox.is_lost());
        let panicking = async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        };
        let panicked: Result<(), _> = tokio::spawn(inbox.guard("panics", panicking)).await;
        assert!(panicked.unwrap_err().is_panic());
        assert!(inbox.is_lost());
    }
}
