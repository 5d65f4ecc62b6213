//! MessageStream: a subscription seen as values of one type.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{ChannelName, CloseReason, Event, Message, Model, Received, StreamError, Subscription};

/// What a typed stream yields: a value, or what stands in its place.
pub type StreamItem<T> = Result<Received<T>, StreamError>;

/// A stream of one channel's messages as values of type `T`. Made by
/// [`Session::create_stream`](crate::Session::create_stream).
///
/// A gap, a message of another type and one that does not decode are error items in their place; the stream
/// lives on. All else is as with [`Subscription`].
#[must_use = "dropping it unsubscribes"]
pub struct MessageStream<T> {
    subscription: Subscription,
    item: PhantomData<fn() -> T>,
}

impl<T: Model> MessageStream<T> {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Self { subscription, item: PhantomData }
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        self.subscription.channel()
    }

    /// Why the stream ended; `None` while it lives.
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.subscription.close_reason()
    }

    /// The next item; `None` at the end. Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<StreamItem<T>> {
        self.subscription.next().await.map(item)
    }

    /// Runs a future that processes a message of this stream in a span of its own; as [`Subscription::in_span`].
    pub fn in_span<F: Future>(
        &self,
        received: &Received<T>,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F, T> {
        self.subscription.in_span(&received.message(), future)
    }
}

pub(crate) fn item<T: Model>(event: Event) -> StreamItem<T> {
    event.into_message().and_then(Message::into_decoded)
}

impl<T: Model> Stream for MessageStream<T> {
    type Item = StreamItem<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StreamItem<T>>> {
        Pin::new(&mut self.subscription).poll_next(cx).map(|event| event.map(item))
    }
}

impl<T> fmt::Debug for MessageStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageStream").field(&self.subscription).finish()
    }
}
