//! RabbitLink: one live pair of connections, and a queue of its own.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{Inbox, Link, Outgoing},
};
use futures_util::future::{maybe_done, try_join};
use lapin::{
    BasicProperties, Confirmation,
    options::{BasicPublishOptions, QueueBindOptions},
    types::{FieldTable, ShortString},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{address::Address, lane::Lane};

/// One link. Dropping it ends its task and its socket, and with that the client's own tasks and thread.
pub(crate) struct RabbitLink {
    /// Owns the queue, so that only here it can be bound and consumed.
    pub(crate) receiver: Lane,
    pub(crate) publisher: Lane,
    pub(crate) receiving: AbortOnDropHandle<()>,
    pub(crate) address: Arc<Address>,
    pub(crate) queue: ShortString,
    pub(crate) inbox: Inbox,
}

impl RabbitLink {
    /// Adds or removes bindings. The first error stands for all: the server answers nothing after it.
    async fn bind(&self, channels: &[ChannelName], add: bool) -> Result<()> {
        let keys = channels.iter().map(key).collect::<Result<Vec<_>>>()?;
        let control = &self.receiver.channel();
        let done = pipelined(keys.into_iter().map(async |key| {
            let (queue, exchange) = (self.queue.clone(), self.address.exchange.clone());
            if add {
                let options = QueueBindOptions::default();
                control.queue_bind(queue, exchange, key, options, FieldTable::default()).await
            } else {
                control.queue_unbind(queue, exchange, key, FieldTable::default()).await
            }
        }));
        let Err(error) = done.await.into_iter().collect::<lapin::Result<()>>() else { return Ok(()) };
        let (error, _) = self.failed(&error, &self.receiver).await;
        Err(if let [channel] = channels { error.with_channel(channel.clone()) } else { error })
    }

    /// Translates an error of an AMQP channel, and says whether the link lives on. It does after a refusal,
    /// which closes the AMQP channel only: that is opened anew. Anything else ends the link.
    async fn failed(&self, error: &lapin::Error, lane: &Lane) -> (Error, bool) {
        let translated = self.address.peer.error(error);
        // What was deleted took bindings with it: that is no refusal.
        let refusal = error.is_amqp_soft_error() && translated.kind() != ErrorKind::Unavailable;
        let lives = refusal && lane.reopen().await.is_ok();
        if !lives {
            self.inbox.lost(translated.clone());
        }
        (translated, lives)
    }
}

#[async_trait]
impl Link for RabbitLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let publisher = &self.publisher.channel();
        let confirms = pipelined(batch.iter().map(async |outgoing| {
            let (exchange, options) = (self.address.exchange.clone(), BasicPublishOptions::default());
            let (key, plain) = (key(&outgoing.channel)?, BasicProperties::default());
            let confirm = async {
                publisher.basic_publish(exchange, key, options, &outgoing.frame, plain).await?.await
            };
            Ok::<_, Error>(confirm.await)
        }));
        let confirms = confirms.await;
        let mut failures = confirms.iter().flatten().filter_map(|confirm| confirm.as_ref().err());
        let failure = match (failures.next(), failures.next()) {
            (None, _) => None,
            (Some(error), second) => Some(match self.failed(error, &self.publisher).await {
                // The only frame without an answer is the one that was refused.
                (error, true) if second.is_none() => error,
                (error, _) => Error::new(ErrorKind::Interrupted, error.message()),
            }),
        };
        let outcome = |confirm: Result<lapin::Result<Confirmation>>| match (confirm?, &failure) {
            (Ok(Confirmation::Nack(_)), _) => Err(self.address.peer.not_taken()),
            (Ok(_), _) | (Err(_), None) => Ok(()),
            (Err(_), Some(failure)) => Err(failure.clone()),
        };
        let outcomes = batch.iter().zip(confirms).map(|(outgoing, confirm)| {
            outcome(confirm).map_err(|error| error.with_channel(outgoing.channel.clone()))
        });
        outcomes.collect()
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.bind(channels, true).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.bind(channels, false).await
    }

    /// The server deletes the queue, and with it the bindings, before it answers.
    async fn close(&self) -> Result<()> {
        self.receiving.abort();
        let closed = try_join(self.publisher.close(), self.receiver.close()).await;
        closed.map(drop).map_err(|error| self.address.peer.error(&error))
    }
}

impl fmt::Debug for RabbitLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, queue, .. } = self;
        f.debug_struct("RabbitLink").field("address", address).field("queue", queue).finish_non_exhaustive()
    }
}

/// Begins all calls in their order, and then waits for each: one round trip for all. A call queues its frame
/// when it is first polled; a joined future would not promise in which order that is.
async fn pipelined<F: Future>(calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<_> = calls.map(|call| Box::pin(maybe_done(call))).collect();
    for call in &mut calls {
        poll_fn(|context| {
            let _ = call.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    }
    let mut outputs = Vec::with_capacity(calls.len());
    for mut call in calls {
        call.as_mut().await;
        outputs.extend(call.as_mut().take_output());
    }
    outputs
}

/// A channel's name as a routing key. The client would panic at one of more than 255 bytes.
fn key(channel: &ChannelName) -> Result<ShortString> {
    ShortString::try_new(channel.as_str())
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))
}
