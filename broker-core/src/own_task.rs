//! Own task: whether the caller is in one of a broker's own tasks, so that the end of the broker does not wait for a
//! task that waits for that end.

use std::future::Future;

use crate::NodeId;

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
