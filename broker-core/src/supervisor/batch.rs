//! Batch: what the writer sends next, and who waits for what becomes of it.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    Error, ErrorKind, Result,
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
    /// Until it is sent.
    pub(super) outcome: Option<oneshot::Sender<Result<Receipt>>>,
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// Of a post, once it is sent.
    pub(super) number: Option<Number>,
}

impl Completion {
    pub(super) fn new(outcome: oneshot::Sender<Result<Receipt>>) -> Self {
        Self { outcome: Some(outcome), room: None, number: None }
    }

    /// That of a post, which has taken room.
    pub(super) fn of_post(outcome: oneshot::Sender<Result<Receipt>>, room: OwnedSemaphorePermit) -> Self {
        Self { outcome: Some(outcome), room: Some(room), number: None }
    }

    /// Where the outcome of a post goes, for another than the writer's. `None` for a frame of the broker's own.
    pub(super) fn take_post(&mut self) -> Option<oneshot::Sender<Result<Receipt>>> {
        if self.room.is_some() { self.outcome.take() } else { None }
    }

    /// Sends the outcome of the frame, and gives back its room.
    pub(super) fn of(mut self, result: Result<Receipt>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<Receipt>) {
        // The wakers of those who wait, for the outcome or for room, may be foreign code.
        if let Some(outcome) = self.outcome.take() {
            contain("a waker", || drop(outcome.send(result)));
        }
        if let Some(room) = self.room.take() {
            contain("a waker", || drop(room));
        }
    }
}

impl Drop for Completion {
    /// The link broke with the frame under way.
    fn drop(&mut self) {
        if self.outcome.is_some() || self.room.is_some() {
            self.end(Err(link_broke()));
        }
    }
}

/// What became of a frame whose outcome was lost.
pub(crate) fn link_broke() -> Error {
    interrupted("the link broke while the message was under way")
}

pub(super) fn interrupted(why: &str) -> Error {
    let message = format!("{why}: the message may or may not have been delivered");
    Error::new(ErrorKind::Interrupted, message)
}

/// Whether a frame was certainly not sent: refused, or the link was gone before.
pub(super) fn is_unsent(outcome: &Result<Receipt>) -> bool {
    outcome.as_ref().is_err_and(|error| !error.is_transient() || error.kind() == ErrorKind::Unavailable)
}
