//! ReplyStream: the replies to one request, until its time is over.

use std::{
    fmt,
    future::{Future, pending, poll_fn},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::time::Instant;

use super::{
    RequestError,
    outcome::{ended, readable},
    replies::{Arrived, Waiting},
};
use crate::{Broker, Error, Model, Received};

/// The replies to one request. Made by [`Broker::request_many`] and [`Session::request_many`](crate::Session::request_many).
///
/// It ends when the time of the request is over; before that with an error item when the session or the broker is closed.
#[must_use = "dropping it drops the replies"]
pub struct ReplyStream<T> {
    broker: Broker,
    operation: &'static str,
    /// `None` once it has ended.
    waiting: Option<Waiting>,
    end: Ending,
    /// The time is over: what has come is still yielded.
    late: bool,
    item: PhantomData<fn() -> T>,
}

/// Resolves when the time is over, or earlier with the error of a closed session.
type Ending = Pin<Box<dyn Future<Output = Option<Error>> + Send + Sync>>;

impl<T> ReplyStream<T> {
    pub(super) fn new(
        broker: &Broker,
        operation: &'static str,
        waiting: Waiting,
        deadline: Instant,
        closed: Option<impl Future<Output = Error> + Send + Sync + 'static>,
    ) -> Self {
        let timed = broker.clone();
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
                () = timed.wait_for(deadline.saturating_duration_since(Instant::now())) => None,
            }
        };
        let (waiting, end) = (Some(waiting), Box::pin(end));
        Self { broker: broker.clone(), operation, waiting, end, late: false, item: PhantomData }
    }
}

impl<T: Model> ReplyStream<T> {
    /// The next reply; `None` when the time is over. Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Received<T>, RequestError>> {
        poll_fn(|cx| self.poll_reply(cx)).await
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received<T>, RequestError>>> {
        let Some(waiting) = &self.waiting else { return Poll::Ready(None) };
        if !self.late
            && let Poll::Ready(end) = self.end.as_mut().poll(cx)
        {
            if let Some(error) = end {
                self.waiting = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            self.late = true;
        }
        let item = match waiting.poll_next(cx) {
            Poll::Ready(Arrived::Reply(reply)) => readable(reply),
            Poll::Ready(Arrived::Lost(gap)) => Err(RequestError::MayBeLost(gap)),
            Poll::Ready(Arrived::Ended(reason)) => {
                self.waiting = None;
                Err(ended(&self.broker, self.operation, reason))
            }
            Poll::Pending if self.late => {
                self.waiting = None;
                return Poll::Ready(None);
            }
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Some(item))
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
        f.debug_struct("ReplyStream").field("ended", &self.waiting.is_none()).finish_non_exhaustive()
    }
}
