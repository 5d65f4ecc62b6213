//! Adding and removing the listeners of a session.

use std::sync::Arc;

use super::{
    Session,
    listener::{Listener, ListenerId, listen},
    listener_fn::{ListenerFn, ListenerItem},
};
use crate::{AsChannelFor, AsChannelName, Result, SubscribeOptions, Subscription, runtime::gate::Gate};

impl Session {
    /// Calls a function with every later message of a channel, one call at a time, in order.
    ///
    /// When it returns, every later post from any process is delivered, or reported missing. The function
    /// takes [`Received<T>`](crate::Received), or [`StreamItem<T>`](crate::StreamItem) to receive gaps too. It may be
    /// async; it runs on a task of its own, so a slow one delays no other, and a panic in it removes this
    /// listener only. Two listeners are two, also with the same function. Follows Serverpod's `addListener`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{StreamItem, Model, Scope};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Renamed { name: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let session = broker.session();
    /// let (sender, mut names) = tokio::sync::mpsc::unbounded_channel();
    /// let listener = session
    ///     .add_listener("user.42", move |item: StreamItem<Renamed>| {
    ///         let sender = sender.clone();
    ///         async move {
    ///             match item {
    ///                 Ok(renamed) => drop(sender.send(renamed.name.clone())),
    ///                 Err(error) => eprintln!("{error}"), // a gap, for one: read the state anew
    ///             }
    ///         }
    ///     })
    ///     .await?;
    /// session.post_message("user.42", Renamed { name: "Ada".to_owned() }, Scope::Global).await?;
    /// assert_eq!(names.recv().await.as_deref(), Some("Ada"));
    /// session.remove_listener(listener);
    /// # Ok(()) }
    /// ```
    ///
    /// The function must not own its session. A session ends when its last handle is dropped; a listener that holds
    /// a clone of its own session keeps it, itself and its subscription alive until somebody calls
    /// [`close`](Self::close), or the broker is closed. To post from within, hold a clone of the [`Broker`](crate::Broker), which keeps
    /// no session open, or a `Weak<Session>`:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use std::sync::Arc;
    /// use broker::{Model, Received, Scope};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Note { text: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let session = Arc::new(broker.session());
    /// # let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
    /// let own = Arc::downgrade(&session);
    /// session
    ///     .add_listener("questions", move |question: Received<Note>| {
    /// #       let _alive = &alive;
    ///         let own = own.upgrade(); // `None` once the session is dropped
    ///         async move {
    ///             let Some(session) = own else { return };
    ///             let answer = Note { text: format!("{}: yes", question.text) };
    ///             if let Err(error) = session.post_message("answers", answer, Scope::Global).await {
    ///                 eprintln!("not answered: {error}");
    ///             }
    ///         }
    ///     })
    ///     .await?;
    /// # let asking = broker.session();
    /// # let mut answers = asking.create_stream::<Note>("answers").await?;
    /// # asking.post_message("questions", Note { text: "well".to_owned() }, Scope::Global).await?;
    /// # assert_eq!(answers.next().await.unwrap().unwrap().text, "well: yes");
    /// drop(session); // the connection is gone: the listener ends
    /// # assert_eq!(ended.recv().await, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn add_listener<I, F, K>(
        &self,
        channel: impl AsChannelFor<I> + Send,
        mut function: F,
    ) -> Result<Listener>
    where
        I: ListenerItem,
        F: ListenerFn<(I,), K>,
    {
        let (subscription, number) = self.open_listener("add_listener", channel).await?;
        self.begin_listening(subscription, number, move |item: I| function.call((item,)))
    }

    /// Calls a function with what comes.
    pub(crate) fn begin_listening<I: ListenerItem, Fut>(
        &self,
        subscription: Subscription,
        number: u64,
        function: impl FnMut(I) -> Fut + Send + 'static,
    ) -> Result<Listener>
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let task = self.broker.spawn("a listener", listen(subscription, function, ()))?;
        Ok(Listener::new(Arc::clone(&self.shared), number, task))
    }

    /// A listener whose session lasts as long as it does.
    pub(crate) async fn add_lasting_listener<I, F, K>(
        self,
        channel: impl AsChannelFor<I> + Send,
        mut function: F,
    ) -> Result<Listener>
    where
        I: ListenerItem,
        F: ListenerFn<(I,), K>,
    {
        let (subscription, number) = self.open_listener("add_listener", channel).await?;
        self.begin_lasting(subscription, number, move |item: I| function.call((item,)))
    }

    /// Calls a function with what comes; the session lasts as long.
    pub(crate) fn begin_lasting<I: ListenerItem, Fut>(
        self,
        subscription: Subscription,
        number: u64,
        function: impl FnMut(I) -> Fut + Send + 'static,
    ) -> Result<Listener>
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (broker, shared) = (self.broker.clone(), Arc::clone(&self.shared));
        let task = listen(subscription, function, self);
        Ok(Listener::new(shared, number, broker.spawn("a listener", task)?))
    }

    /// The subscription of a listener, with the gate that ends its calls, and its number.
    pub(crate) async fn open_listener(
        &self,
        operation: &'static str,
        channel: impl AsChannelName + Send,
    ) -> Result<(Subscription, u64)> {
        let (options, gate) = (SubscribeOptions::new(), Some(Arc::new(Gate::default())));
        self.open(operation, channel.channel_name(), &options, gate).await
    }

    /// The same for a function of two arguments, a state and the message: each call gets a clone of the state. What an
    /// async function uses in every call has to be cloned for each; this does it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Event, Scope};
    /// use tokio::sync::mpsc::{Sender, channel};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let session = broker.session();
    /// let (sender, mut receiver) = channel(16);
    /// session
    ///     .add_listener_with("news", sender, async |sender: Sender<Event>, event: Event| {
    ///         let _ = sender.send(event).await; // fails once the receiver is dropped
    ///     })
    ///     .await?;
    /// broker.publish("news", "hello", Scope::Global).await?;
    /// assert!(matches!(receiver.recv().await, Some(Event::Message(_))));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn add_listener_with<S, I, F, K>(
        &self,
        channel: impl AsChannelFor<I> + Send,
        state: S,
        mut function: F,
    ) -> Result<Listener>
    where
        S: Clone + Send + 'static,
        I: ListenerItem,
        F: ListenerFn<(S, I), K>,
    {
        self.add_listener(channel, move |item: I| function.call((state.clone(), item))).await
    }

    /// Removes a listener: when this returns no call of it starts any more; one that is running ends by itself.
    /// Returns whether it was there; an unknown id is no error. May be called from within the listener.
    ///
    /// Blocks while a call is just starting: until its function has come to its first await, for at most 0.1 s.
    pub fn remove_listener(&self, listener: impl Into<ListenerId>) -> bool {
        let id = listener.into();
        id.session == self.shared.id && self.shared.end_listener(id.number)
    }
}
