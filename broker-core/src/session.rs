//! Session: Serverpod's verbs. Everything opened through a session ends with it.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    Broker, CloseReason, Error, ErrorKind, ListenerId, ListenerItem, MessageStream, Model, Post, Result,
    Scope, Subscription,
    hub::Ring,
    listener::{Gate, listen},
};

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
pub struct Session {
    broker: Broker,
    shared: Arc<Shared>,
}

/// The part of a session that its streams and the broker hold on to.
pub(crate) struct Shared {
    pub(crate) id: u64,
    /// Set once, when it is closed; looked at before everything that is yielded.
    closed: OnceLock<CloseReason>,
    ended: Notify,
    open: Mutex<Open>,
}

/// What is open in a session.
#[derive(Default)]
struct Open {
    next: u64,
    /// Where the waker of each stream and listener waits.
    seats: HashMap<u64, (Arc<Ring>, u8)>,
    listeners: HashMap<u64, Arc<Gate>>,
}

impl Shared {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, closed: OnceLock::new(), ended: Notify::new(), open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Ends everything. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        let seats = {
            let mut open = self.lock();
            if self.closed.set(reason).is_err() {
                return;
            }
            open.listeners.clear();
            std::mem::take(&mut open.seats)
        };
        self.ended.notify_waiters();
        for (ring, seat) in seats.into_values() {
            ring.nudge(seat);
        }
    }
}

/// A subscription's tie to its session.
pub(crate) struct Owner {
    session: Arc<Shared>,
    number: u64,
    /// A listener's own gate.
    gate: Option<Arc<Gate>>,
}

impl Owner {
    /// Why the subscription has to end, if it has to.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        let removed = || self.gate.as_ref().filter(|gate| gate.is_closed()).map(|_| CloseReason::Removed);
        self.session.closed.get().cloned().or_else(removed)
    }

    pub(crate) fn forget(&self) {
        let mut open = self.session.lock();
        let seat = open.seats.remove(&self.number);
        let gate = open.listeners.remove(&self.number);
        drop(open);
        drop((seat, gate));
    }
}

impl Session {
    pub(crate) fn new(broker: Broker, shared: Arc<Shared>) -> Self {
        Self { broker, shared }
    }

    /// Posts a typed message.
    ///
    /// - `Local`: in every queue of this process before the call returns; never encoded.
    /// - `Global`: `Ok` means that the backend took it. Every node, this one included, receives it once.
    /// - `Auto`: global where a backend is configured, else local.
    ///
    /// A post without listeners succeeds. Follows Serverpod's `postMessage`. Not cancel safe: a dropped call
    /// may or may not have sent the message.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) at once while the backend is away;
    /// [`Interrupted`](ErrorKind::Interrupted) when the link broke under way;
    /// [`InvalidInput`](ErrorKind::InvalidInput), [`TooLarge`](ErrorKind::TooLarge) and
    /// [`Codec`](ErrorKind::Codec) before anything is sent; [`NoBackend`](ErrorKind::NoBackend) for a global
    /// post on a local broker; [`Closed`](ErrorKind::Closed).
    pub async fn post_message<T: Model>(
        &self,
        channel: impl AsRef<str> + Send,
        message: T,
        scope: Scope,
    ) -> Result<()> {
        self.check_open("post_message")?;
        self.broker.post_value(channel.as_ref(), message, scope).await
    }

    /// Posts bytes, or a [`Post`] with headers; all else as [`post_message`](Self::post_message).
    ///
    /// # Errors
    /// As [`post_message`](Self::post_message).
    pub async fn post(
        &self,
        channel: impl AsRef<str> + Send,
        post: impl Into<Post> + Send,
        scope: Scope,
    ) -> Result<()> {
        self.check_open("post")?;
        self.broker.publish(channel, post, scope).await
    }

    /// Calls a function with every later message of a channel, one call at a time, in order.
    ///
    /// When it returns, every later post from any process is delivered, or reported missing. The function
    /// takes [`Received<T>`](crate::Received), or [`Item<T>`](crate::Item) to be told of gaps too. It may be
    /// async; it runs on a task of its own, so a slow one harms nobody, and a panic in it removes this
    /// listener only. Two listeners are two, also with the same function. Follows Serverpod's `addListener`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Item, Model, Scope};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Renamed { name: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let session = broker.session();
    /// let (heard, mut names) = tokio::sync::mpsc::unbounded_channel();
    /// let id = session
    ///     .add_listener("user.42", move |item: Item<Renamed>| {
    ///         let heard = heard.clone();
    ///         async move {
    ///             match item {
    ///                 Ok(renamed) => drop(heard.send(renamed.name.clone())),
    ///                 Err(error) => eprintln!("{error}"), // a gap, for one: read the state anew
    ///             }
    ///         }
    ///     })
    ///     .await?;
    /// session.post_message("user.42", Renamed { name: "Ada".to_owned() }, Scope::Global).await?;
    /// assert_eq!(names.recv().await.as_deref(), Some("Ada"));
    /// session.remove_listener(id);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn add_listener<I, F, Fut>(
        &self,
        channel: impl AsRef<str> + Send,
        function: F,
    ) -> Result<ListenerId>
    where
        I: ListenerItem,
        F: FnMut(I) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let gate = Some(Arc::new(Gate::default()));
        let (subscription, number) = self.open("add_listener", channel.as_ref(), gate).await?;
        self.broker.spawn_listener(listen(subscription, function))?;
        Ok(ListenerId { session: self.shared.id, number })
    }

    /// Removes a listener: when this returns no call of it starts any more; one that is running ends by itself.
    /// Returns whether it was there; an unknown id is no error. May be called from within the listener.
    pub fn remove_listener(&self, id: ListenerId) -> bool {
        if id.session != self.shared.id {
            return false;
        }
        let (gate, seat) = {
            let mut open = self.shared.lock();
            (open.listeners.remove(&id.number), open.seats.get(&id.number).cloned())
        };
        let Some(gate) = gate else { return false };
        gate.close();
        if let Some((ring, seat)) = seat {
            ring.nudge(seat);
        }
        true
    }

    /// A stream of a channel's messages as values of type `T`.
    ///
    /// When it returns, every later post from any process is delivered, or reported missing. Gaps, messages
    /// of other types and undecodable ones are error items; the stream lives on. Dropping the stream
    /// unsubscribes. Follows Serverpod's `createStream`, with a bounded queue. Cancel safe: a dropped call
    /// leaves nothing behind.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an illegal name; [`Forbidden`](ErrorKind::Forbidden)
    /// when the backend refuses the channel; [`Unavailable`](ErrorKind::Unavailable) or
    /// [`Timeout`](ErrorKind::Timeout) when it is not confirmed within `subscribe_timeout`;
    /// [`Closed`](ErrorKind::Closed).
    pub async fn create_stream<T: Model>(&self, channel: impl AsRef<str> + Send) -> Result<MessageStream<T>> {
        Ok(MessageStream::new(self.open("create_stream", channel.as_ref(), None).await?.0))
    }

    /// The untyped stream of a channel; all else as [`create_stream`](Self::create_stream).
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn subscribe(&self, channel: impl AsRef<str> + Send) -> Result<Subscription> {
        Ok(self.open("subscribe", channel.as_ref(), None).await?.0)
    }

    /// Revokes a user's authentication on every server. Not built yet.
    ///
    /// # Errors
    /// Always [`Unsupported`](ErrorKind::Unsupported) in this version.
    #[expect(clippy::unused_async, reason = "the call will do I/O")]
    pub async fn revoke_authentication(&self, user: impl AsRef<str> + Send) -> Result<()> {
        let user = crate::channel::shown(user.as_ref());
        let message = format!("revoking the authentication of {user} is not part of this version");
        Err(Error::new(ErrorKind::Unsupported, message).with_operation("revoke_authentication"))
    }

    /// The same call under the name Serverpod's code uses.
    ///
    /// # Errors
    /// As [`revoke_authentication`](Self::revoke_authentication).
    pub async fn authentication_revoked(&self, user: impl AsRef<str> + Send) -> Result<()> {
        self.revoke_authentication(user).await
    }

    async fn open(
        &self,
        operation: &'static str,
        channel: &str,
        gate: Option<Arc<Gate>>,
    ) -> Result<(Subscription, u64)> {
        self.check_open(operation)?;
        let mut subscription = self.broker.join(operation, channel)?;
        let number = {
            let mut open = self.shared.lock();
            if self.shared.is_closed() {
                return Err(closed(operation));
            }
            open.next += 1;
            let number = open.next;
            open.seats.insert(number, subscription.seat());
            open.listeners.extend(gate.clone().map(|gate| (number, gate)));
            number
        };
        subscription.set_owner(Owner { session: Arc::clone(&self.shared), number, gate });
        self.broker.confirm(operation, &mut subscription).await?;
        Ok((subscription, number))
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.shared.is_closed() { Err(closed(operation)) } else { Ok(()) }
    }

    /// Closes the session: every listener and stream of it ends. When it returns, no callback starts and no
    /// stream yields any more. Closing twice is no error.
    pub fn close(&self) {
        self.shared.close(CloseReason::SessionClosed);
    }

    /// Whether the session is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Waits until the session is closed, and says why. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let ended = self.shared.ended.notified();
            if let Some(reason) = self.shared.closed.get() {
                return reason.clone();
            }
            ended.await;
        }
    }

    /// The broker this session belongs to.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "the session is closed; open another with broker.session()")
        .with_operation(operation)
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
        self.broker.forget_session(self.shared.id);
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
