//! Hooks: functions that a session calls before it ends, one after the other. Serverpod's will-close listeners.

use std::{collections::VecDeque, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::shared::Shared;
use crate::{
    CloseReason,
    own_task::{self, Tasks},
};

/// Names a hook of one session, to remove it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookId {
    pub(super) session: u64,
    pub(super) number: u64,
}

/// The hooks of one session, in the order in which they were added.
pub(super) type Hooks = VecDeque<(u64, Hook)>;

/// A hook, made ready to be called with the reason.
pub(super) struct Hook(Box<dyn FnOnce(CloseReason) -> Running + Send>);

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Hook {
    pub(super) fn new<F, Fut>(function: F) -> Self
    where
        F: FnOnce(CloseReason) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(|reason| Box::pin(async move { function(reason).await })))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// Waits until a session begins to end, calls its hooks, and ends it: after `limit` at the latest, and at once when
/// the broker aborts. Dropped, it ends the session, too.
pub(super) fn call_hooks(
    session: Arc<Shared>,
    tasks: Tasks,
    limit: Duration,
) -> impl Future<Output = ()> + Send {
    // Made now: a runtime that ends drops a task that it has never polled.
    let session = TornDown(session);
    async move {
        let session = session;
        let called = async {
            let reason = session.0.closing().await;
            if timeout(limit, call_all(&session.0, &reason, &tasks)).await.is_err() {
                tracing::warn!("the hooks of a session took longer than {limit:?}; it ends without the rest");
            }
        };
        tokio::select! {
            () = called => {}
            () = tasks.abort.cancelled() => {}
        }
    }
}

async fn call_all(session: &Shared, reason: &CloseReason, tasks: &Tasks) {
    loop {
        let next = session.lock().hooks.as_mut().and_then(VecDeque::pop_front);
        let Some((_, hook)) = next else { return };
        // A task of its own, so that a panic ends this hook and nothing else.
        let running = own_task::of(tasks.node, (hook.0)(reason.clone()));
        let running = tasks.tracker.track_future(running);
        if let Err(error) = AbortOnDropHandle::new(tokio::spawn(running)).await {
            tracing::error!("a hook of a session did not end in order: {error}");
        }
    }
}

/// Ends the session, however this goes.
struct TornDown(Arc<Shared>);

impl Drop for TornDown {
    fn drop(&mut self) {
        self.0.tear_down();
    }
}
