//! RabbitLink: one live pair of connections, and a queue of its own.

use std::sync::Arc;

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{DurableLog, Inbox, Inspection, Link, LinkInfo, LogCursor, LogPage, LogSpec, Outgoing, Receipt},
};
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{maybe_done, try_join3},
};
use lapin::{
    BasicProperties, Confirmation,
    options::{BasicPublishOptions, QueueBindOptions},
    types::{FieldTable, ShortString},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{address::Address, connection::Connection, driver::CAPABILITIES, log::Log};

/// One link. Dropping it ends its task and its socket, and with that the client's own tasks and thread.
pub(crate) struct RabbitLink {
    /// Owns the queue, so that only here it can be bound and consumed.
    pub(crate) receiver: Connection,
    pub(crate) publisher: Connection,
    pub(crate) log: Log,
    pub(crate) _receiving: AbortOnDropHandle<()>,
    /// Of the server that has the queue.
    pub(crate) address: Arc<Address>,
    /// Of the server that takes posts: of several another one.
    pub(crate) publisher_address: Arc<Address>,
    pub(crate) queue: ShortString,
    pub(crate) inbox: Inbox,
}

impl RabbitLink {
    /// Adds or removes bindings. The first error stands for all: the server answers nothing after it.
    async fn bind(&self, channels: &[ChannelName], add: bool) -> Result<()> {
        let control = self.receiver.channel().await;
        let answers = pipelined(channels.iter().map(async |channel| {
            let control = control.as_ref().map_err(Clone::clone)?;
            let (queue, exchange) = (self.queue.clone(), self.address.exchange.clone());
            let (key, plain) = (key(channel), FieldTable::default());
            if add {
                control.queue_bind(queue, exchange, key, QueueBindOptions::default(), plain).await
            } else {
                control.queue_unbind(queue, exchange, key, plain).await
            }
        }));
        let bound: lapin::Result<()> = answers.await.into_iter().collect();
        bound.map_err(|error| self.address.error(&error))
    }
}

#[async_trait]
impl Link for RabbitLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let publisher = self.publisher.channel().await;
        let confirms = pipelined(batch.iter().map(async |outgoing: &Outgoing| {
            let publisher = publisher.as_ref().map_err(Clone::clone)?;
            let (exchange, options) = (self.address.exchange.clone(), BasicPublishOptions::default());
            let plain = BasicProperties::default();
            let (key, frame) = (key(&outgoing.channel), outgoing.frame());
            publisher.basic_publish(exchange, key, options, &frame, plain).await?.await
        }));
        let confirms = confirms.await;
        let mut errors = confirms.iter().filter_map(|confirm| confirm.as_ref().err());
        let failure = errors.next().map(|error| {
            let translated = self.publisher_address.error(error);
            // A refusal closes the AMQP channel that it came by, and the link lives on. What was deleted took bindings
            // with it: that is none. The consumer detects a connection that is gone as well.
            let refusal = error.is_amqp_soft_error() && translated.kind() != ErrorKind::Unavailable;
            if !refusal {
                self.inbox.lost(translated.clone());
            }
            // The only frame without an answer is the one that was refused.
            let alone = refusal && errors.next().is_none();
            if alone { translated } else { Error::new(ErrorKind::Interrupted, translated.message()) }
        });
        let outcomes = confirms.iter().map(|confirm| match (confirm, &failure) {
            (Err(_), Some(failure)) => Err(failure.clone()),
            // It says no when one of the queues does: others may have taken it.
            (Ok(Confirmation::Nack(_)), _) => {
                let why = "has not taken the message for every queue that is bound to this channel: one is full, or \
                           failed; see its log";
                Err(self.publisher_address.peer.error(ErrorKind::Interrupted, why))
            }
            _ => Ok(Receipt::new()),
        });
        outcomes.collect()
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.bind(channels, true).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.bind(channels, false).await
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(self)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        LinkInfo::new(CAPABILITIES)
    }

    /// A stream is on disk, always. The server does not report its time.
    async fn inspect(&self, _: &LogSpec) -> Inspection {
        Inspection::new(None, Some(true))
    }

    /// The server deletes the queue, and with it the bindings, before it answers.
    async fn close(&self) -> Result<()> {
        let closed = try_join3(self.publisher.close(), self.receiver.close(), self.log.close()).await;
        closed.map(drop).map_err(|error| self.address.error(&error))
    }
}

#[async_trait]
impl DurableLog for RabbitLink {
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        self.log.append(log, &record).await
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        self.log.page(log, after).await
    }
}

/// Begins all calls in their order, and then waits for each: one round trip for all. A call queues its frame
/// when it is first polled; a joined future would not promise in which order that is.
async fn pipelined<F: Future>(calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<_> = calls.map(|call| Box::pin(maybe_done(call))).collect();
    for call in &mut calls {
        call.now_or_never();
    }
    let mut outputs = Vec::with_capacity(calls.len());
    for mut call in calls {
        call.as_mut().await;
        outputs.extend(call.as_mut().take_output());
    }
    outputs
}

/// A channel's name as a routing key. The client would panic at one of more than 255 bytes: core has none.
fn key(channel: &ChannelName) -> ShortString {
    channel.as_str().into()
}
