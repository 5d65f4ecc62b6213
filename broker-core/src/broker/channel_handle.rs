//! ChannelHandle: a channel whose name was resolved once, for a program that posts to it often.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{
    Broker,
    publish::{Leaving, Target},
    publish_future::PublishFuture,
};
use crate::{
    AsChannel, AsChannelName, ChannelName, IntoTypedPost, Model, Post, Receipt, Result, Scope, hub::Ring,
    message::sender::Sender, session::Shared,
};

/// A channel of a broker, for a program that posts to it often. Made by [`Broker::channel`]; by
/// [`Session::channel`](crate::Session::channel) for what the session posts, until it ends.
///
/// It posts what [`Broker::post_message`] and [`Broker::publish`] post, to the same subscribers; a local post looks up no
/// name. [`send`](Self::send) returns before the outcome is known, so that one caller can have many posts under way.
///
/// Cloning is cheap. It may stand wherever the [`Channel`](crate::Channel) may. It keeps the broker open, and some memory for
/// the channel as long as a clone of it lives.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Channel, Model, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct PixelAdded { index: u32 }
///
/// const PIXELS: Channel<PixelAdded> = Channel::new("pixel-added");
///
/// let broker = broker::connect("memory:").await?;
/// let pixels = broker.channel(&PIXELS)?;
/// let mut added = broker.create_stream(&pixels).await?;
/// // Both are under way at once, in this order.
/// let first = pixels.send(PixelAdded { index: 1 }, Scope::Global).await?;
/// let second = pixels.send(PixelAdded { index: 2 }, Scope::Global).await?;
/// (first.await?, second.await?);
/// assert_eq!(added.next().await.expect("open").expect("a pixel").index, 1);
/// # Ok(()) }
/// ```
pub struct ChannelHandle<T> {
    pinned: Arc<Pinned>,
    session: Option<Arc<Shared>>,
    messages: PhantomData<fn(T)>,
}

/// A ring that stays in the hub until the last handle is dropped.
struct Pinned {
    broker: Broker,
    ring: Arc<Ring>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.broker.hub().unpin(&self.ring) {
            self.broker.note_left(&self.ring.channel);
        }
    }
}

impl Broker {
    /// A handle of a channel, for a program that posts to it often. The type is that of the [`Channel`](crate::Channel); for a
    /// name as text give it: `broker.channel::<PixelAdded>("pixel-added")`. Subscribes to nothing.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an illegal name; [`Closed`](crate::ErrorKind::Closed).
    #[expect(clippy::needless_pass_by_value, reason = "as every verb takes its channel")]
    pub fn channel<T>(&self, channel: impl AsChannel<T>) -> Result<ChannelHandle<T>> {
        let name = channel.channel_name();
        let checked = ChannelName::new(name).map_err(|error| error.with_operation("channel"))?;
        let ring = self.hub().pin(&checked).ok_or_else(|| self.at("channel", name, self.closed_error()))?;
        let pinned = Arc::new(Pinned { broker: self.clone(), ring });
        Ok(ChannelHandle { pinned, session: None, messages: PhantomData })
    }
}

impl<T> ChannelHandle<T> {
    /// The same for what a session posts.
    pub(crate) fn with_session(mut self, session: Arc<Shared>) -> Self {
        self.session = Some(session);
        self
    }

    /// The channel.
    #[must_use]
    pub fn name(&self) -> &ChannelName {
        &self.pinned.ring.channel
    }

    /// Posts bytes, or a [`Post`] with headers; all else as [`Broker::publish`].
    ///
    /// # Errors
    /// As [`Broker::publish`].
    pub async fn publish(&self, post: impl Into<Post> + Send, scope: Scope) -> Result<Receipt> {
        let mut post = post.into();
        post.sender = self.sender("publish", post.sender)?;
        self.broker().publish_as("publish", self.target(), post, scope).await
    }

    /// Queues bytes, or a [`Post`] with headers; all else as [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_post(&self, post: impl Into<Post> + Send, scope: Scope) -> Result<PublishFuture> {
        let mut post = post.into();
        post.sender = self.sender("send_post", post.sender)?;
        let leaving = self.broker().send_post(self.target(), post, scope);
        self.queue("send_post", leaving).await
    }

    /// Who posts: its session, if it has one, and that is open.
    #[inline]
    fn sender(&self, operation: &'static str, sender: Sender) -> Result<Sender> {
        match &self.session {
            None => Ok(sender),
            Some(session) if session.close_reason().is_none() => Ok(sender.with_session(session.id)),
            Some(_) => Err(self.broker().session_closed(operation)),
        }
    }

    fn broker(&self) -> &Broker {
        &self.pinned.broker
    }

    fn target(&self) -> Target<'_> {
        Target::Pinned(&self.pinned.ring)
    }

    async fn queue(
        &self,
        operation: &'static str,
        leaving: Result<Option<Leaving<'_>>>,
    ) -> Result<PublishFuture> {
        let at = |error| self.broker().at(operation, self.name().as_str(), error);
        let Some((outbox, frame)) = leaving.map_err(at)? else { return Ok(PublishFuture::done()) };
        let outcome = outbox.queue(self.name().as_str(), frame).await.map_err(at)?;
        Ok(PublishFuture::new(self.broker(), self.name(), operation, outbox, outcome))
    }
}

impl<T: Model> ChannelHandle<T> {
    /// Posts a typed message: a value, or a [`TypedPost`](crate::TypedPost) of one;
    /// all else as [`Session::post_message`](crate::Session::post_message).
    ///
    /// # Errors
    /// As [`Session::post_message`](crate::Session::post_message).
    pub async fn post_message(&self, message: impl IntoTypedPost<T>, scope: Scope) -> Result<Receipt> {
        let mut post = message.into_typed_post();
        post.sender = self.sender("post_message", post.sender)?;
        self.broker().post_typed(self.target(), post, scope).await
    }

    /// Queues a typed message, and returns what waits for its [`Receipt`]: so that one caller can have many posts under
    /// way. They are sent in the order in which these calls return, which is that of the calls when each is awaited before the
    /// next.
    ///
    /// Waits only while there is no room in the outbox (`outbox_bytes`), for at most `publish_timeout`. Cancel safe: a
    /// dropped call has queued nothing. What is queued is sent even if the [`PublishFuture`] is dropped; then its failure is
    /// not reported.
    ///
    /// # Errors
    /// Those of [`Session::post_message`](crate::Session::post_message) that are known before anything is sent; and
    /// [`Overloaded`](crate::ErrorKind::Overloaded) when no room was found in time. The others are the future's.
    pub async fn send(&self, message: impl IntoTypedPost<T>, scope: Scope) -> Result<PublishFuture> {
        let mut post = message.into_typed_post();
        post.sender = self.sender("send", post.sender)?;
        let leaving = self.broker().send_value(self.target(), post, scope);
        self.queue("send", leaving).await
    }
}

impl<T> Clone for ChannelHandle<T> {
    fn clone(&self) -> Self {
        Self { pinned: Arc::clone(&self.pinned), session: self.session.clone(), messages: PhantomData }
    }
}

impl<T> AsChannelName for &ChannelHandle<T> {
    fn channel_name(&self) -> &str {
        self.name().as_str()
    }
}

impl<T> AsChannelName for ChannelHandle<T> {
    fn channel_name(&self) -> &str {
        self.name().as_str()
    }
}

impl<T> AsChannel<T> for &ChannelHandle<T> {}
impl<T> AsChannel<T> for ChannelHandle<T> {}

impl<T> fmt::Debug for ChannelHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelHandle").field("name", self.name()).finish_non_exhaustive()
    }
}
