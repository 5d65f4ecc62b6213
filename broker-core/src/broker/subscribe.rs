//! Subscribing: joining a channel here at once, and waiting until the backend delivers it.

use super::Broker;
use crate::{
    AsChannel, AsChannelFor, AsChannelName, ChannelName, Listener, ListenerFn, ListenerItem, MessageStream,
    Model, Result, Subscription,
};

impl Broker {
    /// Subscribes to a channel outside of any session. When it returns, every later post from any process is
    /// delivered, or reported missing. Cancel safe: a dropped call leaves nothing behind.
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn subscribe(&self, channel: impl AsChannelName + Send) -> Result<Subscription> {
        let mut subscription = self.join("subscribe", channel.channel_name())?;
        self.confirm("subscribe", &mut subscription).await?;
        Ok(subscription)
    }

    /// A stream of a channel's messages as values of type `T`, outside of any session: it lives until it is dropped, or
    /// the broker ends. All else as [`Session::create_stream`](crate::Session::create_stream).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Channel, Model, Scope};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Said { text: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let room: Channel<Said> = Channel::of(["room", "42"]);
    /// let mut said = broker.create_stream(&room).await?;
    /// broker.post_message(&room, Said { text: "hello".to_owned() }, Scope::Global).await?;
    /// assert_eq!(said.next().await.expect("open").expect("a message").text, "hello");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn create_stream<T: Model>(
        &self,
        channel: impl AsChannel<T> + Send,
    ) -> Result<MessageStream<T>> {
        let mut subscription = self.join("create_stream", channel.channel_name())?;
        self.confirm("create_stream", &mut subscription).await?;
        Ok(MessageStream::new(subscription))
    }

    /// Calls a function with every later message of a channel, outside of any session: until the listener is
    /// [removed](crate::Listener::remove), or the broker is closed or drained; it keeps the broker open. All else as
    /// [`Session::add_listener`](crate::Session::add_listener).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Model, Received, Scope};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Said { text: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let (sender, mut texts) = tokio::sync::mpsc::unbounded_channel();
    /// let listener = broker.add_listener("room", move |said: Received<Said>| {
    ///     let _ = sender.send(said.text.clone());
    /// }).await?;
    /// broker.post_message("room", Said { text: "hello".to_owned() }, Scope::Global).await?;
    /// assert_eq!(texts.recv().await.as_deref(), Some("hello"));
    /// assert!(listener.remove());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn add_listener<I, F, K>(
        &self,
        channel: impl AsChannelFor<I> + Send,
        function: F,
    ) -> Result<Listener>
    where
        I: ListenerItem,
        F: ListenerFn<(I,), K>,
    {
        self.session().add_lasting_listener(channel, function).await
    }

    pub(crate) fn join(&self, operation: &'static str, channel: &str) -> Result<Subscription> {
        let name = ChannelName::new(channel).map_err(|error| error.with_operation(operation))?;
        Subscription::open(self, &name).ok_or_else(|| self.at(operation, channel, self.closed_error()))
    }

    pub(crate) async fn confirm(
        &self,
        operation: &'static str,
        subscription: &mut Subscription,
    ) -> Result<()> {
        let Some(backend) = &self.0.backend else {
            subscription.begin_here();
            return Ok(());
        };
        let name = subscription.channel();
        let (limit, refusal) = (self.0.options.subscribe_timeout, || subscription.refusal());
        let confirmed = backend.subscriptions.confirmed(name, limit, refusal).await;
        confirmed.map_err(|error| self.at(operation, name.as_str(), error))?;
        subscription.begin_here();
        Ok(())
    }

    pub(crate) fn note_left(&self, channel: &ChannelName) {
        if let Some(backend) = &self.0.backend {
            backend.subscriptions.note_left(channel);
        }
    }
}
