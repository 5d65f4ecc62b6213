//! Batch: what the writer sends next, and who waits for what becomes of it.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    ErrorKind, Result,
    driver::{Outgoing, Receipt},
    loss::sequencer::Number,
    runtime::user_code::contain,
};

/// What the link sends next, and who waits for the outcome.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) frames: Vec<Outgoing>,
    pub(crate) completion: Vec<Completion>,
}

impl Batch {
    pub(super) fn add(&mut self, outgoing: Outgoing, completion: Completion) {
        self.frames.push(outgoing);
        self.completion.push(completion);
    }
}

/// Where the outcome of a frame goes. Dropped without an outcome, the frame counts as interrupted.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(super) outcome: oneshot::Sender<Result<Receipt>>,
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// Of a post, once it is sent.
    pub(super) number: Option<Number>,
}

impl Completion {
    pub(super) fn new(outcome: oneshot::Sender<Result<Receipt>>) -> Self {
        Self { outcome, room: None, number: None }
    }

    /// Sends the outcome of the frame, and gives back its room.
    pub(super) fn of(self, result: Result<Receipt>) {
        // The waker of the waiting call may be foreign code.
        contain("a waker", || {
            let _ = self.outcome.send(result);
            drop(self.room);
        });
    }
}

/// Whether a frame was certainly not sent: refused, or the link was gone before.
pub(super) fn is_unsent(outcome: &Result<Receipt>) -> bool {
    outcome.as_ref().is_err_and(|error| !error.is_transient() || error.kind() == ErrorKind::Unavailable)
}
