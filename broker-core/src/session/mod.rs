//! Session: Serverpod's verbs. Everything opened through a session ends with it.

mod call_hooks;
mod channel_set;
mod hooks;
mod listener;
mod listener_fn;
mod listeners;
mod registration;
mod revoke;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
pub(crate) mod state;

pub use self::{
    channel_set::{ChannelSet, SetEvent},
    listener::{Listener, ListenerEnd, ListenerId},
    listener_fn::{ListenerFn, ListenerItem},
};

use std::{fmt, future::Future, sync::Arc};

use crate::{
    AsChannel, AsChannelName, Broker, ChannelHandle, CloseReason, EnumStream, Error, Identity, IntoTypedPost,
    Message, MessageStream, Messages, Model, Post, Receipt, Result, Scope, SubscribeOptions, Subscription,
    TypedPost, broker::Target, runtime::gate::Gate,
};

use call_hooks::call_hooks;
use hooks::Hook;
pub use hooks::HookId;
use registration::Registration;
pub(crate) use state::{Owner, Shared};

/// A user's presence on this server: a connection, a request, a job.
///
/// Listeners and streams opened through a session end when it is closed or dropped: no callback starts and no
/// stream yields after that. A callback that is running at that moment runs to its end.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Model, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct PixelAdded { index: u32, colour: u8 }
///
/// let broker = broker::connect("memory:").await?;
/// let session = broker.session();
/// let mut pixels = session.create_stream::<PixelAdded>("pixel-added").await?;
/// session.post_message("pixel-added", PixelAdded { index: 17, colour: 3 }, Scope::Global).await?;
/// let pixel = pixels.next().await.expect("the session is open").expect("a pixel");
/// assert_eq!(pixel.index, 17);
/// session.close();
/// assert!(pixels.next().await.is_none());
/// # Ok(()) }
/// ```
///
/// Cloning is cheap, and all clones are one session: it ends when the last one is dropped. A stream that is returned
/// from where its session was opened keeps it by [`owning`](MessageStream::owning).
#[must_use = "dropping it ends its streams and listeners"]
pub struct Session {
    broker: Broker,
    shared: Arc<Shared>,
    /// Shared by all handles; most sessions of a server have one, and it is large.
    identity: Option<Arc<Identity>>,
}

impl Session {
    pub(crate) fn new(broker: Broker, shared: Arc<Shared>, identity: Option<Identity>) -> Self {
        Self { broker, shared, identity: identity.map(Arc::new) }
    }

    /// Whose session it is; `None` for an anonymous one, which no revocation touches.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Posts a typed message: a value, or a [`TypedPost`](crate::TypedPost) of one, with headers.
    ///
    /// - `Local`: in every queue of this process before the call returns; never encoded, and refused if it could not be:
    ///   see [`Model`].
    /// - `Global`: `Ok` means that the backend took it. Every node, this one included, receives it once.
    /// - `Auto`: global where a backend is configured, else local.
    ///
    /// A post without listeners succeeds. Follows Serverpod's `postMessage`. Not cancel safe: a dropped call
    /// may or may not have sent the message.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) at once while the backend is unavailable;
    /// [`Interrupted`](crate::ErrorKind::Interrupted) when the link broke under way;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`TooLarge`](crate::ErrorKind::TooLarge) and
    /// [`Codec`](crate::ErrorKind::Codec) before anything is sent; [`NoBackend`](crate::ErrorKind::NoBackend) for a global
    /// post on a local broker; [`Closed`](crate::ErrorKind::Closed).
    pub async fn post_message<T: Model>(
        &self,
        channel: impl AsChannel<T> + Send,
        message: impl IntoTypedPost<T>,
        scope: Scope,
    ) -> Result<Receipt> {
        self.check_open("post_message")?;
        let post = self.sign(message.into_typed_post());
        self.broker.post_typed(Target::Name(channel.channel_name()), post, scope).await
    }

    /// Posts bytes, or a [`Post`] with headers; all else as [`post_message`](Self::post_message).
    ///
    /// # Errors
    /// As [`post_message`](Self::post_message).
    pub async fn post(
        &self,
        channel: impl AsChannelName + Send,
        post: impl Into<Post> + Send,
        scope: Scope,
    ) -> Result<Receipt> {
        self.check_open("post")?;
        let mut post: Post = post.into();
        post.sender = post.sender.with_session(self.shared.id);
        self.broker.publish_as("post", Target::Name(channel.channel_name()), post, scope).await
    }

    /// Whether this session has posted a message. For a session that would do something about the messages of others only;
    /// not to receive its own at all, post them [`excluding_me`](Post::excluding_me).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Event, Scope};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let (me, other) = (broker.session(), broker.session());
    /// let mut news = me.subscribe("news").await?;
    /// other.post("news", "hello", Scope::Global).await?;
    /// let Some(Event::Message(message)) = news.next().await else { panic!("a message") };
    /// assert!(other.has_posted(&message) && !me.has_posted(&message));
    /// assert!(broker.has_posted(&message));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn has_posted(&self, message: &Message) -> bool {
        self.broker.has_posted(message) && message.sender().is(self.shared.id)
    }

    /// A handle of a channel, for a session that posts there often; as [`Broker::channel`]. What it posts is of this session,
    /// and fails once the session is closed. The handle does not keep the session open.
    ///
    /// # Errors
    /// As [`Broker::channel`].
    pub fn channel<T>(&self, channel: impl AsChannel<T>) -> Result<ChannelHandle<T>> {
        self.check_open("channel")?;
        Ok(self.broker.channel(channel)?.with_session(Arc::clone(&self.shared)))
    }

    /// A stream of a channel's messages as values of type `T`.
    ///
    /// When it returns, every later post from any process is delivered, or reported missing. Gaps, messages
    /// of other types and undecodable ones are error items; the stream lives on. Dropping the stream
    /// unsubscribes. Follows Serverpod's `createStream`, with a bounded queue. Cancel safe: a dropped call
    /// leaves nothing behind.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an illegal name; [`Forbidden`](crate::ErrorKind::Forbidden)
    /// when the backend refuses the channel; [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) when it is not confirmed within `subscribe_timeout`;
    /// [`Closed`](crate::ErrorKind::Closed).
    pub async fn create_stream<T: Model>(
        &self,
        channel: impl AsChannel<T> + Send,
    ) -> Result<MessageStream<T>> {
        let options = SubscribeOptions::new();
        Ok(MessageStream::new(self.open("create_stream", channel.channel_name(), &options, None).await?.0))
    }

    /// The same with options of its own: how many messages wait, which of them, and how long the call does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Model, Scope, SubscribeOptions};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Position { x: f64, y: f64 }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let session = broker.session();
    /// let options = SubscribeOptions::new().latest_only();
    /// let mut positions = session.create_stream_with::<Position>("ship.7", options).await?;
    /// session.post_message("ship.7", Position { x: 1.0, y: 2.0 }, Scope::Global).await?;
    /// assert_eq!(positions.next().await.expect("open").expect("the newest").x, 1.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream), and [`InvalidInput`](crate::ErrorKind::InvalidInput) for options out of
    /// bounds. A call that does [not wait](SubscribeOptions::without_waiting) fails for neither a refusal nor a backend
    /// that is unavailable.
    pub async fn create_stream_with<T: Model>(
        &self,
        channel: impl AsChannel<T> + Send,
        options: SubscribeOptions,
    ) -> Result<MessageStream<T>> {
        let name = channel.channel_name();
        Ok(MessageStream::new(self.open("create_stream_with", name, &options, None).await?.0))
    }

    /// A stream of a channel's messages as the variants of an enum: for a channel of [several types](Messages). All else
    /// as [`create_stream`](Self::create_stream).
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn create_stream_of<M: Messages>(
        &self,
        channel: impl AsChannelName + Send,
    ) -> Result<EnumStream<M>> {
        let options = SubscribeOptions::new();
        Ok(EnumStream::new(self.open("create_stream_of", channel.channel_name(), &options, None).await?.0))
    }

    /// The untyped stream of a channel; all else as [`create_stream`](Self::create_stream).
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn subscribe(&self, channel: impl AsChannelName + Send) -> Result<Subscription> {
        Ok(self.open("subscribe", channel.channel_name(), &SubscribeOptions::new(), None).await?.0)
    }

    /// The untyped stream of a channel with options of its own; all else as
    /// [`create_stream_with`](Self::create_stream_with).
    ///
    /// # Errors
    /// As [`create_stream_with`](Self::create_stream_with).
    pub async fn subscribe_with(
        &self,
        channel: impl AsChannelName + Send,
        options: SubscribeOptions,
    ) -> Result<Subscription> {
        Ok(self.open("subscribe_with", channel.channel_name(), &options, None).await?.0)
    }

    /// Calls a function before the session ends, with the reason: once, in the order of adding, each awaited before
    /// the next. Meanwhile everything of the session goes on: streams yield, and the session can post. It ends after
    /// the last one, or after [`close_timeout`](crate::Options::close_timeout); then the one that has not returned is
    /// dropped at its next await, and those behind it are not called. A panic in one is logged, and the next is called. Follows Serverpod's will-close
    /// listeners. As a [listener](Self::add_listener), a hook must not own its session, which would then never be dropped.
    ///
    /// With hooks [`close`](Self::close) only begins the end; [`closed`](Self::closed) waits for it. After
    /// [`drain`](Broker::drain) they are called, too, when streams have ended and nothing can be posted any more.
    ///
    /// A revocation, or doubt about one, waits for no hook: the session is closed first, streams end and its posts
    /// fail, and then the hooks are called with that reason. What a hook needs to say goodbye, the client's socket or
    /// a clone of the [`Broker`], it owns itself.
    ///
    /// A hook may call [`Broker::drain`] or [`Broker::close`]: these do not wait then, see there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// let broker = broker::connect("memory:").await?;
    /// let session = broker.session();
    /// let (told, why) = tokio::sync::oneshot::channel();
    /// session.on_close(async move |reason| drop(told.send(reason.to_string())))?;
    /// session.close();
    /// assert_eq!(why.await.unwrap(), "the session is closed");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) when the session ends already; [`InvalidInput`](crate::ErrorKind::InvalidInput) outside
    /// of a tokio runtime, for a local broker.
    pub fn on_close<F, Fut>(&self, function: F) -> Result<HookId>
    where
        F: FnOnce(CloseReason) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut open = self.shared.lock();
        if self.shared.is_closing() {
            return Err(self.broker.session_closed("on_close"));
        }
        if open.hooks.is_none() {
            let limit = self.broker.options().close_timeout;
            let task = call_hooks(Arc::clone(&self.shared), self.broker.tasks(), limit);
            self.broker.spawn("a hook", task)?;
        }
        let number = open.number();
        open.hooks.get_or_insert_default().push_back((number, Hook::new(function)));
        Ok(HookId { session: self.shared.id, number })
    }

    /// Removes a hook; it is not called then. Returns whether it was there: an unknown one, or one that was called
    /// already, is no error.
    pub fn remove_hook(&self, id: HookId) -> bool {
        let mut open = self.shared.lock();
        let Some(hooks) = open.hooks.as_mut().filter(|_| id.session == self.shared.id) else { return false };
        let place = hooks.iter().position(|(number, _)| *number == id.number);
        let hook = place.and_then(|place| hooks.remove(place));
        drop(open);
        hook.is_some()
    }

    /// The same post as one of this session.
    pub(crate) fn sign<T>(&self, mut post: TypedPost<T>) -> TypedPost<T> {
        post.sender = post.sender.with_session(self.shared.id);
        post
    }

    /// Returns when it has ended, with the error of every call from then on. Keeps no handle of it.
    pub(crate) fn ended(&self, operation: &'static str) -> impl Future<Output = Error> + Send + Sync + use<> {
        let (shared, broker) = (Arc::clone(&self.shared), self.broker.clone());
        async move {
            shared.closed().await;
            broker.session_closed(operation)
        }
    }

    async fn open(
        &self,
        operation: &'static str,
        channel: &str,
        options: &SubscribeOptions,
        gate: Option<Arc<Gate>>,
    ) -> Result<(Subscription, u64)> {
        self.check_open(operation)?;
        let mut subscription = self.broker.join(operation, channel, options)?;
        let owner = self
            .shared
            .own(subscription.seat(), gate)
            .ok_or_else(|| self.broker.session_closed(operation))?;
        let number = owner.number;
        subscription.set_owner(owner);
        self.broker.confirm(operation, &mut subscription, options).await?;
        Ok((subscription, number))
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() { Err(self.broker.session_closed(operation)) } else { Ok(()) }
    }

    /// Closes the session: every listener and stream of it ends. When it returns, no callback starts and no
    /// stream yields any more; unless there are [hooks](Self::on_close), which are called first. Closing twice is no
    /// error.
    ///
    /// May be called from within a listener. Blocks while a call of a listener is just starting: until its function
    /// has come to its first await, for at most 0.1 s. Dropping the session does the same.
    pub fn close(&self) {
        Gate::wait_for_calls(&self.shared.close(&CloseReason::SessionClosed));
    }

    /// Whether the session is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.close_reason().is_some()
    }

    /// Waits until the session is closed, and says why; then no callback starts any more. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        let reason = self.shared.closed().await;
        self.shared.wait_for_calls();
        reason
    }

    /// The broker this session belongs to.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self {
            broker: self.broker.clone(),
            shared: Arc::clone(&self.shared),
            identity: self.identity.clone(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.shared.drop_handle() {
            return;
        }
        if let Some(streams) = self.shared.open_streams() {
            tracing::debug!(
                session = self.shared.id,
                "a session was dropped, which ends {streams} streams and listeners of it"
            );
        }
        self.close();
        let (broker, identity) = (self.broker.clone(), self.identity.take());
        self.shared.keep_registered(Registration { broker, id: self.shared.id, identity });
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.shared.id)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
