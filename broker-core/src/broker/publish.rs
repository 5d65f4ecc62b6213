//! How a post leaves the caller: checked, then to the backend or straight into the queues here.

use std::sync::Arc;

use futures_util::future::{BoxFuture, Either, Ready, ready};

use super::{Backend, Broker};
use crate::{
    AsChannel, AsChannelName, Error, ErrorKind, IntoTypedPost, Message, Model, Post, Result, Scope,
    TypedPost,
    channel::check,
    driver::Receipt,
    hub::{PutBy, Ring, WakeList},
    supervisor::outbox::Outbox,
    trace,
    wire::encoded::Encoded,
};

/// A frame on its way to the backend.
pub(super) type Leaving<'a> = (&'a Arc<Outbox>, Encoded);

/// What becomes of a post: known at once if it stays here. What has to leave is waited for in a box: that future is large,
/// and every post's would be as large.
pub(crate) type Posting<'a> = Either<Ready<Result<Receipt>>, BoxFuture<'a, Result<Receipt>>>;

/// Where a post goes.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A channel by its name, which is not checked yet.
    Name(&'a str),
    /// A channel that somebody has pinned.
    Pinned(&'a Arc<Ring>),
}

impl<'a> Target<'a> {
    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Name(name) => name,
            Self::Pinned(ring) => ring.channel.as_str(),
        }
    }

    fn check(self) -> Result<()> {
        match self {
            Self::Name(name) => check(name),
            Self::Pinned(_) => Ok(()),
        }
    }
}

impl Broker {
    /// Publishes bytes, or a [`Post`] with type and headers. The scopes are those of
    /// [`Session::post_message`](crate::Session::post_message). Not cancel safe: a dropped call may or may not
    /// have sent the message.
    ///
    /// # Errors
    /// As [`Session::post_message`](crate::Session::post_message).
    pub async fn publish(
        &self,
        channel: impl AsChannelName + Send,
        post: impl Into<Post> + Send,
        scope: Scope,
    ) -> Result<Receipt> {
        self.publish_as("publish", Target::Name(channel.channel_name()), post.into(), scope).await
    }

    #[inline]
    pub(crate) fn publish_as<'a>(
        &'a self,
        operation: &'static str,
        channel: Target<'a>,
        post: Post,
        scope: Scope,
    ) -> Posting<'a> {
        self.posting(operation, channel, self.send_post(channel, post, scope))
    }

    /// Posts a typed message outside of any session; all else as
    /// [`Session::post_message`](crate::Session::post_message).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Model, Scope};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Said { text: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut room = broker.create_stream::<Said>("room").await?;
    /// broker.post_message("room", Said { text: "hello".to_owned() }, Scope::Global).await?;
    /// assert_eq!(room.next().await.expect("open").expect("a message").text, "hello");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Session::post_message`](crate::Session::post_message).
    pub async fn post_message<T: Model>(
        &self,
        channel: impl AsChannel<T> + Send,
        message: impl IntoTypedPost<T>,
        scope: Scope,
    ) -> Result<Receipt> {
        self.post_typed(Target::Name(channel.channel_name()), message.into_typed_post(), scope).await
    }

    #[inline]
    pub(crate) fn post_typed<'a, T: Model>(
        &'a self,
        channel: Target<'a>,
        post: TypedPost<T>,
        scope: Scope,
    ) -> Posting<'a> {
        self.posting("post_message", channel, self.send_value(channel, post, scope))
    }

    #[inline]
    pub(super) fn posting<'a>(
        &'a self,
        operation: &'static str,
        channel: Target<'a>,
        leaving: Result<Option<Leaving<'a>>>,
    ) -> Posting<'a> {
        match leaving {
            Ok(None) => Either::Left(ready(Ok(Receipt::new()))),
            leaving => Either::Right(Box::pin(self.leave(operation, channel, leaving))),
        }
    }

    /// Waits for what has to leave.
    async fn leave(
        &self,
        operation: &'static str,
        channel: Target<'_>,
        leaving: Result<Option<Leaving<'_>>>,
    ) -> Result<Receipt> {
        let sent = match leaving {
            Ok(None) => Ok(Receipt::new()),
            Ok(Some((outbox, frame))) => outbox.post(channel.name(), frame).await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| self.at(operation, channel.name(), error))
    }

    #[inline]
    pub(super) fn send_value<T: Model>(
        &self,
        channel: Target<'_>,
        mut post: TypedPost<T>,
        scope: Scope,
    ) -> Result<Option<Leaving<'_>>> {
        let codec = self.0.options.codec;
        let Some(backend) = self.accept(channel, scope)? else {
            // What no other node could read is refused here as well.
            codec.check(&post.value)?;
            trace::inject(&mut post.headers);
            post.headers.check()?;
            return self.put_local(channel, Message::from_value(post, self.0.node, codec)).map(|()| None);
        };
        let mut post = post.encode(codec)?;
        self.check(&mut post)?;
        Ok(Some((&backend.outbox, Encoded::of(&post, self.0.node))))
    }

    /// What stays here is in the queues when this returns; what goes to the backend is checked, and ready to go.
    #[inline]
    pub(super) fn send_post(
        &self,
        channel: Target<'_>,
        mut post: Post,
        scope: Scope,
    ) -> Result<Option<Leaving<'_>>> {
        let backend = self.accept(channel, scope)?;
        self.check(&mut post)?;
        let Some(backend) = backend else {
            return self.put_local(channel, Message::from_post(post, self.0.node)).map(|()| None);
        };
        Ok(Some((&backend.outbox, Encoded::of(&post, self.0.node))))
    }

    /// Adds the trace of the caller, and compares with the limits.
    #[inline]
    fn check(&self, post: &mut Post) -> Result<()> {
        trace::inject(&mut post.headers);
        post.check(&self.0.options)
    }

    /// Checks what costs nothing to check, and decides where a post goes: to the backend, or stays here.
    #[inline]
    pub(super) fn accept(&self, channel: Target<'_>, scope: Scope) -> Result<Option<&Backend>> {
        if self.0.hub.has_ended() {
            return Err(self.closed_error());
        }
        match (scope, &self.0.backend) {
            (Scope::Local, _) | (Scope::Auto, None) => Ok(None),
            (Scope::Global | Scope::Auto, Some(backend)) => {
                channel.check()?;
                backend.outbox.check().map(|()| Some(backend))
            }
            (Scope::Global, None) => Err(Error::new(
                ErrorKind::NoBackend,
                "this broker is local; make it with broker::connect(url), or post with Scope::Local or Scope::Auto",
            )),
        }
    }

    #[inline]
    fn put_local(&self, channel: Target<'_>, message: Message) -> Result<()> {
        let mut wakes = WakeList::default();
        let mut too_late = false;
        match channel {
            Target::Pinned(ring) => self.0.hub.put_pinned(ring, message, &mut wakes),
            // A channel that has subscribers has a legal name.
            Target::Name(name) => {
                if !self.0.hub.put(name, message, PutBy::Here, &mut wakes) {
                    check(name)?;
                    // No subscriber, perhaps because all have read to the end.
                    too_late = self.0.hub.has_ended();
                }
            }
        }
        too_late |= wakes.too_late;
        wakes.finish();
        if too_late {
            return Err(self.closed_error()); // it ended since the post was accepted
        }
        self.0.meter.published_here();
        Ok(())
    }
}
