//! Receiving: from the queue of a link to its inbox, for as long as the server delivers.

use std::{pin::pin, sync::Arc, time::Duration};

use broker_core::{Error, ErrorKind::Unavailable, driver::Inbox};
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::{Channel as AmqpChannel, Consumer, Event, options::BasicAckOptions};
use tokio::{task::coop::consume_budget, time::timeout};

use crate::address::Address;

/// How many messages the server sends ahead of our acknowledgement. The client keeps what has arrived in a
/// buffer without a bound: this is its bound. 1,024 were no quicker; over a slow line it is what may be on its
/// way.
pub(crate) const WINDOW: u16 = 256;
/// How many messages are acknowledged at once, if as many are there.
const CHUNK: usize = WINDOW as usize / 4;
/// How long the server may refuse to read from us before the link is given up, with the reason. Alarms that
/// flap are left alone: coming back costs a server more than waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Delivers until the link is lost, and reports that. `trouble` is that of the connection that publishes.
pub(crate) async fn receive(
    consumer: Consumer,
    acks: AmqpChannel,
    trouble: impl Future<Output = Error> + Send,
    inbox: Inbox,
    address: Arc<Address>,
) {
    let error = tokio::select! {
        error = deliver(consumer, &acks, &inbox, &address) => error,
        error = trouble => error,
    };
    inbox.lost(error);
}

async fn deliver(consumer: Consumer, acks: &AmqpChannel, inbox: &Inbox, address: &Address) -> Error {
    let mut chunks = consumer.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let mut last = None;
        for delivery in chunk {
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => return address.error(&error),
            };
            inbox.deliver(delivery.routing_key.as_str(), delivery.data.into());
            last = Some(delivery.delivery_tag);
            // The stream is none of the runtime's: nothing else would make room for other tasks.
            consume_budget().await;
        }
        // One frame for all; it is queued here, and when it is written does not matter. Not left open until more
        // comes: the server closes the channel of a consumer that keeps a message for half an hour.
        // Not by the delivery's own `ack`: the client sends those in any order, and the server ends the channel
        // over a number that is acknowledged already.
        if let Some(tag) = last {
            acks.basic_ack(tag, BasicAckOptions { multiple: true }).now_or_never();
        }
    }
    address.peer.error(Unavailable, "has deleted the queue of this link")
}

/// Waits until the publishing connection is lost, or the server has not read from it for too long.
pub(crate) async fn trouble(events: impl Stream<Item = Event> + Send, address: Arc<Address>) -> Error {
    let (mut events, mut limit) = (pin!(events), Duration::MAX);
    loop {
        match timeout(limit, events.next()).await {
            Ok(Some(Event::ConnectionBlocked(_))) => limit = PATIENCE,
            Ok(Some(Event::ConnectionUnblocked)) => limit = Duration::MAX,
            // A refusal closes one AMQP channel, and is returned to the caller.
            Ok(Some(Event::Error(error))) if !error.is_amqp_soft_error() => return address.error(&error),
            Ok(Some(_)) => {}
            Ok(None) => return address.peer.disconnected(),
            Err(_) => {
                let why = "takes no posts: it is low on memory or disk; see `rabbitmq-diagnostics alarms`";
                return address.peer.error(Unavailable, why);
            }
        }
    }
}
