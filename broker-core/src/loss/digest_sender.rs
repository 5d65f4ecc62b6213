//! DigestSender: the digests of this node on their way out. One round covers all that was posted since the last; after the
//! last post one more, an empty one, so that a receiver that missed the one before it detects that, and knows that
//! nothing is owed. The first round of a node comes before its first post.

use std::mem;

use bytes::BytesMut;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{
    Error, ErrorKind, NodeId, Post, Result,
    driver::Receipt,
    wire::{
        digest::{Digest, MAX_ANSWERS, Span, split},
        frame::{self, SequenceHeader},
    },
};

/// How many spans may wait to be sent again. With more, the node announces an unknown loss instead.
const MAX_UNCONFIRMED: usize = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DigestSender {
    /// Of the last digest made.
    number: u64,
    /// Of the last digest that the backend has confirmed, and all before it in its round.
    confirmed: u64,
    /// The last round, until its outcome is looked at.
    under_way: Vec<Part>,
    /// Sent in a round that failed: sent again in the next.
    unconfirmed: Vec<Span>,
    /// Nothing is owed: the last round was empty.
    quiet: bool,
    /// The questions that the next round answers.
    asked: Vec<u64>,
    /// The backend refuses digests from this node, and that was logged.
    refused: bool,
}

#[derive(Debug)]
struct Part {
    number: u64,
    spans: Vec<Span>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Pending(oneshot::Receiver<Result<Receipt>>),
    Known(Result<Receipt>),
}

impl Outcome {
    /// Takes the outcome if it has come. Whether it has.
    fn receive(&mut self) -> bool {
        let Self::Pending(receiver) = self else { return true };
        *self = Self::Known(match receiver.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Closed) => Err(unknown()),
        });
        true
    }
}

/// It may have been sent or not.
fn unknown() -> Error {
    Error::new(ErrorKind::Interrupted, "the outcome is unknown")
}

/// A frame to send, and where its outcome goes.
pub(crate) type Sending = (BytesMut, oneshot::Sender<Result<Receipt>>);

impl DigestSender {
    /// Whether an outcome of the last round is still to come.
    pub(crate) fn is_pending(&mut self) -> bool {
        self.under_way.iter_mut().any(|part| !part.outcome.receive())
    }

    /// The next round answers a question. Of too many some are not answered: whoever has no answer asks again.
    pub(crate) fn asked(&mut self, ask: u64) {
        if self.asked.len() < MAX_ANSWERS && !self.asked.contains(&ask) {
            self.asked.push(ask);
        }
    }

    /// The frames of the next round: none when there is nothing to report. Outcomes of the last round that are still to
    /// come count as failures. `within` says when the round after it follows; 0: the node closes, which is reported.
    pub(crate) fn next(&mut self, origin: NodeId, new_spans: Vec<Span>, within: u32) -> Vec<Sending> {
        self.check_outcomes();
        self.unconfirmed.extend(new_spans);
        if self.unconfirmed.len() > MAX_UNCONFIRMED {
            // A number without a digest: every receiver reports that something may be missing.
            self.unconfirmed = Vec::new();
            self.number += 1;
            self.confirmed = self.number;
        }
        let spans = mem::take(&mut self.unconfirmed);
        let mut answers = mem::take(&mut self.asked);
        if spans.is_empty() && answers.is_empty() && self.quiet && within != 0 {
            return Vec::new();
        }
        self.quiet = spans.is_empty();
        let (after, begin) = (self.confirmed, self.number + 1);
        let mut frames = Vec::new();
        for spans in split(spans, answers.len()) {
            self.number += 1;
            let digest = Digest { after, begin, next: within, answers: mem::take(&mut answers), spans };
            let mut frame = frame::encode(&Post::new(digest.encode()), origin);
            frame::write_header(
                &mut frame,
                SequenceHeader { number: self.number, epoch: 0, sequence: self.number },
            );
            let (sender, outcome) = oneshot::channel();
            self.under_way.push(Part {
                number: self.number,
                spans: digest.spans,
                outcome: Outcome::Pending(outcome),
            });
            frames.push((frame, sender));
        }
        frames
    }

    /// No reason to do without messages. Without digests such losses are silent: the log must say so.
    fn refused(&mut self, error: &Error) {
        if !mem::replace(&mut self.refused, true) {
            tracing::warn!(
                "this node cannot send digests, so other nodes do not detect the loss of its last messages: {error}"
            );
        }
    }

    /// Looks at what became of the last round.
    fn check_outcomes(&mut self) {
        for mut part in mem::take(&mut self.under_way) {
            part.outcome.receive();
            let outcome = match part.outcome {
                Outcome::Known(outcome) => outcome,
                Outcome::Pending(_) => Err(unknown()),
            };
            match outcome {
                // What follows a failure is sent again too: only a whole beginning of a round is confirmed.
                Ok(_) if self.unconfirmed.is_empty() => self.confirmed = part.number,
                Err(error) if !error.is_transient() => self.refused(&error),
                _ => {
                    self.quiet = false;
                    self.unconfirmed.extend(part.spans);
                }
            }
        }
    }
}
