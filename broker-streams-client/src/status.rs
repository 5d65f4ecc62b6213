//! Status: whether the client has a connection, and a stream of its changes.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::stream;
use tokio::sync::watch;

use crate::CallError;

/// Whether the client has a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// The shared socket is open.
    Connected,
    /// A connection is being made.
    Connecting,
    /// The connection was lost, and calls wait for the next attempt.
    Waiting {
        /// The time until that attempt, counted from this change.
        delay: Duration,
    },
    /// There is no connection, and none is being made before the next call.
    Disconnected {
        /// What ended the last connection, or prevented it. `None`: it was not needed.
        why: Option<CallError>,
    },
}

/// The changes of a client's [`Status`]: the present one first, then the latest whenever it has changed.
///
/// A reader that is slow misses what lies between. It ends with the client.
pub struct StatusChanges(Pin<Box<dyn Stream<Item = Status> + Send + Sync>>);

impl StatusChanges {
    pub(crate) fn new(receiver: watch::Receiver<Status>) -> Self {
        Self(Box::pin(stream::unfold((receiver, true), |(mut receiver, first)| async move {
            if !first {
                receiver.changed().await.ok()?;
            }
            let status = receiver.borrow_and_update().clone();
            Some((status, (receiver, false)))
        })))
    }

    /// The next status. Cancel safe: a change that was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Status> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl Stream for StatusChanges {
    type Item = Status;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Status>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for StatusChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatusChanges")
    }
}
