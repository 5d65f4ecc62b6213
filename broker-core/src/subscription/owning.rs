//! Owning: a stream that keeps its session open.

use std::{
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{EnumStream, MessageStream, Subscription};
use crate::Session;

/// A stream together with a session that lives as long as it does.
///
/// Made by `owning` of a [`MessageStream`], an [`EnumStream`] or a [`Subscription`], to return a stream from a function that opened the
/// session. It is used as the stream that is in it. Dropping it drops the stream, then the session, and with that
/// everything else of the session, unless there are other handles of it.
#[derive(Debug)]
#[must_use = "dropping it ends the stream and its session"]
pub struct Owning<S> {
    stream: S,
    session: Session,
}

impl<S> Owning<S> {
    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The stream and the session, each with a life of its own again.
    pub fn into_parts(self) -> (S, Session) {
        (self.stream, self.session)
    }
}

impl<T> MessageStream<T> {
    /// Keeps a session open as long as this stream lives; usually the one that it was opened through.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Broker, MessageStream, Model, Owning, Scope};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Said { text: String }
    ///
    /// /// What a handler returns: the session would end with this function.
    /// async fn room(broker: &Broker) -> Result<Owning<MessageStream<Said>>, broker::Error> {
    ///     let session = broker.session();
    ///     Ok(session.create_stream("room").await?.owning(session))
    /// }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut said = room(&broker).await?;
    /// said.session().post_message("room", Said { text: "hello".to_owned() }, Scope::Global).await?;
    /// assert_eq!(said.next().await.expect("open").expect("a message").text, "hello");
    /// # Ok(()) }
    /// ```
    pub fn owning(self, session: Session) -> Owning<Self> {
        Owning { stream: self, session }
    }
}

impl<M> EnumStream<M> {
    /// Keeps a session open as long as this stream lives; as [`MessageStream::owning`].
    pub fn owning(self, session: Session) -> Owning<Self> {
        Owning { stream: self, session }
    }
}

impl Subscription {
    /// Keeps a session open as long as this stream lives; as [`MessageStream::owning`].
    pub fn owning(self, session: Session) -> Owning<Self> {
        Owning { stream: self, session }
    }
}

impl<S> Deref for Owning<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.stream
    }
}

impl<S> DerefMut for Owning<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: Stream + Unpin> Stream for Owning<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.stream).poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}
