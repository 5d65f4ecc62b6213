//! How a bare payload leaves the caller, for programs that are no nodes.

use bytes::Bytes;

use super::{Broker, publish::Target};
use crate::{
    AsChannelName, Error, ErrorKind, Post, Result, Scope,
    driver::Receipt,
    message::raw::form_of,
    wire::{frame, names::Names},
};

impl Broker {
    /// Posts a payload without a frame, for programs that are no nodes: `redis-cli SUBSCRIBE`, or a service in another
    /// language, receives these bytes and nothing else. Nodes that [accept](crate::Options::accept_raw) them on this channel
    /// receive a message, this one among them, as it comes back from the backend.
    ///
    /// It has no type, no headers, no sender and no number: a loss of one is not detected, and there is no gap. Its order among
    /// the other posts of this node is kept. Global always. [`Raw::encode`](crate::Raw::encode) makes the payload of a value.
    /// Not cancel safe: a dropped call may or may not have sent it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Event, Options, Raw};
    ///
    /// let options = Options::default().accept_raw("sensors.", Raw::Bytes);
    /// let broker = broker::connect_with("memory:", options).await?;
    /// let mut received = broker.subscribe("sensors.1").await?;
    /// broker.post_raw("sensors.1", "21.5").await?;
    /// let Some(Event::Message(message)) = received.next().await else { panic!("a message") };
    /// assert_eq!((message.payload()?, message.sequence()), ("21.5".into(), None));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a channel that this node does not accept it on, an empty payload, and
    /// one that begins as a frame does (`B5` or `B6`, which no text does); otherwise as
    /// [`Session::post_message`](crate::Session::post_message).
    pub async fn post_raw(
        &self,
        channel: impl AsChannelName + Send,
        payload: impl Into<Bytes> + Send,
    ) -> Result<Receipt> {
        let (channel, payload) = (channel.channel_name(), payload.into());
        self.send_bare(channel, payload).await.map_err(|error| self.at("post_raw", channel, error))
    }

    async fn send_bare(&self, channel: &str, payload: Bytes) -> Result<Receipt> {
        let Some(backend) = self.accept(Target::Name(channel), Scope::Global)? else {
            return Ok(Receipt::new());
        };
        if form_of(&self.0.options.raw, channel).is_none() {
            let message = "no payloads without a frame are accepted on this channel; declare it with Options::accept_raw";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if payload.is_empty() || frame::is_frame(&payload) {
            let message =
                "a bare payload is not empty, and does not begin with the byte B5 or B6; post it in a frame";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Post::new(payload.clone()).check(&self.0.options)?;
        let wire_name = Names::new(&self.0.options.prefix).to_wire(channel);
        backend.outbox.post_bare(wire_name, payload).await
    }
}
