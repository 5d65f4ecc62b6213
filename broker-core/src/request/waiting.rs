//! A request under way: posted, and waiting for its reply, for as long as its options say.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    ReplyStream, RequestError, RequestOptions,
    outcome::{ended, readable},
    replies::{Arrived, Waiting},
};
use crate::{
    AsChannel, Broker, Error, ErrorKind, IntoTypedPost, Message, Model, Received, Result, Session, TypedPost,
    message::exchange::Exchange,
};

impl Broker {
    /// Posts a request, and waits for the first reply to it. Every [responder](Self::reply_to) of the channel replies, on
    /// whatever server; of several replies the first counts.
    ///
    /// A [`Duration`](std::time::Duration) says how long the call takes at most; [`RequestOptions`] also name the scope.
    /// Cancel safe in that nothing is left behind: a dropped call waits no more, though the request may have been posted.
    /// Nothing is sent twice: to try again is the caller's decision.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use broker::{Channel, Model, Received, RequestError};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Price { of: String }
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Cents(u64);
    ///
    /// const PRICES: Channel<Price> = Channel::new("prices");
    ///
    /// let broker = broker::connect("memory:").await?;
    /// broker.reply_to(PRICES, async |price: Received<Price>| match price.of.as_str() {
    ///     "tea" => Ok(Cents(250)),
    ///     other => Err(format!("there is no {other}")),
    /// }).await?;
    ///
    /// let limit = Duration::from_secs(2);
    /// let cents: Received<Cents> = broker.request(PRICES, Price { of: "tea".to_owned() }, limit).await?;
    /// assert_eq!(cents.0, 250);
    /// let refused = broker.request::<_, Cents>(PRICES, Price { of: "gold".to_owned() }, limit).await;
    /// assert!(matches!(refused, Err(RequestError::Refused(why)) if why == "there is no gold"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`RequestError`] says each.
    pub async fn request<Req: Model, Rep: Model>(
        &self,
        channel: impl AsChannel<Req> + Send,
        request: impl IntoTypedPost<Req>,
        options: impl Into<RequestOptions> + Send,
    ) -> Result<Received<Rep>, RequestError> {
        let asked = Asked { broker: self, session: None, operation: "request", options: options.into() };
        readable(asked.first(channel.channel_name(), request.into_typed_post()).await?)
    }

    /// Posts a request, and returns a stream of the replies to it: "who is there?". It ends when the time is over, which
    /// begins with this call; dropping it ends it earlier.
    ///
    /// A reply that refuses, or cannot be read, is an error item, and so is [`RequestError::MayBeLost`]; the stream goes
    /// on. It keeps as many replies as [`queue_capacity`](crate::Options::queue_capacity) says, of any size; those that come
    /// while it is full are dropped, and an item reports how many. When the time is over it yields what has come. All else as [`request`](Self::request).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use broker::{Model, Received};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct WhoIsThere;
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Here { name: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// for name in ["Ada", "Bob"] {
    ///     broker.reply_to("roll-call", move |_: Received<WhoIsThere>| Here { name: name.to_owned() }).await?;
    /// }
    /// let mut replies = broker.request_many::<_, Here>("roll-call", WhoIsThere, Duration::from_millis(100)).await?;
    /// let mut names = Vec::new();
    /// while let Some(reply) = replies.next().await {
    ///     names.push(reply?.name.clone());
    /// }
    /// names.sort();
    /// assert_eq!(names, ["Ada", "Bob"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`RequestError::Broker`], when the request could not be posted.
    pub async fn request_many<Req: Model, Rep: Model>(
        &self,
        channel: impl AsChannel<Req> + Send,
        request: impl IntoTypedPost<Req>,
        options: impl Into<RequestOptions> + Send,
    ) -> Result<ReplyStream<Rep>, RequestError> {
        let asked = Asked { broker: self, session: None, operation: "request_many", options: options.into() };
        asked.many(channel.channel_name(), request.into_typed_post()).await
    }
}

impl Session {
    /// Posts a request, and waits for the first reply to it; no longer than the session is open. All else as
    /// [`Broker::request`].
    ///
    /// # Errors
    /// [`RequestError`] says each.
    pub async fn request<Req: Model, Rep: Model>(
        &self,
        channel: impl AsChannel<Req> + Send,
        request: impl IntoTypedPost<Req>,
        options: impl Into<RequestOptions> + Send,
    ) -> Result<Received<Rep>, RequestError> {
        self.check_open("request")?;
        let (broker, session) = (self.broker(), Some(self));
        let asked = Asked { broker, session, operation: "request", options: options.into() };
        readable(asked.first(channel.channel_name(), self.sign(request.into_typed_post())).await?)
    }

    /// Posts a request, and returns a stream of the replies to it, which ends with the session at the latest. All else
    /// as [`Broker::request_many`].
    ///
    /// # Errors
    /// [`RequestError::Broker`], when the request could not be posted.
    pub async fn request_many<Req: Model, Rep: Model>(
        &self,
        channel: impl AsChannel<Req> + Send,
        request: impl IntoTypedPost<Req>,
        options: impl Into<RequestOptions> + Send,
    ) -> Result<ReplyStream<Rep>, RequestError> {
        self.check_open("request_many")?;
        let (broker, session) = (self.broker(), Some(self));
        let asked = Asked { broker, session, operation: "request_many", options: options.into() };
        asked.many(channel.channel_name(), self.sign(request.into_typed_post())).await
    }
}

/// Who makes a request, and how.
struct Asked<'a> {
    broker: &'a Broker,
    session: Option<&'a Session>,
    operation: &'static str,
    options: RequestOptions,
}

impl Asked<'_> {
    /// Boxed, for it is large, and takes long anyhow.
    fn first<'b, T: Model>(
        &'b self,
        channel: &'b str,
        post: TypedPost<T>,
    ) -> BoxFuture<'b, Result<Message, RequestError>> {
        Box::pin(async move {
            let posted = AtomicBool::new(false);
            self.limited(&posted, self.replied(channel, post, &posted)).await
        })
    }

    async fn replied<T: Model>(
        &self,
        channel: &str,
        post: TypedPost<T>,
        posted: &AtomicBool,
    ) -> Result<Message, RequestError> {
        let (waiting, post) = self.place(post).await?;
        let mut arrived = pin!(next(&waiting));
        tokio::select! {
            biased;
            // May overtake the outcome of the post.
            arrived = &mut arrived => return self.reply(arrived),
            sent = self.broker.post_request(self.operation, channel, post, self.options.scope) => { sent?; }
        }
        posted.store(true, Ordering::Relaxed);
        self.reply(arrived.await)
    }

    fn many<'b, T: Model, Rep: Model>(
        &'b self,
        channel: &'b str,
        post: TypedPost<T>,
    ) -> BoxFuture<'b, Result<ReplyStream<Rep>, RequestError>> {
        Box::pin(async move {
            // None: beyond what an instant can be.
            let deadline = Instant::now().checked_add(self.options.timeout);
            let posting = async {
                let (waiting, post) = self.place(post).await?;
                self.broker.post_request(self.operation, channel, post, self.options.scope).await?;
                Ok(waiting)
            };
            let waiting = self.limited(&AtomicBool::new(false), posting).await?;
            let closed = self.session.map(|session| session.ended(self.operation));
            Ok(ReplyStream::new(self.broker, self.operation, waiting, deadline, closed))
        })
    }

    /// A place for replies, and the post that asks for them.
    async fn place<T>(&self, mut post: TypedPost<T>) -> Result<(Waiting, TypedPost<T>)> {
        let waiting = self.broker.await_replies(self.operation, self.options.scope).await?;
        post.exchange = Exchange::of(waiting.number());
        Ok((waiting, post))
    }

    /// As long as the session is open, and the time is not over.
    async fn limited<T>(
        &self,
        posted: &AtomicBool,
        work: impl Future<Output = Result<T, RequestError>> + Send,
    ) -> Result<T, RequestError> {
        let closed = async {
            match self.session {
                Some(session) => session.ended(self.operation).await,
                None => pending().await,
            }
        };
        let within = self.options.timeout;
        tokio::select! {
            biased;
            error = closed => Err(error.into()),
            done = work => done,
            () = self.broker.wait_for(within) => match posted.load(Ordering::Relaxed) {
                true => Err(RequestError::NoReply { within }),
                false => Err(self.not_posted().into()),
            },
        }
    }

    fn not_posted(&self) -> Error {
        let message = format!(
            "the request was not posted within {:?}, though it may yet have been: the backend has not answered",
            self.options.timeout
        );
        Error::new(ErrorKind::Timeout, message).with_operation(self.operation)
    }

    fn reply(&self, arrived: Arrived) -> Result<Message, RequestError> {
        match arrived {
            Arrived::Reply(message) => Ok(message),
            Arrived::Lost(gap) => Err(RequestError::MayBeLost(gap)),
            Arrived::Ended(reason) => Err(ended(self.broker, self.operation, reason)),
        }
    }
}

/// What came for a request.
async fn next(waiting: &Waiting) -> Arrived {
    poll_fn(|cx| waiting.poll_next(cx)).await
}
