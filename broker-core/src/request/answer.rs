//! Answering: a listener whose function returns a reply.

use std::future::Future;

use super::reply_fn::ReplyFn;
use crate::{AsChannelFor, Broker, Listener, Model, Received, Result, Session, TypedPost, broker::ReplyTo};

impl Session {
    /// Answers the requests on a channel: calls a function with each, and sends what it returns to the requester.
    ///
    /// It is a listener, as of [`add_listener`](Self::add_listener): one call at a time, in order, on a task of its own,
    /// until it is removed or its session ends. The function may be async. It returns the reply, or a
    /// [`TypedPost`] of it with headers; or a `Result` of either, whose error refuses the request: the requester receives
    /// its text, as [`RequestError::Refused`](crate::RequestError::Refused). If a reply cannot be encoded or is too
    /// large, the requester receives that as a refusal.
    ///
    /// It is not called with messages that are no requests, or of another type; those of another type are logged.
    /// Requests that wait when the broker is drained are answered. If several answer a channel, each is called.
    /// A function that panics removes the listener, and the requester waits until its time is over.
    ///
    /// A reply goes to the requester's node alone, as far as the request went: that to a local request stays in the
    /// process.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use broker::{Model, Received};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Double(u32);
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Doubled(u32);
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let session = broker.session();
    /// session.reply_to("doubles", |double: Received<Double>| {
    ///     double.0.checked_mul(2).map(Doubled).ok_or("too much")
    /// }).await?;
    ///
    /// let reply: Received<Doubled> = broker.request("doubles", Double(21), Duration::from_secs(2)).await?;
    /// assert_eq!(reply.0, 42);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn reply_to<Req, F, K>(
        &self,
        channel: impl AsChannelFor<Received<Req>> + Send,
        mut function: F,
    ) -> Result<Listener>
    where
        Req: Model,
        F: ReplyFn<(Received<Req>,), K>,
    {
        let (subscription, number) = self.open_listener("reply_to", channel).await?;
        let broker = self.broker().clone();
        let answering =
            move |request| answer(broker.clone(), asked(request, |request| function.call((request,))));
        self.begin_listening(subscription, number, answering)
    }

    /// The same with a function of two arguments, a state and the request: each call gets a clone of the state.
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream).
    pub async fn reply_to_with<S, Req, F, K>(
        &self,
        channel: impl AsChannelFor<Received<Req>> + Send,
        state: S,
        mut function: F,
    ) -> Result<Listener>
    where
        S: Clone + Send + 'static,
        Req: Model,
        F: ReplyFn<(S, Received<Req>), K>,
    {
        let (subscription, number) = self.open_listener("reply_to_with", channel).await?;
        let broker = self.broker().clone();
        let answering = move |request| {
            answer(broker.clone(), asked(request, |request| function.call((state.clone(), request))))
        };
        self.begin_listening(subscription, number, answering)
    }
}

impl Broker {
    /// Answers the requests on a channel, outside of any session: until the listener is
    /// [removed](crate::Listener::remove), or the broker is closed or drained. All else as
    /// [`Session::reply_to`](crate::Session::reply_to).
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn reply_to<Req, F, K>(
        &self,
        channel: impl AsChannelFor<Received<Req>> + Send,
        mut function: F,
    ) -> Result<Listener>
    where
        Req: Model,
        F: ReplyFn<(Received<Req>,), K>,
    {
        let session = self.session();
        let (subscription, number) = session.open_listener("reply_to", channel).await?;
        let broker = self.clone();
        let answering =
            move |request| answer(broker.clone(), asked(request, |request| function.call((request,))));
        session.begin_lasting(subscription, number, answering)
    }
}

/// The call for a request; none for a message that is no request.
fn asked<Req: Model, C>(
    request: Received<Req>,
    call: impl FnOnce(Received<Req>) -> C,
) -> Option<(ReplyTo, C)> {
    ReplyTo::of(&request.message()).map(|to| (to, call(request)))
}

/// The call for a request, and its reply.
async fn answer<Rep: Model>(
    broker: Broker,
    asked: Option<(ReplyTo, impl Future<Output = Result<TypedPost<Rep>, String>> + Send)>,
) {
    let Some((to, call)) = asked else {
        tracing::debug!("a message that is no request came where requests are answered");
        return;
    };
    if let Err(error) = broker.reply(to, call.await).await {
        tracing::warn!("a reply was not sent: {error}");
    }
}
