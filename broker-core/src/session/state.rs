//! Shared: the part of a session that its streams, its hooks and the broker hold on to; and how it ends.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError},
};

use tokio::sync::Notify;

use super::hooks::Hooks;
use crate::{
    CloseReason, Message, NodeId,
    hub::{Hub, Ring, Seat, Seats, WakeList},
    message::sender::Sender,
    runtime::{
        gate::Gate,
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        user_code::{contain, shielded},
    },
};

/// See the module.
pub(crate) struct Shared {
    pub(crate) id: u64,
    /// How many handles there are.
    handles: AtomicUsize,
    pub(super) hub: Arc<Hub>,
    /// Set once, when it begins to end; hooks may still have to run.
    closing: OnceLock<CloseReason>,
    /// Set once, when it has ended; looked at before everything that is yielded.
    closed: OnceLock<CloseReason>,
    /// It has ended, and no hook runs any more.
    finished: AtomicBool,
    began: Notify,
    /// Notified by `closed`, and by `finished`.
    ended: Notify,
    open: Mutex<Open>,
}

/// What is open in a session.
#[derive(Default)]
pub(super) struct Open {
    next: u64,
    /// The streams and listeners.
    tied: HashMap<u64, Tied>,
    /// To be called before the end; a task waits to do so from the first one on.
    /// Boxed: most sessions have none.
    pub(super) hooks: Option<Box<Hooks>>,
    /// The session's handle is dropped, and its hooks still run.
    registration: Option<Box<dyn Send + Sync>>,
}

/// A stream, a set of channels, or a listener.
struct Tied {
    /// Where its waker waits.
    seat: Seat,
    /// That of a listener.
    gate: Option<Arc<Gate>>,
}

impl Open {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    #[cfg(all(test, shuttle))]
    pub(super) fn seat(&self, number: u64) -> Option<(Arc<Ring>, u8)> {
        match self.tied.get(&number) {
            Some(Tied { seat: Seat::One(ring, seat), .. }) => Some((Arc::clone(ring), *seat)),
            _ => None,
        }
    }

    /// Closes the gates of all listeners.
    fn gates(&self) -> Vec<Arc<Gate>> {
        let gates = self.tied.values().filter_map(|tied| tied.gate.as_ref());
        gates.inspect(|gate| gate.close()).cloned().collect()
    }
}

impl Shared {
    pub(crate) fn new(id: u64, hub: Arc<Hub>) -> Self {
        Self {
            id,
            handles: AtomicUsize::new(1),
            hub,
            closing: OnceLock::new(),
            closed: OnceLock::new(),
            finished: AtomicBool::new(false),
            began: Notify::new(),
            ended: Notify::new(),
            open: Mutex::default(),
        }
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it was the last one.
    pub(super) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// How many streams and listeners would end with it now, if some would.
    pub(super) fn open_streams(&self) -> Option<usize> {
        let open = self.lock().tied.len();
        (open > 0 && self.closing.get().is_none()).then_some(open)
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

    /// Ends everything at once; but if there are hooks, they are called first, unless the authentication is gone. The
    /// first reason counts. Returns the gates of listeners that may just be beginning a call: whoever says that none
    /// begins any more waits for them first.
    pub(crate) fn close(&self, reason: &CloseReason) -> Vec<Arc<Gate>> {
        let at_once = reason.ends_authentication();
        // Under the lock, so that a hook is either called or refused.
        let (first, hooked) = {
            let open = self.lock();
            let hooked = open.hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
            (self.closing.set(reason.clone()).is_ok(), hooked)
        };
        let running = !first && !self.finished.load(Ordering::SeqCst);
        let gates = if at_once || !(hooked || running) { self.cut(reason) } else { Vec::new() };
        if first {
            if !hooked {
                self.finish();
            }
            self.began.notify_one(); // the task for hooks, also if all of them were removed
        }
        gates
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
            shielded(ended).await;
        }
    }

    /// Waits until it has ended and its hooks have, too. Cancel safe.
    pub(crate) async fn finished(&self) {
        loop {
            let ended = self.ended.notified();
            if self.finished.load(Ordering::SeqCst) {
                return;
            }
            shielded(ended).await;
        }
    }

    /// Ends everything now, hooks or not.
    pub(super) fn tear_down(&self) {
        let reason = self.closing.get_or_init(|| CloseReason::SessionClosed).clone();
        drop(self.cut(&reason));
        self.finish();
    }

    /// Streams and listeners yield nothing more. The gates of the listeners.
    fn cut(&self, reason: &CloseReason) -> Vec<Arc<Gate>> {
        let mut wakes = WakeList::default();
        let gates = {
            let open = self.lock();
            if self.closed.set(reason.clone()).is_ok() {
                // Under the lock: who leaves a seat takes it first, so that none of these is another's yet.
                open.tied.values().for_each(|tied| tied.seat.close(&self.hub, &mut wakes));
            }
            open.gates()
        };
        wakes.finish();
        self.ended.notify_waiters();
        gates
    }

    /// After it has ended: blocks until no call of its listeners is beginning any more.
    pub(super) fn wait_for_calls(&self) {
        let gates = self.lock().gates();
        Gate::wait_for_calls(&gates);
    }

    /// It has ended, and its hooks have.
    fn finish(&self) {
        let (hooks, registration) = {
            let mut open = self.lock();
            self.finished.store(true, Ordering::SeqCst);
            (open.hooks.take(), open.registration.take())
        };
        self.ended.notify_waiters();
        contain("a hook that was dropped", || drop(hooks));
        drop(registration);
    }

    /// The broker finds the session until its hooks have ended.
    pub(super) fn keep_registered(&self, registration: impl Send + Sync + 'static) {
        let mut open = self.lock();
        if !self.finished.load(Ordering::SeqCst) {
            open.registration = Some(Box::new(registration));
        }
    }

    /// Ties a subscription to the session; `None` when it has ended.
    pub(super) fn own(
        self: &Arc<Self>,
        (ring, seat): (Arc<Ring>, u8),
        gate: Option<Arc<Gate>>,
    ) -> Option<Owner> {
        self.own_seat(Seat::One(ring, seat), gate)
    }

    /// The same for a set of channels.
    pub(super) fn own_set(self: &Arc<Self>, seats: Arc<dyn Seats>) -> Option<Owner> {
        self.own_seat(Seat::Many(Box::new(seats)), None)
    }

    fn own_seat(self: &Arc<Self>, seat: Seat, gate: Option<Arc<Gate>>) -> Option<Owner> {
        let mut open = self.lock();
        if self.closed.get().is_some() {
            return None;
        }
        let number = open.number();
        open.tied.insert(number, Tied { seat, gate: gate.clone() });
        Some(Owner { session: Arc::clone(self), number, gate })
    }

    /// The same, and blocks until no call of it is beginning. Whether it was open.
    pub(super) fn end_listener(&self, number: u64) -> bool {
        let Some((gate, first)) = self.remove_listener(number) else { return false };
        // Also if somebody else removes it: each may rely on it when its own call returns.
        Gate::wait_for_calls(std::slice::from_ref(&gate));
        first
    }

    /// Ends a listener, if the session has it. Its gate, as for [`close`](Self::close), and whether it was open.
    pub(super) fn remove_listener(&self, number: u64) -> Option<(Arc<Gate>, bool)> {
        let mut wakes = WakeList::default();
        let (gate, first) = {
            let open = self.lock();
            let Tied { seat, gate: Some(gate) } = open.tied.get(&number)? else { return None };
            let first = !gate.is_closed();
            gate.close();
            if self.closed.get().is_none() {
                seat.close(&self.hub, &mut wakes);
            }
            (Arc::clone(gate), first)
        };
        wakes.finish();
        Some((gate, first))
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

    /// Whether a message is one that the session, of this node, has posted for others only.
    pub(crate) fn passes_over(&self, message: &Message, node: NodeId) -> bool {
        self.is_excluded_by(message.sender()) && message.origin() == node
    }

    /// Whether the session is passed over by a message of its node.
    #[inline]
    pub(crate) fn is_excluded_by(&self, sender: Sender) -> bool {
        sender.excludes(self.session.id)
    }

    /// A listener's gate.
    pub(crate) fn gate(&self) -> Option<&Gate> {
        self.gate.as_deref()
    }

    /// Why the subscription has to end, if it has to.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        let removed = || self.gate.as_ref().filter(|gate| gate.is_closed()).map(|_| CloseReason::Removed);
        self.session.closed.get().cloned().or_else(removed)
    }

    pub(crate) fn forget(&self) {
        let mut open = self.session.lock();
        let tied = open.tied.remove(&self.number);
        drop(open);
        drop(tied);
    }
}
