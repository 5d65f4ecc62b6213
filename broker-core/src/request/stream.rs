//! ReplyStream: the replies to one request, until its time is over.

use std::{
    fmt,
    future::{Future, pending, poll_fn},
    marker::PhantomData,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::Instant;

use super::{
    RequestError,
    outcome::{ended, readable},
    replies::{Arrived, Inbox, Waiting},
};
use crate::{Broker, Error, Model, Received};

/// The replies to one request. Made by [`Broker::request_many`] and [`Session::request_many`](crate::Session::request_many).
///
/// It ends when the time of the request is over; before that with an error item when the session or the broker is closed.
#[must_use = "dropping it drops the replies"]
pub struct ReplyStream<T> {
    broker: Broker,
    operation: &'static str,
    source: Source,
    end: Ending,
    item: PhantomData<fn() -> T>,
}

/// Where the next reply comes from.
enum Source {
    Waiting(Waiting),
    /// The time is over: what has come until then is still yielded, and no more is taken.
    Rest(Inbox),
    Ended,
}

/// Resolves when the time is over, or earlier with the error of a closed session.
type Ending = Pin<Box<dyn Future<Output = Option<Error>> + Send + Sync>>;

impl<T> ReplyStream<T> {
    pub(super) fn new(
        broker: &Broker,
        operation: &'static str,
        waiting: Waiting,
        deadline: Option<Instant>,
        closed: Option<impl Future<Output = Error> + Send + Sync + 'static>,
    ) -> Self {
        let timed = broker.clone();
        let rest = move || {
            deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
        };
        let end = async move {
            let closed = async {
                match closed {
                    Some(closed) => closed.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                error = closed => Some(error),
                () = timed.wait_for(rest()) => None,
            }
        };
        let (source, end) = (Source::Waiting(waiting), Box::pin(end));
        Self { broker: broker.clone(), operation, source, end, item: PhantomData }
    }
}

impl<T: Model> ReplyStream<T> {
    /// The next reply; `None` when the time is over. Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Received<T>, RequestError>> {
        poll_fn(|cx| self.poll_reply(cx)).await
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received<T>, RequestError>>> {
        if let Source::Waiting(_) = self.source
            && let Poll::Ready(end) = self.end.as_mut().poll(cx)
        {
            match (end, mem::replace(&mut self.source, Source::Ended)) {
                (Some(error), _) => return Poll::Ready(Some(Err(error.into()))),
                (None, Source::Waiting(waiting)) => {
                    self.source = waiting.stop().map_or(Source::Ended, Source::Rest);
                }
                (None, _) => {}
            }
        }
        // One busy stream must not starve its task's siblings.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let arrived = match &mut self.source {
            Source::Waiting(waiting) => Some(ready!(waiting.poll_next(cx))),
            Source::Rest(rest) => rest.next(),
            Source::Ended => None,
        };
        budget.made_progress();
        Poll::Ready(match arrived {
            Some(Arrived::Reply(reply)) => Some(readable(reply)),
            Some(Arrived::Lost(gap)) => Some(Err(RequestError::MayBeLost(gap))),
            Some(Arrived::Ended(reason)) => {
                self.source = Source::Ended;
                Some(Err(ended(&self.broker, self.operation, reason)))
            }
            None => {
                self.source = Source::Ended;
                None
            }
        })
    }
}

impl<T: Model> Stream for ReplyStream<T> {
    type Item = Result<Received<T>, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_reply(cx)
    }
}

impl<T> fmt::Debug for ReplyStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream")
            .field("ended", &matches!(self.source, Source::Ended))
            .finish_non_exhaustive()
    }
}
