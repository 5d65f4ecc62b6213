//! Dispatch: what becomes of what a link received: to the queues, the registry, the probe.

mod outsiders;

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use super::{
    probe::Probe,
    subscriptions::{Next, Subscriptions},
};
use crate::{
    ChannelName, Error, ErrorKind, Gap, GapCause, Malformed, Message, Raw,
    driver::inbox::{Arrival, Missing, Sink},
    hub::{Entry, Hub, MessageSeq, ProbeEpochs, PutBy, WakeList, skipped},
    loss::digest_receiver::{DigestReceiver, Proof},
    message::Wire,
    metrics::Meter,
    request::replies::Replies,
    revocation::log_state::Follower,
    wire::{
        bundle,
        digest::{ASK, Digest, MAX_ANSWERS},
        frame::{self, SequenceHeader},
        names::{DIGESTS, Names, REVOCATIONS, is_reply_channel},
    },
};

/// The part of core behind an [`Inbox`](crate::supervisor::Inbox), for one link. Once core has given the link up, whatever it is
/// handed is discarded.
#[derive(Clone)]
pub(crate) struct Dispatch(Arc<Inner>);

struct Inner {
    /// Held while an entry goes to the queues: after [`Dispatch::close`] not even a late one gets through, and
    /// everything a link delivers has one order.
    stage: Mutex<Stage>,
    receivers: Receivers,
    lost: OnceLock<Error>,
    lost_notify: Notify,
    /// Which part of the backend is out of reach.
    degraded: watch::Sender<Option<Error>>,
    /// What other nodes ask and have not been answered yet; notified when there is one more, and `unproven` when a node
    /// has appeared whose digests prove nothing yet about some channel.
    asked: Mutex<Vec<u64>>,
    asked_notify: Notify,
    unproven: Notify,
}

/// What becomes of messages and gaps.
enum Stage {
    /// The link is being brought up: they lie within the gap that is going to be told of the last link, or before the
    /// beginning of a subscription.
    Early,
    /// They go to the queues.
    Up(Box<DigestReceiver>),
    /// The link is given up.
    Closed,
}

/// Who receives what arrives.
#[derive(Clone, Debug)]
pub(crate) struct Receivers {
    pub(crate) hub: Arc<Hub>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) names: Names,
    pub(crate) probe: Arc<Probe>,
    pub(crate) follower: Arc<Follower>,
    pub(crate) replies: Arc<Replies>,
    /// Counts frames that are not readable messages.
    pub(crate) malformed: Arc<AtomicU64>,
    /// On which channels the payloads of plain programs are read, by how the names begin.
    pub(crate) raw: Arc<BTreeMap<String, Raw>>,
    pub(crate) meter: Meter,
}

impl Sink for Dispatch {
    fn deliver(&self, arrival: Arrival<'_>) {
        let Some(name) = self.0.receivers.names.strip(arrival.channel) else { return };
        if !frame::is_frame(&arrival.frame) {
            return self.receive_bare(name, &arrival.frame);
        }
        bundle::decode(&arrival.frame, |decoded| self.receive(name, decoded));
    }

    fn gap(&self, missing: Missing<'_>) {
        let gap = Entry::gap(Gap::new(None, GapCause::Dropped));
        match missing {
            Missing::Everywhere | Missing::From(_) => {
                self.gap_on_all(&gap);
                self.0.receivers.follower.missed_serverpods();
            }
            Missing::On(channels) => {
                self.gap_on(channels, &gap);
                self.missed_on(channels);
            }
        }
    }

    fn unsubscribed(&self, channels: &[ChannelName]) {
        if self.no_longer_delivered(channels, Next::Ask) {
            self.0.receivers.follower.missed();
            self.missed_on(channels);
        }
    }

    fn suspended(&self, channels: &[ChannelName]) {
        if self.no_longer_delivered(channels, Next::Wait) {
            self.missed_on(channels);
        }
    }

    fn degraded(&self, why: Option<Error>) {
        self.0.degraded.send_if_modified(|present| {
            let text = |error: &Option<Error>| error.as_ref().map(ToString::to_string);
            let changes = text(present) != text(&why);
            *present = why;
            changes
        });
    }

    fn lost(&self, error: Error) {
        self.report_lost(error);
    }
}

impl Dispatch {
    /// The server delivers these channels no more. Whether the link still counts.
    fn no_longer_delivered(&self, channels: &[ChannelName], next: Next) -> bool {
        let Receivers { hub, names, subscriptions, .. } = &self.0.receivers;
        let cause = if next == Next::Wait { GapCause::LinkLost } else { GapCause::Dropped };
        let gap = Entry::gap(Gap::new(None, cause));
        // Under the lock, so that a link that is given up tells nothing of channels that the next one has subscribed.
        let stage = self.lock();
        if matches!(*stage, Stage::Closed) {
            return false;
        }
        for channel in channels.iter().filter_map(|channel| names.strip(channel.as_str())) {
            match channel {
                // Without one of its own a link is of no use: the probe, the digests, the announcements.
                own if own.starts_with('$') && !is_reply_channel(own) => {
                    let lost = format!("the server no longer delivers `{own}`, a channel of this broker");
                    self.report_lost(Error::new(ErrorKind::Unavailable, lost));
                }
                name => {
                    if let Some(name) = subscriptions.note_unsubscribed(name, next) {
                        // What comes next is not compared with what came before.
                        hub.reset(&name);
                        hub.mark_gap(&name, &gap);
                    }
                }
            }
        }
        true
    }

    pub(crate) fn new(receivers: Receivers) -> Self {
        Self(Arc::new(Inner {
            stage: Mutex::new(Stage::Early),
            receivers,
            lost: OnceLock::new(),
            lost_notify: Notify::new(),
            degraded: watch::Sender::new(None),
            asked: Mutex::default(),
            asked_notify: Notify::new(),
            unproven: Notify::new(),
        }))
    }

    /// The link is up: from now on messages and gaps go to the queues.
    pub(crate) fn pass_messages(&self) {
        *self.lock() = Stage::Up(Box::new(DigestReceiver::new(self.0.receivers.probe.node())));
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, name: &str, decoded: Result<(Wire, SequenceHeader), Malformed>) {
        let Receivers { hub, probe, follower, .. } = &self.0.receivers;
        let (wire, header) = match decoded {
            Ok(message) => message,
            Err(error) => return self.receive_malformed(name, error),
        };
        if header.is_unnumbered() {
            return self.receive_unnumbered(name, wire);
        }
        match name {
            // At once, and before everything that waits in a queue.
            REVOCATIONS => follower.receive(wire.head.origin, &wire.payload),
            DIGESTS if header.epoch == ASK => self.receive_ask(&wire, header.number),
            DIGESTS => self.receive_digest(&wire, header),
            name if name.starts_with('$') && !is_reply_channel(name) => probe.receive(name, &wire, header),
            name => {
                let SequenceHeader { epoch, sequence, .. } = header;
                let seq = MessageSeq { origin: wire.head.origin, epoch, sequence };
                self.while_open(|digests, wakes| {
                    // A repeat was covered before: by a digest, or by a later message.
                    if !hub.receive(name, Message::from_wire(wire), &seq, wakes) {
                        digests.received_from(seq.origin);
                    }
                });
            }
        }
    }

    #[cold]
    fn receive_malformed(&self, name: &str, error: Malformed) {
        self.count_malformed(name, &error);
        let hub = &self.0.receivers.hub;
        self.while_open(|_, wakes| _ = hub.put(name, Entry::malformed(error), PutBy::Link, wakes));
    }

    /// A node says what it has posted.
    fn receive_digest(&self, wire: &Wire, header: SequenceHeader) {
        let hub = &self.0.receivers.hub;
        let digest = match Digest::decode(&wire.payload) {
            Ok(digest) => digest,
            Err(error) => return self.count_malformed(DIGESTS, &error),
        };
        let origin = wire.head.origin;
        let mut anything_missing = false;
        self.while_open(|digests, wakes| {
            let (begun, back) = hub.probe_epochs();
            let Proof { missing, since, made_after } = digests.receive(origin, header.number, &digest, back);
            anything_missing = missing;
            let probe_epochs = ProbeEpochs { begun, made_after, since };
            digest.spans.iter().for_each(|span| hub.compare(origin, span, probe_epochs, wakes));
            if made_after < hub.wanted_probe_epoch() && digest.next != 0 {
                self.0.unproven.notify_one();
            }
        });
        if anything_missing {
            self.gap_on_all(&skipped(None));
        }
    }

    /// A node asks for a digest. Its own questions this node has answered when it asked.
    fn receive_ask(&self, wire: &Wire, ask: u64) {
        if wire.head.origin != self.0.receivers.probe.node() {
            let mut asked = self.asked();
            if asked.len() < MAX_ANSWERS {
                asked.push(ask);
            }
            drop(asked);
            self.0.asked_notify.notify_one();
        }
    }

    fn report_lost(&self, error: Error) {
        if self.0.lost.set(error).is_ok() {
            self.0.lost_notify.notify_one();
        }
    }

    /// A gap on some channels, by their names on the wire.
    fn gap_on(&self, channels: &[ChannelName], gap: &Entry) {
        let Receivers { hub, names, follower, .. } = &self.0.receivers;
        let named = || channels.iter().filter_map(|channel| names.strip(channel.as_str()));
        self.while_open(|_, wakes| {
            named().for_each(|name| _ = hub.put(name, gap.clone(), PutBy::Link, wakes));
        });
        // An announcement may be among what is missing, also while the link is being brought up.
        if named().any(|name| name == REVOCATIONS || self.is_serverpods(name))
            && !matches!(*self.lock(), Stage::Closed)
        {
            follower.missed();
        }
    }

    fn gap_on_all(&self, gap: &Entry) {
        let Receivers { hub, subscriptions, follower, .. } = &self.0.receivers;
        self.while_open(|_, wakes| {
            for channel in subscriptions.subscribed() {
                hub.put(channel.as_str(), gap.clone(), PutBy::Link, wakes);
            }
        });
        // An announcement may be among what is missing, also while the link is being brought up.
        if !matches!(*self.lock(), Stage::Closed) {
            follower.missed();
        }
    }

    /// Does something to the queues, while the link is up.
    fn while_open(&self, work: impl FnOnce(&mut DigestReceiver, &mut WakeList)) {
        let mut wakes = WakeList::default();
        let mut stage = self.lock();
        if let Stage::Up(digests) = &mut *stage {
            work(digests, &mut wakes);
            drop(stage);
            wakes.finish();
        }
    }

    fn count_malformed(&self, name: &str, error: &Malformed) {
        self.0.receivers.malformed.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(channel = name, "{error}");
    }

    fn asked(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be answered.
    pub(crate) fn take_asked(&self) -> Vec<u64> {
        mem::take(&mut *self.asked())
    }

    /// Waits until something is asked. One waiter; cancel safe.
    pub(crate) async fn wait_asked(&self) {
        while self.asked().is_empty() {
            self.0.asked_notify.notified().await;
        }
    }

    /// Waits until the digests of some node prove nothing yet about some channel: the channel is new, or the node is.
    /// One waiter; cancel safe.
    pub(crate) async fn wait_unproven(&self) {
        tokio::select! {
            () = self.0.receivers.hub.one_more_subscribed() => {}
            () = self.0.unproven.notified() => {}
        }
    }

    /// What is known of digests, while the link is up.
    pub(crate) fn digests<R>(&self, look: impl FnOnce(&mut DigestReceiver) -> R) -> Option<R> {
        match &mut *self.lock() {
            Stage::Up(digests) => Some(look(digests)),
            Stage::Early | Stage::Closed => None,
        }
    }

    /// A node was killed, perhaps: what it posted last is unknown.
    pub(crate) fn fell_silent(&self) {
        self.gap_on_all(&skipped(None));
    }

    /// Which part of the backend is out of reach, and each change of it.
    pub(crate) fn parts(&self) -> watch::Receiver<Option<Error>> {
        self.0.degraded.subscribe()
    }

    /// Waits until the link is reported lost. One waiter.
    pub(crate) async fn wait_lost(&self) -> Error {
        loop {
            if let Some(error) = self.0.lost.get() {
                return error.clone();
            }
            self.0.lost_notify.notified().await;
        }
    }

    /// Nothing more gets through.
    pub(crate) fn close(&self) {
        *self.lock() = Stage::Closed;
    }
}
