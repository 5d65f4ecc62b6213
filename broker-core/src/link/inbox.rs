//! Inbox: where a link hands over what it receives.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    follower::Follower,
    interest::Interest,
    names::{Names, REVOCATIONS},
    probe::Probe,
};
use crate::{
    ChannelName, Error, Gap, GapCause, Message, NodeId, Options, frame,
    hub::{Aftermath, Entry, Hub},
    revocation::register::Register,
};

/// Where a link hands over what it receives. Calls never block and never await; they may come from any thread.
///
/// An inbox belongs to one link. Once core has given the link up, whatever the inbox is handed is discarded.
#[derive(Clone)]
pub struct Inbox(Arc<Inner>);

struct Inner {
    /// Held while an entry goes to the queues: after [`Inbox::close`] not even a late one gets through, and
    /// everything a link delivers has one order.
    open: Mutex<bool>,
    receivers: Receivers,
    lost: OnceLock<Error>,
    lost_bell: Notify,
}

/// Who hears what arrives.
#[derive(Clone, Debug)]
pub(crate) struct Receivers {
    pub(crate) hub: Arc<Hub>,
    pub(crate) interest: Arc<Interest>,
    pub(crate) names: Names,
    pub(crate) probe: Arc<Probe>,
    pub(crate) follower: Arc<Follower>,
    /// Counts frames that are not readable messages.
    pub(crate) malformed: Arc<AtomicU64>,
}

impl Inbox {
    pub(super) fn new(receivers: Receivers) -> Self {
        let (lost, lost_bell) = (OnceLock::new(), Notify::new());
        Self(Arc::new(Inner { open: Mutex::new(true), receivers, lost, lost_bell }))
    }

    /// An inbox that nobody reads: it discards what it is handed. For tests of a driver, which open a link without a
    /// broker.
    #[must_use]
    pub fn unheard() -> Self {
        let (node, names, options) = (NodeId::random(), Names::new(""), Options::default());
        let register = Arc::new(Register::new(node, Duration::ZERO, Duration::ZERO));
        let inbox = Self::new(Receivers {
            hub: Arc::new(Hub::new(1)),
            interest: Arc::new(Interest::new(Duration::ZERO)),
            probe: Arc::new(Probe::new(node, &names)),
            follower: Arc::new(Follower::new(node, register, &options)),
            names,
            malformed: Arc::default(),
        });
        inbox.close();
        inbox
    }

    /// Whether the link has been reported lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.lost.get().is_some()
    }

    /// Hands over one frame that arrived on a channel, by the channel's name on the wire. It goes straight
    /// to the queues of the listeners. Bytes that are no frame are reported to them as malformed. The order of the
    /// calls is the order that listeners see; what comes on a channel before it is subscribed is nothing. A frame
    /// that is a slice of a large buffer keeps all of it alive: copy it out.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the payload is a slice of the frame: a link gives it away"
    )]
    pub fn deliver(&self, channel: &str, frame: Bytes) {
        let Receivers { hub, names, probe, follower, malformed, .. } = &self.0.receivers;
        let Some(name) = names.strip(channel) else { return };
        let entry = match frame::decode(&frame) {
            // At once, and before everything that waits in a queue.
            Ok((wire, _)) if name == REVOCATIONS => return follower.hear(wire.head.id.origin, &wire.payload),
            Ok((wire, stamp)) if name.starts_with('$') => return probe.hear(name, &wire, stamp),
            Ok((wire, _)) => Entry::Message(Message::from_wire(wire)),
            Err(error) => {
                malformed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(channel = name, "{error}");
                Entry::malformed(error)
            }
        };
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open {
            let after = hub.put(name, entry, true);
            drop(open);
            after.finish();
        }
    }

    /// The client dropped messages but the link lives on: every channel of the link is told.
    pub fn gap(&self) {
        let gap = Entry::gap(Gap::new(None, GapCause::Dropped));
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open {
            let channels = self.0.receivers.interest.subscribed();
            let put = |channel: &ChannelName| self.0.receivers.hub.put(channel.as_str(), gap.clone(), true);
            let told: Vec<_> = channels.iter().map(put).collect();
            drop(open);
            self.0.receivers.follower.missed();
            told.into_iter().for_each(Aftermath::finish);
        }
    }

    pub(crate) fn report_lost(&self, error: Error) {
        if self.0.lost.set(error).is_ok() {
            self.0.lost_bell.notify_one();
        }
    }

    /// Waits until the link is reported lost. One waiter.
    pub(super) async fn wait_lost(&self) -> Error {
        loop {
            if let Some(error) = self.0.lost.get() {
                return error.clone();
            }
            self.0.lost_bell.notified().await;
        }
    }

    /// Nothing more gets through.
    pub(super) fn close(&self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("lost", &self.0.lost.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_unheard_inbox_takes_anything_and_says_what_was_reported() {
        let inbox = Inbox::unheard();
        inbox.deliver("news", Bytes::from_static(b"no frame"));
        inbox.deliver("$node.1", Bytes::new());
        inbox.gap();
        assert!(!inbox.is_lost());
        inbox.lost(Error::new(ErrorKind::Unavailable, "gone"));
        assert!(inbox.is_lost());
    }
}
