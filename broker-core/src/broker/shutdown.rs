//! How a broker ends: drained, closed, dropped, or because its supervisor is gone.
//!
//! What takes time runs in a task of its own, so that an end that has begun is completed even if the call is dropped.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak, atomic::Ordering},
};

use futures_util::FutureExt;
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};
use tokio_util::sync::CancellationToken;

use super::{Backend, Broker, Shared};
use crate::{
    CloseReason, Error, ErrorKind, Health,
    driver::CLOSE_LIMIT,
    health::ConnectionState,
    metrics::Meter,
    runtime::{
        GONE, tasks,
        user_code::{contain, shielded, text},
    },
    supervisor::{
        Supervisor,
        outbox::{Outbox, Priority},
        probe::Kind,
        subscriptions::Subscriptions,
    },
};

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Broker {
    /// Finishes what was accepted, then closes. The state is [`ConnectionState::Draining`](crate::ConnectionState::Draining) meanwhile, so
    /// that a readiness check takes the server out of rotation: no new post and no new subscription; every accepted post is sent
    /// and has come back; listeners have been called with everything in their queues, and streams have yielded it,
    /// for at most `drain_timeout`; then [`close`](Self::close). A stream that has nothing left to yield is not waited
    /// for, nor is one whose session is closed; one that has yet to pass over a message that
    /// [excludes](crate::Post::excluding_me) its session is. Idempotent, and may be called from several tasks.
    ///
    /// So it takes at most `drain_timeout`, and what `close` takes: up to `close_timeout` for hooks, and another
    /// `drain_timeout` if a listener blocks its thread.
    ///
    /// Cancel safe: once begun it is completed, also when the call is dropped, as long as its runtime runs. To limit a
    /// shutdown, set `drain_timeout`: a program that returns from `main` after a timeout of its own interrupts the drain.
    /// Called within a listener or a hook of this broker, which would have to wait for itself, it begins the drain and
    /// returns. A task that the listener
    /// spawns, and waits for, is not recognised: the drain then takes all of `drain_timeout`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::Scope;
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut news = broker.subscribe("news").await?;
    /// broker.publish("news", "last words", Scope::Global).await?;
    /// let reader = tokio::spawn(async move {
    ///     let mut received = 0;
    ///     while news.next().await.is_some() {
    ///         received += 1;
    ///     }
    ///     received
    /// });
    /// broker.drain().await;
    /// assert_eq!(reader.await.unwrap(), 1);
    /// # Ok(()) }
    /// ```
    pub async fn drain(&self) {
        let closing = self.is_closed() || self.0.ending.closing.load(Ordering::SeqCst);
        if !closing && !self.0.ending.draining.swap(true, Ordering::SeqCst) {
            if let Some(backend) = &self.0.backend {
                backend.outbox.seal();
            }
            contain("a waker", || {
                self.0.health.send_modify(|health| health.enter(ConnectionState::Draining));
            });
            let broker = self.clone();
            self.complete(async move {
                broker.read_to_the_end().await;
                broker.close_once().await;
            })
            .await;
        }
        self.wait_until_done().await;
    }

    /// Closes now: every session, stream and listener ends, posts that wait fail, and when it returns neither
    /// task, socket nor subscription of this broker is left. Idempotent, and may be called from several tasks.
    ///
    /// A listener in the middle of a call is dropped at its next await; one that blocks its thread instead is
    /// waited for, for at most `drain_timeout`. Hooks are called first, for at most `close_timeout`. If the
    /// runtime is not driven, it returns 6 s after these limits.
    ///
    /// Cancel safe: once begun it is completed, also when the call is dropped, as long as its runtime runs. Called within a listener or a hook of
    /// this broker it begins the end and returns: that task is still there.
    pub async fn close(&self) {
        let broker = self.clone();
        self.complete(async move { broker.close_once().await }).await;
        self.wait_until_done().await;
    }

    /// Runs an end to its completion, in the background. A local broker outside of any runtime has no background, and
    /// no task either: it ends in this call.
    async fn complete(&self, end: impl Future<Output = ()> + Send + 'static) {
        match self.0.runtime.handle("the end of a broker") {
            Ok(runtime) => self.complete_on(&runtime, end),
            Err(_) => CutOff::or_complete(self.clone(), end).await,
        }
    }

    fn complete_on(&self, runtime: &Handle, end: impl Future<Output = ()> + Send + 'static) {
        drop(runtime.spawn(CutOff::or_complete(self.clone(), end)));
    }

    /// Waits until the end is complete; within one of the broker's own tasks, not at all.
    async fn wait_until_done(&self) {
        if tasks::is_of(self.0.node) {
            return;
        }
        let options = &self.0.options;
        // Far more than it takes: a runtime that is not driven completes nothing.
        let limit = options.drain_timeout * 2 + options.close_timeout + CLOSE_LIMIT * 2;
        if self.0.runtime.timeout(limit, shielded(self.0.ending.done.cancelled())).await.is_err() {
            tracing::warn!("the broker's runtime is not running; the broker closes without its tasks");
            self.end_at_once();
            self.0.ending.done.cancel();
        }
    }

    /// Waits until everything accepted has come back and is read.
    async fn read_to_the_end(&self) {
        let limit = self.0.options.drain_timeout;
        let drained = async {
            self.flush().await;
            self.0.hub.end();
            self.0.hub.drained().await;
        };
        tokio::select! {
            drained = self.0.runtime.timeout(limit, drained) => {
                if drained.is_err() {
                    tracing::warn!("unread messages remain after {limit:?}; closing anyway");
                }
            }
            () = self.0.stop.cancelled() => {}
        }
    }

    /// Takes nothing new, and waits until everything accepted has come back, and a last digest has announced how much that
    /// was. With the link gone nothing more comes.
    async fn flush(&self) {
        let Some(backend) = &self.0.backend else { return };
        self.pass_barrier(backend).await;
        backend.outbox.digest(Vec::new());
        self.pass_barrier(backend).await;
    }

    /// Waits until everything queued before it has come back.
    async fn pass_barrier(&self, backend: &Backend) {
        let (token, frames) = backend.probe.next(Kind::Barrier);
        let mut outcomes = Vec::with_capacity(frames.len());
        for (name, frame) in frames {
            let Ok(outcome) = backend.outbox.send_control(&name, frame, Priority::InTurn) else { return };
            outcomes.push(outcome);
        }
        // Their outcomes come after those of the posts before them, which their echoes may overtake.
        let round_trip = async {
            for outcome in outcomes {
                if !matches!(outcome.await, Ok(Ok(_))) {
                    return;
                }
            }
            let _ = backend.probe.echo(token, self.0.options.drain_timeout).await;
        };
        let mut health = self.0.health.subscribe();
        tokio::select! {
            () = round_trip => {}
            _ = health.wait_for(|health| health.failures > 0 || health.state == ConnectionState::Closed) => {}
        }
    }

    /// Closes, unless that has begun already.
    async fn close_once(&self) {
        if self.0.ending.closing.swap(true, Ordering::SeqCst) {
            return;
        }
        self.end_sessions().await;
        self.end_at_once();
        self.0.tasks.close();
        let ended = self.0.runtime.timeout(self.0.options.drain_timeout, self.0.tasks.wait());
        if ended.await.is_err() {
            tracing::warn!("a listener blocks its thread; the broker is closed without it");
        }
        self.0.ending.done.cancel();
    }

    /// Ends every session. Those with hooks can still post, for at most `close_timeout`.
    async fn end_sessions(&self) {
        let open: Vec<_> = self.sessions().values().filter_map(Weak::upgrade).collect();
        open.iter().for_each(|session| drop(session.close(&CloseReason::BrokerClosed)));
        for session in open {
            session.finished().await;
        }
    }

    /// The part that takes no time: nothing is accepted or yielded any more, and every task is cancelled.
    fn end_at_once(&self) {
        self.0.stop.cancel();
        self.0.hub.close();
        self.0.replies.close();
        // Also those that were opened meanwhile; their hooks are called as far as they get.
        let late = std::mem::take(&mut *self.sessions());
        for session in late.into_values().filter_map(|session| session.upgrade()) {
            drop(session.close(&CloseReason::BrokerClosed));
        }
        self.0.abort.cancel();
        contain("a waker", || {
            self.0.health.send_if_modified(|health| {
                let open = health.state != ConnectionState::Closed;
                health.enter(ConnectionState::Closed);
                open
            });
        });
    }

    /// Why the broker has ended, if that was by a fault.
    fn failure(&self) -> Option<&Error> {
        self.0.ending.failure.get()
    }

    /// The error of every call from then on.
    pub(crate) fn closed_error(&self) -> Error {
        match self.failure() {
            Some(error) => error.clone(),
            None if !self.is_closed() && self.0.ending.draining.load(Ordering::SeqCst) => Error::draining(),
            None => Error::closed(),
        }
    }
}

/// An end that is under way. Dropped before it is complete, because its runtime is gone, it is completed at once.
struct CutOff(Option<Broker>);

impl CutOff {
    fn or_complete(broker: Broker, end: impl Future<Output = ()> + Send) -> impl Future<Output = ()> + Send {
        // Made now: a runtime that is gone drops a task without having polled it.
        let cut_off = Self(Some(broker));
        async move {
            let mut cut_off = cut_off;
            end.await;
            drop(cut_off.0.take());
        }
    }
}

impl Drop for CutOff {
    fn drop(&mut self) {
        if let Some(broker) = self.0.take() {
            broker.end_at_once();
            broker.0.ending.done.cancel();
        }
    }
}

/// Ends the broker when its supervisor has ended, however that came about: no call would be answered any more.
pub(super) struct Supervised {
    /// Not a handle: it would keep the broker open.
    broker: Weak<Shared>,
    outbox: Arc<Outbox>,
    subscriptions: Arc<Subscriptions>,
    health: watch::Sender<Health>,
    meter: Meter,
    stop: CancellationToken,
    watchdog: AbortHandle,
    in_order: bool,
}

impl Supervised {
    pub(super) fn new(broker: &Broker, backend: &Backend, watchdog: AbortHandle) -> Self {
        Self {
            broker: Arc::downgrade(&broker.0),
            outbox: Arc::clone(&backend.outbox),
            subscriptions: Arc::clone(&backend.subscriptions),
            health: broker.0.health.clone(),
            meter: broker.0.meter.clone(),
            stop: broker.0.stop.clone(),
            watchdog,
            in_order: false,
        }
    }

    /// Runs the supervisor.
    pub(super) async fn run(mut self, supervisor: Supervisor) {
        let ended = AssertUnwindSafe(supervisor.run()).catch_unwind().await;
        match ended {
            Err(panic) => self.withdraw(&format!("panicked: {}", text(&*panic))),
            Ok(()) if !self.stop.is_cancelled() => self.withdraw("its supervisor has ended"),
            Ok(()) => {}
        }
        self.in_order = true;
    }

    fn withdraw(&self, reason: &str) {
        let error = Error::new(ErrorKind::Closed, format!("the broker is closed: {reason}"));
        let said = error.to_string();
        let broker = self.broker.upgrade().map(Broker);
        if let Some(broker) = &broker {
            let _ = broker.0.ending.failure.set(error.clone());
        }
        contain("a waker", || self.outbox.shut(&error));
        contain("a waker", || self.subscriptions.close(&error));
        contain("a waker", || {
            self.health.send_modify(|health| {
                health.last_error = Some(error);
                health.enter(ConnectionState::Closed);
            });
        });
        self.meter.link_is_down(false);
        if let Some(broker) = broker {
            broker.end_at_once();
            let last = broker.clone();
            if let Ok(runtime) = broker.0.runtime.handle("the end of a broker") {
                broker.complete_on(&runtime, async move { last.close_once().await });
            }
        }
        // Last: whoever reads the log is foreign code.
        contain("the log", || tracing::error!("{said}"));
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if !self.in_order {
            self.withdraw(GONE);
        }
        self.watchdog.abort();
    }
}
