//! ItemStream: what can be sent to a client, a stream of typed items that may say why it ended.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use broker_core::{CloseReason, MessageStream, Model, Owning, StreamError, StreamItem};
use futures_core::Stream;

/// A stream of [`StreamItem`]s that can say why it ended: a [`MessageStream`], alone or [`Owning`] its session.
///
/// A handler returns a stream that owns its session, or is of a [`Broker`](broker_core::Broker) itself: a session that
/// is dropped at the end of the handler ends its streams.
///
/// A stream of several types ([`EnumStream`](broker_core::EnumStream)) and a [`ChannelSet`](broker_core::ChannelSet) are
/// none: their items need a form that the application chooses.
///
/// Any other stream of items, one that a combinator has changed for instance, goes into an [`AnyStream`].
pub trait ItemStream: Stream<Item = StreamItem<Self::Model>> + Send + Unpin + 'static {
    /// The type of its messages.
    type Model: Model;

    /// Why the stream ended; `None` while it lives, and where that is not known.
    fn close_reason(&self) -> Option<&CloseReason>;
}

impl<T: Model> ItemStream for MessageStream<T> {
    type Model = T;

    fn close_reason(&self) -> Option<&CloseReason> {
        Self::close_reason(self)
    }
}

impl<S: ItemStream> ItemStream for Owning<S> {
    type Model = S::Model;

    fn close_reason(&self) -> Option<&CloseReason> {
        (**self).close_reason()
    }
}

/// Any stream of [`StreamItem`]s. Why it ends is not known, so its end is reported as one without a reason.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Model, StreamItem};
/// use broker_axum::{AnyStream, sse};
/// use futures_util::{StreamExt, future::ready};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Said { text: String }
///
/// let broker = broker::connect("memory:").await?;
/// let said = broker.create_stream::<Said>("room").await?;
/// let short = said.filter(|item: &StreamItem<Said>| ready(!matches!(item, Ok(said) if said.text.len() > 80)));
/// let response = sse(AnyStream(short));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AnyStream<S>(pub S);

impl<S: Stream + Unpin> Stream for AnyStream<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<S, T> ItemStream for AnyStream<S>
where
    S: Stream<Item = Result<broker_core::Received<T>, StreamError>> + Send + Unpin + 'static,
    T: Model,
{
    type Model = T;

    fn close_reason(&self) -> Option<&CloseReason> {
        None
    }
}
