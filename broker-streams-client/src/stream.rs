//! Stream: what the application reads of a call.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use broker_model::Value;
use futures_core::Stream;

use crate::{
    CallError,
    client::Lifeline,
    inbox::{Entry, Inbox},
};

/// The stream of a call: its values, in order.
///
/// After an error for which [`CallError::is_final`] holds it has ended. [`CallError::Gap`] and
/// [`CallError::Restarted`] stand where values may be missing. Dropping it cancels the call: the server drops
/// the method's future.
pub struct CallStream<T> {
    inbox: Arc<Inbox>,
    has_ended: bool,
    _client: Arc<Lifeline>,
    item: PhantomData<fn() -> T>,
}

/// What happens in the stream of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<T> {
    /// A value.
    Value(T),
    /// Values may be missing here.
    Gap {
        /// How many, if that is known.
        missed: Option<u64>,
        /// The cause, as the broker names it.
        cause: Box<str>,
    },
    /// The connection was lost, and the call goes on: nothing is missing, nothing comes twice.
    Resumed(Resumption),
    /// The call was lost, and a new one has begun: what the server sent in between is missing.
    Restarted,
}

/// How a call went on after its connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resumption {
    /// The server has kept the call: it is the same.
    Exact,
    /// It is a new call, and its method goes on from the position behind the last value.
    Cursor,
}

impl<T> CallStream<T> {
    pub(crate) fn new(inbox: Arc<Inbox>, client: Arc<Lifeline>) -> Self {
        Self { inbox, has_ended: false, _client: client, item: PhantomData }
    }
}

impl<T: Value> CallStream<T> {
    /// The next value; `None` when the method has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        poll_fn(|cx| self.poll_value(cx)).await
    }

    /// The position behind the last value that was read, if the method gives positions: a later call can
    /// [begin](crate::CallBuilder::cursor) there.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        self.inbox.cursor()
    }

    /// The same stream with gaps, resumptions and restarts between its values.
    #[must_use]
    pub fn events(self) -> CallEvents<T> {
        CallEvents(self)
    }

    fn poll_value(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        loop {
            return Poll::Ready(match ready!(self.poll_event(cx)) {
                Some(Ok(Event::Value(value))) => Some(Ok(value)),
                Some(Ok(Event::Resumed(_))) => continue,
                Some(Ok(Event::Gap { missed, cause })) => Some(Err(CallError::Gap { missed, cause })),
                Some(Ok(Event::Restarted)) => Some(Err(CallError::Restarted)),
                Some(Err(error)) => Some(Err(error)),
                None => None,
            });
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event<T>, CallError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let entry = match ready!(self.inbox.poll_next(cx)) {
            Some(Ok(entry)) => entry,
            Some(Err(error)) => {
                self.has_ended = true;
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                self.has_ended = true;
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(match entry {
            Entry::Value { class_name, json, .. } => {
                T::decode(&class_name, &json).map(Event::Value).map_err(CallError::Unreadable)
            }
            Entry::Fault(fault) => {
                self.has_ended = true;
                Err(CallError::Fault(fault))
            }
            Entry::Gap { missed, cause } => Ok(Event::Gap { missed, cause }),
            Entry::Restarted => Ok(Event::Restarted),
            Entry::Resumed(how) => Ok(Event::Resumed(how)),
        }))
    }
}

impl<T: Value> Stream for CallStream<T> {
    type Item = Result<T, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_value(cx)
    }
}

impl<T> Drop for CallStream<T> {
    fn drop(&mut self) {
        self.inbox.cancel();
    }
}

impl<T> fmt::Debug for CallStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStream").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

/// The stream of a call with all that happens in it. By [`CallStream::events`].
#[derive(Debug)]
pub struct CallEvents<T>(CallStream<T>);

impl<T: Value> CallEvents<T> {
    /// The next event; `None` when the method has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Event<T>, CallError>> {
        poll_fn(|cx| self.0.poll_event(cx)).await
    }
}

impl<T: Value> Stream for CallEvents<T> {
    type Item = Result<Event<T>, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_event(cx)
    }
}
