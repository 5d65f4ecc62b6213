//! Own task: whether the caller is in one of a broker's own tasks, so that the end of the broker does not wait for a
//! task that waits for that end.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::NodeId;

/// The tasks of one broker, for what spawns another.
pub(crate) struct Tasks {
    pub(crate) node: NodeId,
    pub(crate) tracker: TaskTracker,
    /// Cancelled when what still runs is broken off.
    pub(crate) abort: CancellationToken,
}

thread_local! {
    /// Whose task this thread polls. Not a task-local of tokio: that would cost each listener memory.
    static OWN: Cell<Option<NodeId>> = const { Cell::new(None) };
}

/// Puts back what was there, also after a panic.
struct Restore(Option<NodeId>);

impl Drop for Restore {
    fn drop(&mut self) {
        OWN.set(self.0);
    }
}

/// Runs code of a listener or a hook of this broker.
#[inline]
pub(crate) fn within<R>(node: NodeId, code: impl FnOnce() -> R) -> R {
    let _restore = Restore(OWN.replace(Some(node)));
    code()
}

/// Polls the future of a hook as code of this broker.
pub(crate) async fn of<F: Future>(node: NodeId, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| within(node, || future.as_mut().poll(cx))).await
}

/// Whether the caller is in a task of this broker.
pub(crate) fn is_of(node: NodeId) -> bool {
    OWN.get() == Some(node)
}
