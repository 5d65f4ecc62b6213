//! The raw RabbitMQ client: one connection that posts and waits for each confirm, one that receives without acknowledging.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::task::JoinSet;

use super::{Received, Wire, names};
use crate::Outcome;

const EXCHANGE: &str = "amq.direct";

pub(super) struct Raw {
    publisher: Channel,
    _connections: [Connection; 2],
    keys: Vec<ShortString>,
    received: Arc<Received>,
    _readers: JoinSet<()>,
}

impl Wire for Raw {
    async fn open(url: &str, channels: usize) -> Outcome<Self> {
        let posting = Connection::connect(url, ConnectionProperties::default()).await?;
        let publisher = posting.create_channel().await?;
        publisher.confirm_select(ConfirmSelectOptions::default()).await?;

        let consuming = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = consuming.create_channel().await?;
        let (own, plain) =
            (QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default);
        let queue = channel.queue_declare("".into(), own, plain()).await?.name().clone();
        let keys: Vec<ShortString> = names("raw ", channels).into_iter().map(ShortString::from).collect();
        for key in &keys {
            let bind = QueueBindOptions::default();
            channel.queue_bind(queue.clone(), EXCHANGE.into(), key.clone(), bind, plain()).await?;
        }
        let silent = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut consumer = channel.basic_consume(queue, "".into(), silent, plain()).await?;
        let (received, mut readers) = (Received::new()?, JoinSet::new());
        let noting = Arc::clone(&received);
        readers.spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                noting.note(|| delivery.data);
            }
            drop(channel);
        });
        Ok(Self { publisher, _connections: [posting, consuming], keys, received, _readers: readers })
    }

    async fn post(&self, caller: usize, payload: Bytes) -> Outcome {
        let (options, plain) = (BasicPublishOptions::default(), BasicProperties::default());
        let key = self.keys[caller % self.keys.len()].clone();
        let posted = self.publisher.basic_publish(EXCHANGE.into(), key, options, &payload, plain);
        posted.await?.await?;
        Ok(())
    }

    async fn flush(&self) -> Outcome {
        Ok(())
    }

    fn received(&self) -> &Received {
        &self.received
    }
}
