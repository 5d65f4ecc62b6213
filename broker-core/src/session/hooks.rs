//! Hooks: functions that a session calls before it ends, one after the other. Serverpod's will-close listeners.

use std::{collections::VecDeque, fmt, future::Future, pin::Pin};

use crate::CloseReason;

/// Names a hook of one session, to remove it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookId {
    pub(super) session: u64,
    pub(super) number: u64,
}

/// The hooks of one session, in the order in which they were added.
pub(super) type Hooks = VecDeque<(u64, Hook)>;

/// A hook, made ready to be called with the reason.
pub(super) struct Hook(pub(super) Box<dyn FnOnce(CloseReason) -> Running + Send>);

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
