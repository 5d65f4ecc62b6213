//! The broker's part in requests: where replies are read, and how requests and replies leave.

use std::{sync::Arc, time::Duration};

use super::{Backend, Broker, publish::Target};
use crate::{
    CloseReason, Error, ErrorKind, Message, Model, NodeId, Post, Result, Scope, TypedPost,
    driver::Receipt,
    hub::{Reads, Ring},
    message::exchange::Exchange,
    request::{ReplyReader, refusal, replies::Waiting},
    trace,
    wire::{encoded::Encoded, names::reply_channel},
};

/// A request that was received: whose it is, and how its replies go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    node: NodeId,
    exchange: Exchange,
    local: bool,
}

impl ReplyTo {
    /// `None` if the message is no request.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        let exchange = Exchange::of(message.exchange().number()?);
        // Replies go to the node's own channel; a request cannot name another.
        Some(Self { node: message.origin(), exchange, local: message.is_local() })
    }
}

impl Broker {
    /// A place for a request, once replies to it are received.
    pub(crate) async fn await_replies(&self, operation: &'static str, scope: Scope) -> Result<Waiting> {
        if self.0.hub.has_ended() {
            return Err(self.about(operation, self.closed_error()));
        }
        let backend = self.0.backend.as_ref().filter(|_| scope != Scope::Local);
        if let Some(backend) = backend {
            self.replies_arrive(backend).await.map_err(|error| self.about(operation, error))?;
        }
        Ok(self.0.replies.wait(backend.is_none(), self.0.options.queue_capacity))
    }

    /// Returns once replies to this node arrive.
    async fn replies_arrive(&self, backend: &Backend) -> Result<()> {
        backend.outbox.check()?;
        let ring = self.read_replies(backend)?;
        let refusal = || match ring.end_reason() {
            Some(CloseReason::Refused(error)) => Some(error),
            _ => None,
        };
        let (name, limit) = (&ring.channel, self.0.options.subscribe_timeout);
        let confirmed = backend.subscriptions.confirmed(name, limit, refusal).await;
        confirmed.map_err(|error| error.with_channel(name.clone()))
    }

    /// Begins to read replies, unless that has begun. The task holds no handle: it ends with the broker.
    fn read_replies(&self, backend: &Backend) -> Result<Arc<Ring>> {
        let runtime = self.0.runtime.handle("a request")?;
        let (ring, reader) = self.0.replies.reading(|| self.reply_reader(backend))?;
        if let Some(reader) = reader {
            self.0.tasks.spawn_on(reader.run(self.0.stop.clone()), &runtime);
        }
        Ok(ring)
    }

    fn reply_reader(&self, backend: &Backend) -> Result<(Arc<Ring>, ReplyReader)> {
        let hub = Arc::clone(&self.0.hub);
        let name = reply_channel(self.0.node);
        let (ring, cursor) = hub.join(&name, Reads::default()).ok_or_else(|| self.closed_error())?;
        let reader = ReplyReader {
            hub,
            ring: Arc::clone(&ring),
            cursor,
            replies: Arc::clone(&self.0.replies),
            subscriptions: Arc::clone(&backend.subscriptions),
            meter: self.0.meter.clone(),
        };
        Ok((ring, reader))
    }

    /// Posts a request.
    pub(crate) async fn post_request<T: Model>(
        &self,
        operation: &'static str,
        channel: &str,
        post: TypedPost<T>,
        scope: Scope,
    ) -> Result<Receipt> {
        let channel = Target::Name(channel);
        self.posting(operation, channel, self.send_value(channel, post, scope)).await
    }

    /// Returns after so long, on whatever thread.
    pub(crate) async fn wait_for(&self, limit: Duration) {
        self.0.runtime.late(limit).await;
    }

    /// Replies to a request: with a value, or with the text of a refusal, which is also sent for a value that cannot be.
    pub(crate) async fn reply<T: Model>(
        &self,
        to: ReplyTo,
        outcome: Result<TypedPost<T>, String>,
    ) -> Result<()> {
        let text = match outcome {
            Err(text) => text,
            Ok(value) => match self.send_reply(to, value).await {
                Err(error) if is_about_the_value(&error) => {
                    format!("its reply cannot be sent: {}", error.message())
                }
                sent => return sent,
            },
        };
        // No longer than the requester keeps: the text may contain all of the request.
        let mut refusal = Post::new(refusal(&text, self.0.options.max_payload));
        refusal.exchange = to.exchange.refused();
        if to.local {
            self.0.replies.put(Message::from_post(refusal, self.0.node), &self.0.meter);
            return Ok(());
        }
        self.send_encoded(to, &refusal).await
    }

    async fn send_reply<T: Model>(&self, to: ReplyTo, mut value: TypedPost<T>) -> Result<()> {
        let codec = self.0.options.codec;
        value.exchange = to.exchange;
        trace::inject(&mut value.headers);
        if to.local {
            codec.check(&value.value)?;
            value.headers.check()?;
            self.0.replies.put(Message::from_value(value, self.0.node, codec), &self.0.meter);
            return Ok(());
        }
        self.send_encoded(to, &value.encode(codec)?).await
    }

    async fn send_encoded(&self, to: ReplyTo, post: &Post) -> Result<()> {
        post.check(&self.0.options)?;
        // A global request comes by a backend.
        let Some(backend) = &self.0.backend else { return Err(Error::closed()) };
        let frame = Encoded::of(post, self.0.node);
        backend.outbox.reply(reply_channel(to.node).as_str(), frame).await.map(drop)
    }

    /// How many requests wait.
    #[cfg(test)]
    pub(crate) fn waiting_requests(&self) -> usize {
        self.0.replies.len()
    }
}

fn is_about_the_value(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Codec | ErrorKind::TooLarge | ErrorKind::InvalidInput)
}
