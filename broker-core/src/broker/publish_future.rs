//! PublishFuture: what becomes of a post that is queued.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use super::Broker;
use crate::{
    ChannelName, Error, Result,
    driver::Receipt,
    supervisor::{batch::link_broke, outbox::Outbox},
};

/// What becomes of a post that [`ChannelHandle::send`](crate::ChannelHandle::send) has queued: its [`Receipt`], or why it
/// failed, as [`Session::post_message`](crate::Session::post_message) would have said it.
///
/// The post is sent whether this is awaited or not. Dropping it is allowed; then a failure is not reported.
/// It keeps the broker open.
#[must_use = "it says whether the post failed; drop it where that does not matter"]
pub struct PublishFuture(State);

enum State {
    /// Boxed: many are kept at once, and moved.
    Waiting(Box<Queued>),
    /// Kept, so that it may be asked for again.
    Known(Result<Receipt>),
}

struct Queued {
    broker: Broker,
    channel: ChannelName,
    operation: &'static str,
    outbox: Arc<Outbox>,
    outcome: oneshot::Receiver<Result<Receipt>>,
    /// Watches the writer, where the watchdog of the outbox does not.
    stuck: Option<Pin<Box<dyn Future<Output = Error> + Send>>>,
}

impl PublishFuture {
    /// Of a post that is in the queues already.
    pub(super) fn done() -> Self {
        Self(State::Known(Ok(Receipt::new())))
    }

    pub(super) fn new(
        broker: &Broker,
        channel: &ChannelName,
        operation: &'static str,
        outbox: &Arc<Outbox>,
        outcome: oneshot::Receiver<Result<Receipt>>,
    ) -> Self {
        let (broker, channel, outbox) = (broker.clone(), channel.clone(), Arc::clone(outbox));
        let queued = Queued { broker, channel, operation, outbox, outcome, stuck: None };
        Self(State::Waiting(Box::new(queued)))
    }
}

impl Queued {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receipt>> {
        if let Poll::Ready(outcome) = Pin::new(&mut self.outcome).poll(cx) {
            return Poll::Ready(outcome.unwrap_or_else(|_| Err(link_broke())));
        }
        if self.outbox.is_watched() {
            return Poll::Pending;
        }
        let outbox = &self.outbox;
        let stuck = self.stuck.get_or_insert_with(|| {
            let outbox = Arc::clone(outbox);
            Box::pin(async move { outbox.stuck().await })
        });
        Poll::Ready(Err(ready!(stuck.as_mut().poll(cx))))
    }
}

impl Future for PublishFuture {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Receipt>> {
        if let State::Waiting(queued) = &mut self.0 {
            let outcome = ready!(queued.poll(cx));
            let at = |error| queued.broker.at(queued.operation, queued.channel.as_str(), error);
            self.0 = State::Known(outcome.map_err(at));
        }
        match &self.0 {
            State::Known(outcome) => Poll::Ready(outcome.clone()),
            State::Waiting(_) => Poll::Pending,
        }
    }
}

impl fmt::Debug for PublishFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Waiting(queued) => f.debug_tuple("PublishFuture").field(&queued.channel).finish(),
            State::Known(outcome) => f.debug_tuple("PublishFuture").field(outcome).finish(),
        }
    }
}
