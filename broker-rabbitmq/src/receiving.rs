//! Receiving: from the queue of a link to its inbox, for as long as the server delivers.

use std::time::Duration;

use broker_core::{Error, driver::Inbox};
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::{Channel as AmqpChannel, Consumer, Event, message::Delivery, options::BasicAckOptions};
use tokio::time::{Instant, timeout_at};

use crate::errors::Peer;

/// How many messages the server sends ahead of our acknowledgement. The client keeps what has arrived in a
/// buffer without a bound: this is its bound. 1,024 were no quicker; over a slow line it is what may be on its
/// way.
pub(crate) const WINDOW: u16 = 256;
/// How long the server may refuse to read from us before the link is given up, with the reason. Alarms that
/// flap are left alone: coming back costs a server more than waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Delivers until the link is lost, and reports that.
pub(crate) async fn receive(
    consumer: Consumer,
    acks: AmqpChannel,
    events: impl Stream<Item = Event> + Send,
    inbox: Inbox,
    peer: Peer,
) {
    let error = tokio::select! {
        error = deliver(consumer, &acks, &inbox, &peer) => error,
        error = trouble(events, &peer) => error,
    };
    inbox.lost(error);
}

async fn deliver(mut consumer: Consumer, acks: &AmqpChannel, inbox: &Inbox, peer: &Peer) -> Error {
    let mut unacknowledged = Unacknowledged::default();
    loop {
        let next = match consumer.next().now_or_never() {
            Some(next) => next,
            // Not left open until more comes: the server closes the channel of a consumer that keeps a
            // message for half an hour.
            None => {
                unacknowledged.acknowledge(acks);
                consumer.next().await
            }
        };
        let Delivery { delivery_tag, routing_key, data, .. } = match next {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return peer.error(&error),
            None => return peer.cancelled(),
        };
        inbox.deliver(routing_key.as_str(), data.into());
        unacknowledged.last = delivery_tag;
        unacknowledged.count += 1;
        if unacknowledged.count >= WINDOW / 4 {
            unacknowledged.acknowledge(acks);
        }
        // The stream is none of the runtime's: nothing else would make room for other tasks.
        tokio::task::coop::consume_budget().await;
    }
}

/// What was delivered since the last acknowledgement.
#[derive(Default)]
struct Unacknowledged {
    last: u64,
    count: u16,
}

impl Unacknowledged {
    /// One frame for all. It is queued here; when it is written does not matter.
    fn acknowledge(&mut self, acks: &AmqpChannel) {
        if self.count > 0 {
            self.count = 0;
            acks.basic_ack(self.last, BasicAckOptions { multiple: true }).now_or_never();
        }
    }
}

/// Waits until the publishing connection is lost, or the server has not read from it for too long.
async fn trouble(events: impl Stream<Item = Event>, peer: &Peer) -> Error {
    let mut events = std::pin::pin!(events);
    let mut wait = None;
    loop {
        let next = match wait {
            None => events.next().await,
            Some(deadline) => match timeout_at(deadline, events.next()).await {
                Ok(next) => next,
                Err(_) => return peer.blocked(),
            },
        };
        match next {
            Some(Event::ConnectionBlocked(_)) => wait = Some(Instant::now() + PATIENCE),
            Some(Event::ConnectionUnblocked) => wait = None,
            // A refusal closes one AMQP channel, and is told to whoever called.
            Some(Event::Error(error)) if !error.is_amqp_soft_error() => return peer.error(&error),
            Some(_) => {}
            None => return peer.gone(),
        }
    }
}
