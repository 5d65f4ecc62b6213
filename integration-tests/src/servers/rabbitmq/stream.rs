//! Stream: where a stream of a RabbitMQ begins and ends, around the driver under test.

use broker_conformance::wait::within;
use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

/// A stream, by a connection of its own.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Connection,
    name: ShortString,
}

impl Stream {
    /// Connects to a stream that is there.
    pub(crate) async fn open(url: &str, name: &str) -> Result<Self, String> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        Ok(Self { connection: connection.map_err(|error| error.to_string())?, name: name.into() })
    }

    /// The offset of the oldest message.
    pub(crate) async fn first(&self) -> Result<i64, String> {
        within("the oldest message", self.offset("first")).await?.map_err(|error| error.to_string())
    }

    /// The offset of one of the newest messages: the first of those that were stored together.
    pub(crate) async fn last(&self) -> Result<i64, String> {
        within("the newest message", self.offset("last")).await?.map_err(|error| error.to_string())
    }

    async fn offset(&self, from: &str) -> lapin::Result<i64> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), AMQPValue::LongString(from.into()));
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        let mut messages = channel.basic_consume(self.name.clone(), tag, options, arguments).await?;
        let message = messages.next().await.transpose()?;
        let properties = message.as_ref().map(|message| &message.properties);
        let headers = properties.and_then(|properties| properties.headers().as_ref());
        let offset = headers.and_then(|headers| headers.inner().get("x-stream-offset"));
        Ok(offset.and_then(AMQPValue::as_long_long_int).unwrap_or(-1))
    }
}
