//! Follower: the state of the revocation log at this node, across links, and the records it still has to store.
//! [`log_sync`](crate::revocation::log_sync) does the reading and the writing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Notify, Semaphore, oneshot, watch},
    time::Instant,
};

use crate::{
    ChannelName, Error, ErrorKind, FailMode, NodeId, Options, Post, Result, Uncertainty,
    driver::{LogCursor, LogSpec},
    revocation::{record::RecordId, registry::Registry, serverpod},
    runtime::{Runtime, user_code::contain},
    wire::{
        frame::{self, SequenceHeader},
        names::REVOCATIONS,
    },
};

/// How many revocations of this node may wait for the log at once; more wait for their turn.
const WAITING: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) log: LogSpec,
    pub(crate) registry: Arc<Registry>,
    node: NodeId,
    on_unlogged_gap: FailMode,
    /// Revocations come from Serverpod's servers, too, which keep no log of them.
    pub(crate) serverpod: bool,
    lease: Duration,
    state: Mutex<State>,
    standing: watch::Sender<Standing>,
    /// Notified when the log should be read.
    pub(crate) read_notify: Notify,
    /// Notified when something is to be appended.
    pub(crate) append_notify: Notify,
    turns: Semaphore,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// From the first identity or revocation of the process on. A process without either needs no log and no permission.
    pub(crate) wanted: bool,
    /// The present link is subscribed to the announcements.
    pub(crate) subscribed: bool,
    pub(crate) cursor: LogCursor,
    pub(crate) waiting: VecDeque<Append>,
    /// Appended by this node and not met in the log yet; and whether the backend has said that it stored it.
    pub(crate) own: HashMap<RecordId, bool>,
    /// The log lost records that may be remembered here.
    pub(crate) repair: bool,
    /// And that has not been announced to the other nodes yet.
    pub(crate) announce_loss: bool,
    /// The log is a new one, and other nodes may hold the records of the last: they have until then to store them.
    pub(crate) recovery_ends: Option<Instant>,
    /// Why the last append failed, if it did.
    pub(crate) append_error: Option<Error>,
    announcements: u64,
}

impl State {
    /// Whether the time for others to store their records is over, for a read of the log that began then.
    pub(crate) fn has_recovered(&mut self, began: Instant) -> bool {
        if !self.announce_loss && self.recovery_ends.is_some_and(|recovery_ends| recovery_ends <= began) {
            self.recovery_ends = None;
        }
        self.recovery_ends.is_none()
    }
}

/// What is known of the log, for the calls that wait for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// It was read to its end while the announcements were received, or there is none.
    pub(crate) known: bool,
    /// The server keeps none.
    pub(crate) unlogged: bool,
    /// When the last complete read began. Without a log: when the last echo was sent.
    pub(crate) as_of: Option<Instant>,
    /// Why the last read failed.
    pub(crate) error: Option<Error>,
    /// The log is a new one, and other nodes may still be storing their records in it.
    pub(crate) recovering: bool,
    /// The announcements are refused to this node: it receives revocations by the poll only, and admits no new identities.
    pub(crate) announcements_refused: Option<Error>,
}

/// A record on its way to the log, and where its outcome goes.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) id: RecordId,
    pub(crate) record: Bytes,
    pub(crate) outcome: oneshot::Sender<Result<()>>,
}

impl Follower {
    pub(crate) fn new(node: NodeId, registry: Arc<Registry>, options: &Options) -> Self {
        Self {
            // The longest that a driver may take; core's own limit lies behind it.
            log: LogSpec::of_options(options),
            registry,
            node,
            on_unlogged_gap: options.on_unlogged_gap,
            serverpod: options.serverpod_revocations,
            lease: options.revocation_lease,
            state: Mutex::default(),
            standing: watch::Sender::default(),
            read_notify: Notify::new(),
            append_notify: Notify::new(),
            turns: Semaphore::new(WAITING),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the log is followed. Says whether that is new.
    pub(crate) fn want(&self) -> bool {
        let new = !std::mem::replace(&mut self.lock().wanted, true);
        if new {
            self.read_notify.notify_one();
        }
        new
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.lock().wanted
    }

    /// The channel of the announcements on the wire, if the present link is to be subscribed to it and is not yet.
    pub(crate) fn channel_to_subscribe(&self) -> Option<ChannelName> {
        let state = self.lock();
        let wanted =
            state.wanted && !state.subscribed && self.standing.borrow().announcements_refused.is_none();
        wanted.then(|| self.log.name.clone())
    }

    /// The present link is subscribed to the announcements, or it is another one and is not.
    pub(crate) fn set_announcements_subscribed(&self, subscribed: bool) {
        self.lock().subscribed = subscribed;
        self.set_announcements_refused(None);
    }

    /// The backend refuses the announcements, or may be asked again.
    pub(crate) fn set_announcements_refused(&self, error: Option<Error>) {
        self.change_standing(|standing| {
            let changed = standing.announcements_refused.is_some() || error.is_some();
            standing.announcements_refused = error;
            changed
        });
        let standing = self.standing.borrow();
        if standing.unlogged && standing.announcements_refused.is_some() {
            drop(standing);
            self.close_unlogged();
        }
    }

    /// An announcement carries the whole record, so that nothing has to be read. An empty one says that the log lost records:
    /// nodes that hold some store them again. It may come from anywhere and hold anything.
    pub(crate) fn receive(&self, origin: NodeId, record: &Bytes) {
        if origin == self.node {
            return;
        }
        if record.is_empty() {
            self.lock().repair = true;
            self.read_notify.notify_one();
        } else if let Err(reason) = self.registry.receive(record) {
            tracing::warn!(channel = REVOCATIONS, "an announcement is not a revocation: {reason}");
        }
    }

    /// The client dropped messages, perhaps an announcement.
    pub(crate) fn missed(&self) {
        self.read_notify.notify_one();
        if self.standing.borrow().unlogged {
            self.close_unlogged();
        }
    }

    /// The link is a new one: what was revoked since the last one, and is in no log, was missed.
    pub(crate) fn missed_by_link(&self) {
        if self.serverpod || self.standing.borrow().unlogged {
            self.close_unlogged();
        }
    }

    /// Something was missed on a channel of Serverpod's.
    pub(crate) fn missed_serverpods(&self) {
        if self.serverpod {
            self.close_unlogged();
        }
    }

    /// What Serverpod's servers publish on a user's channel. It may come from anywhere and hold anything.
    pub(crate) fn receive_serverpod(&self, user: &str, payload: &Bytes) -> Result<(), &'static str> {
        let revocation = serverpod::decode(user, payload)?;
        self.registry.receive_undated(revocation).map_err(|_| "a revocation that cannot be written")
    }

    /// This node was disconnected, and no log keeps what it missed.
    fn close_unlogged(&self) {
        if self.on_unlogged_gap == FailMode::Closed {
            self.registry.close_uncertain(std::time::Instant::now(), Uncertainty::Unlogged);
        }
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(crate) fn set_standing(&self, change: impl FnOnce(&mut Standing)) {
        self.change_standing(|standing| {
            change(standing);
            true
        });
    }

    /// Says whether it changed something. Wakes the calls that wait to open a session, which may run foreign code.
    fn change_standing(&self, change: impl FnOnce(&mut Standing) -> bool) {
        contain("a waker", || _ = self.standing.send_if_modified(change));
    }

    /// An own post came back. Where no log is kept, the echo shows whether announcements are received.
    pub(crate) fn echoed(&self, sent: Instant) {
        self.change_standing(|standing| {
            if standing.unlogged {
                standing.as_of = Some(sent);
            }
            standing.unlogged
        });
    }

    /// Waits until it is known what has been revoked.
    pub(crate) async fn known(&self, runtime: &Runtime, limit: Duration) -> Result<()> {
        let mut standing = self.standing();
        let decided = |standing: &Standing| {
            let failed = standing.error.as_ref().is_some_and(|error| !error.is_transient());
            standing.known || failed || standing.announcements_refused.is_some()
        };
        let last = match runtime.timeout(limit, standing.wait_for(decided)).await {
            Ok(Ok(standing)) if standing.known && standing.announcements_refused.is_none() => return Ok(()),
            Ok(Ok(standing)) => standing.announcements_refused.clone().or(standing.error.clone()),
            Ok(Err(_)) => return Err(Error::closed()),
            Err(_) => self.standing.borrow().error.clone(),
        };
        let away = if self.standing.borrow().recovering {
            "the log was missing and is being restored from other nodes; call again"
        } else {
            "there is no link to the backend"
        };
        let cause = last.as_ref().map_or(away, Error::message);
        let kind =
            last.as_ref().filter(|error| !error.is_transient()).map_or(ErrorKind::Unavailable, Error::kind);
        Err(Error::new(kind, format!("the revocations were not read within {limit:?}: {cause}")))
    }

    /// Whether the lease holds: the log was in reach recently.
    pub(crate) fn check_lease(&self) -> Result<()> {
        let as_of = self.standing.borrow().as_of;
        if self.lease.is_zero() || as_of.is_some_and(|as_of| as_of.elapsed() < self.lease) {
            return Ok(());
        }
        let lease = self.lease;
        let message = format!("the revocation log has been out of reach for {lease:?}, the revocation_lease");
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Puts a record into the log, as soon as a link can. Not cancel safe: it may be put there all the same.
    pub(crate) async fn append(&self, id: RecordId, record: Bytes) -> Result<()> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::closed())?;
        let (outcome, appended) = oneshot::channel();
        self.lock().waiting.push_back(Append { id, record, outcome });
        self.append_notify.notify_one();
        appended.await.unwrap_or_else(|_| Err(Error::closed()))
    }

    /// Why the last append failed, if it did.
    pub(crate) fn append_error(&self) -> Option<Error> {
        self.lock().append_error.clone()
    }

    /// The frame of an announcement. Outside of the sequencer of posts, but with legal numbers.
    pub(crate) fn announcement(&self, record: &Bytes) -> (ChannelName, BytesMut) {
        let sequence = {
            let mut state = self.lock();
            state.announcements += 1;
            state.announcements
        };
        let mut frame = frame::encode(&Post::new(record.clone()), self.node);
        frame::write_header(&mut frame, SequenceHeader { number: sequence, epoch: 1, sequence });
        (self.log.name.clone(), frame)
    }
}
