//! Own task: whether the caller is in one of a broker's own tasks, so that the end of the broker does not wait for a
//! task that waits for that end.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::NodeId;

/// The tasks of one broker, for what spawns another.
pub(crate) struct Tasks {
    pub(crate) node: NodeId,
    pub(crate) tracker: TaskTracker,
    /// Cancelled when what still runs is broken off.
    pub(crate) abort: CancellationToken,
}

tokio::task_local! {
    static OWN: NodeId;
}

/// A task of this broker: a listener, a hook, or what calls hooks.
pub(crate) fn of<F: Future>(node: NodeId, task: F) -> impl Future<Output = F::Output> {
    OWN.scope(node, task)
}

/// Whether the caller is in a task of this broker.
pub(crate) fn is_of(node: NodeId) -> bool {
    OWN.try_with(|own| *own == node).unwrap_or(false)
}
