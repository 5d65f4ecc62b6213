//! Calling the hooks of a session, in a task of its own, and ending it afterwards.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::state::Shared;
use crate::{
    CloseReason,
    runtime::tasks::{self, Tasks},
};

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
                tracing::warn!(
                    "the hooks of a session took longer than {limit:?}; it ends without the remaining ones"
                );
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
        let next = session.lock().hooks.as_mut().and_then(|hooks| hooks.pop_front());
        let Some((_, hook)) = next else { return };
        // A task of its own, so that a panic ends this hook and nothing else.
        let running = tasks::of(tasks.node, (hook.0)(reason.clone()));
        let running = tasks.tracker.track_future(running);
        if let Err(error) = AbortOnDropHandle::new(tokio::spawn(running)).await {
            tracing::error!("a hook of a session failed: {error}");
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
