//! Subscribing: joining a channel here at once, and waiting until the backend delivers it.

use std::time::Duration;

use super::Broker;
use crate::{
    AsChannel, AsChannelFor, AsChannelName, ChannelName, EnumStream, Error, Listener, ListenerFn,
    ListenerItem, MessageStream, Messages, Model, Result, SubscribeOptions, Subscription,
};

impl Broker {
    /// Subscribes to a channel outside of any session. When it returns, every later post from any process is
    /// delivered, or reported missing. Cancel safe: a dropped call leaves nothing behind.
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn subscribe(&self, channel: impl AsChannelName + Send) -> Result<Subscription> {
        self.open("subscribe", channel.channel_name(), &SubscribeOptions::new()).await
    }

    /// The same with options of its own: how many messages wait, which of them, and how long the call does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use std::time::Duration;
    /// use broker::SubscribeOptions;
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let options = SubscribeOptions::new().capacity(16).timeout(Duration::from_secs(1));
    /// let news = broker.subscribe_with("news", options).await?;
    /// # drop(news);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Session::create_stream_with`](crate::Session::create_stream_with).
    pub async fn subscribe_with(
        &self,
        channel: impl AsChannelName + Send,
        options: SubscribeOptions,
    ) -> Result<Subscription> {
        self.open("subscribe_with", channel.channel_name(), &options).await
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
        let name = channel.channel_name();
        Ok(MessageStream::new(self.open("create_stream", name, &SubscribeOptions::new()).await?))
    }

    /// The same with options of its own; as [`subscribe_with`](Self::subscribe_with).
    ///
    /// # Errors
    /// As [`Session::create_stream_with`](crate::Session::create_stream_with).
    pub async fn create_stream_with<T: Model>(
        &self,
        channel: impl AsChannel<T> + Send,
        options: SubscribeOptions,
    ) -> Result<MessageStream<T>> {
        Ok(MessageStream::new(self.open("create_stream_with", channel.channel_name(), &options).await?))
    }

    /// A stream of a channel's messages as the variants of an enum, outside of any session. All else as
    /// [`Session::create_stream_of`](crate::Session::create_stream_of).
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn create_stream_of<M: Messages>(
        &self,
        channel: impl AsChannelName + Send,
    ) -> Result<EnumStream<M>> {
        let options = SubscribeOptions::new();
        Ok(EnumStream::new(self.open("create_stream_of", channel.channel_name(), &options).await?))
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

    async fn open(
        &self,
        operation: &'static str,
        channel: &str,
        options: &SubscribeOptions,
    ) -> Result<Subscription> {
        let mut subscription = self.join(operation, channel, options)?;
        self.confirm(operation, &mut subscription, options).await?;
        Ok(subscription)
    }

    pub(crate) fn join(
        &self,
        operation: &'static str,
        channel: &str,
        options: &SubscribeOptions,
    ) -> Result<Subscription> {
        let name = ChannelName::new(channel).map_err(|error| error.with_operation(operation))?;
        let reads = options.reads().map_err(|error| self.at(operation, channel, error))?;
        Subscription::open(self, &name, reads).ok_or_else(|| self.at(operation, channel, self.closed_error()))
    }

    /// Waits until the channel is subscribed at the backend, if the options say so. Then the subscription begins.
    pub(crate) async fn confirm(
        &self,
        operation: &'static str,
        subscription: &mut Subscription,
        options: &SubscribeOptions,
    ) -> Result<()> {
        let at = |name: &ChannelName, error| self.at(operation, name.as_str(), error);
        let name = subscription.channel();
        let limit = options.limit(self.0.options.subscribe_timeout).map_err(|error| at(name, error))?;
        if !options.waits() {
            return self.request_channels([name]).map_err(|error| at(name, error));
        }
        if let Some(backend) = &self.0.backend {
            let refusal = || subscription.refusal();
            let confirmed = backend.subscriptions.confirmed(name, limit, refusal).await;
            confirmed.map_err(|error| at(name, error))?;
        }
        subscription.begin_here();
        Ok(())
    }

    /// Waits until channels that have joined the hub are subscribed at the backend, all within one limit. The error is
    /// that of the first one that fails.
    pub(crate) async fn confirm_all(
        &self,
        names: &[&ChannelName],
        limit: Duration,
        refusal: impl Fn() -> Option<Error> + Send,
    ) -> Result<()> {
        match &self.0.backend {
            Some(backend) => backend.subscriptions.all_confirmed(names, limit, refusal).await,
            None => Ok(()),
        }
    }

    /// Requests channels that have joined the hub, and does not wait.
    pub(crate) fn request_channels<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ChannelName>,
    ) -> Result<()> {
        let live: Vec<_> = match &self.0.backend {
            Some(backend) => backend.subscriptions.request(names)?,
            None => names.into_iter().collect(),
        };
        live.into_iter().for_each(|name| self.0.hub.go_live(name));
        Ok(())
    }

    pub(crate) fn note_left(&self, channel: &ChannelName) {
        if let Some(backend) = &self.0.backend {
            backend.subscriptions.note_left(channel);
        }
    }
}
