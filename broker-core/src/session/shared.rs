//! Shared: the part of a session that its streams, its hooks and the broker hold on to; and how it ends.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError},
};

use tokio::sync::Notify;

use super::hooks::Hooks;
use crate::{
    CloseReason,
    hub::Ring,
    listener::Gate,
    sync::{Mutex, MutexGuard},
};

/// See the module.
pub(crate) struct Shared {
    pub(crate) id: u64,
    /// Set once, when it begins to end; hooks may still have to run.
    closing: OnceLock<CloseReason>,
    /// Set once, when it has ended; looked at before everything that is yielded.
    closed: OnceLock<CloseReason>,
    began: Notify,
    ended: Notify,
    open: Mutex<Open>,
}

/// What is open in a session.
#[derive(Default)]
pub(super) struct Open {
    next: u64,
    /// Where the waker of each stream and listener waits.
    seats: HashMap<u64, (Arc<Ring>, u8)>,
    pub(super) listeners: HashMap<u64, Arc<Gate>>,
    /// To be called before the end; a task waits to do so from the first one on.
    pub(super) hooks: Option<Hooks>,
}

impl Open {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn seat(&self, number: u64) -> Option<(Arc<Ring>, u8)> {
        self.seats.get(&number).cloned()
    }
}

impl Shared {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            closing: OnceLock::new(),
            closed: OnceLock::new(),
            began: Notify::new(),
            ended: Notify::new(),
            open: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.closed.get()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// Ends everything: at once, or after the hooks if there are any. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        // Under the lock, so that a hook is either called or refused.
        let hooked = {
            let open = self.lock();
            if self.closing.set(reason).is_err() {
                return;
            }
            open.hooks.is_some()
        };
        if hooked {
            self.began.notify_one();
        } else {
            self.tear_down();
        }
    }

    /// Waits until it begins to end. One waiter: the task that calls the hooks.
    pub(super) async fn closing(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.closing.get() {
                return reason.clone();
            }
            self.began.notified().await;
        }
    }

    /// Waits until it has ended. Cancel safe.
    pub(crate) async fn closed(&self) -> CloseReason {
        loop {
            let ended = self.ended.notified();
            if let Some(reason) = self.closed.get() {
                return reason.clone();
            }
            ended.await;
        }
    }

    /// Ends everything now, hooks or not.
    pub(super) fn tear_down(&self) {
        let (seats, listeners, hooks) = {
            let mut open = self.lock();
            let reason = self.closing.get_or_init(|| CloseReason::SessionClosed);
            if self.closed.set(reason.clone()).is_err() {
                return;
            }
            let open = std::mem::take(&mut *open);
            (open.seats, open.listeners, open.hooks)
        };
        self.ended.notify_waiters();
        for (ring, seat) in seats.into_values() {
            ring.nudge(seat);
        }
        drop((listeners, hooks));
    }

    /// Ties a subscription to the session; `None` when it has ended.
    pub(super) fn own(self: &Arc<Self>, seat: (Arc<Ring>, u8), gate: Option<Arc<Gate>>) -> Option<Owner> {
        let mut open = self.lock();
        if self.closed.get().is_some() {
            return None;
        }
        let number = open.number();
        open.seats.insert(number, seat);
        open.listeners.extend(gate.clone().map(|gate| (number, gate)));
        Some(Owner { session: Arc::clone(self), number, gate })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A subscription's tie to its session.
pub(crate) struct Owner {
    session: Arc<Shared>,
    pub(super) number: u64,
    /// A listener's own gate.
    gate: Option<Arc<Gate>>,
}

impl Owner {
    /// Whether the subscription has to end.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.session.closed.get().is_some() || self.gate.as_ref().is_some_and(|gate| gate.is_closed())
    }

    /// Why the subscription has to end, if it has to.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        let removed = || self.gate.as_ref().filter(|gate| gate.is_closed()).map(|_| CloseReason::Removed);
        self.session.closed.get().cloned().or_else(removed)
    }

    pub(crate) fn forget(&self) {
        let mut open = self.session.lock();
        let seat = open.seats.remove(&self.number);
        let gate = open.listeners.remove(&self.number);
        drop(open);
        drop((seat, gate));
    }
}
