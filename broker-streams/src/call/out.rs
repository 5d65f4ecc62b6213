//! Out: the sending end of a method's stream.

use std::{error::Error, fmt, future::poll_fn, marker::PhantomData, sync::Arc};

use broker_core::{Gap, Model, Received, StreamError};
use broker_model::{Failure, Value};
use broker_streams_wire::write_gap;
use futures_core::Stream;
use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::state::CallState;

/// The sending end of a method's stream to the client. Every value goes out in the order of sending.
///
/// ```
/// # use broker_streams::{Failure, Out};
/// async fn count(out: Out<i64>) -> Result<(), Failure> {
///     for number in 1..=3 {
///         out.send(number).await?; // waits while the client is behind
///     }
///     Ok(())
/// }
/// # let _ = broker_streams::Endpoint::new("numbers").method("count", count);
/// ```
pub struct Out<T> {
    call: Arc<CallState>,
    values: PhantomData<fn(T)>,
}

impl<T> Out<T> {
    pub(crate) const fn new(call: Arc<CallState>) -> Self {
        Self { call, values: PhantomData }
    }
}

impl<T: Value> Out<T> {
    /// Sends a value. Waits while a window of values is under way to the client, or many bytes wait to be written to its
    /// socket. So a slow client makes this call wait, and no other.
    ///
    /// Cancel safe: a dropped call has sent nothing.
    ///
    /// # Errors
    /// [`SendError::Unwritable`] for what JSON cannot write, a map whose keys are lists for instance (NaN and infinities are
    /// written as `null`, which a client that expects a number cannot read); [`SendError::Closed`] when the call has
    /// ended, for whom has taken this out of its method.
    pub async fn send(&self, value: T) -> Result<(), SendError> {
        let frame = self.frame(&value, None);
        drop(value);
        self.send_frame(frame?).await
    }

    /// The same with a position behind it, from which the method can go on in a later call: see [`Cursor`](crate::Cursor).
    /// A client without the extension `x1` does not receive the position.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_at(&self, value: T, cursor: impl fmt::Display + Send) -> Result<(), SendError> {
        // Not under the lock: the position may look at its call when it is written.
        let extended = self.call.lock().is_x1();
        let cursor = extended.then(|| cursor.to_string());
        let frame = self.frame(&value, cursor.as_deref());
        drop(value);
        self.send_frame(frame?).await
    }

    fn frame(&self, value: &T, cursor: Option<&str>) -> Result<Vec<u8>, SendError> {
        let written = self.call.values().write(&value.class_name(), cursor, |json| value.encode(json));
        written.map_err(SendError::Unwritable)
    }

    async fn send_frame(&self, frame: Vec<u8>) -> Result<(), SendError> {
        let frame = Some(Utf8Bytes::from(String::from_utf8(frame).map_err(|_| SendError::NoText)?));
        let mut sending = Sending { call: &self.call, frame };
        poll_fn(|cx| self.call.poll_send(cx, &mut sending.frame)).await.ok_or(SendError::Closed)
    }

    /// Reports that values may be missing here, in its place between the values. `false` if the client has not agreed on `x1`:
    /// then the method sends what makes the client whole again, or fails.
    ///
    /// # Errors
    /// [`SendError::Closed`], as [`send`](Self::send).
    pub async fn gap(&self, gap: &Gap) -> Result<bool, SendError> {
        if !self.call.lock().is_x1() {
            return Ok(false);
        }
        let frame = write_gap(&self.call.target(), gap.missed, gap.cause.as_str());
        self.send_frame(frame.into_bytes()).await?;
        self.call.server.meter.gap();
        Ok(true)
    }
}

/// A frame that is to be sent.
struct Sending<'a> {
    call: &'a CallState,
    frame: Option<Utf8Bytes>,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if self.frame.is_some() {
            // Given up: the next frame has not waited since then.
            self.call.lock().forget_wait();
        }
    }
}

impl<T: Model> Out<T> {
    /// Sends a value that was received from a channel. It is encoded once for all clients of this process.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn forward(&self, received: &Received<T>) -> Result<(), SendError> {
        let json = received.json().map_err(|error| SendError::Codec(Box::new(error)))?;
        let frame = self.call.values().wrap(T::NAME, &json);
        drop(json);
        self.send_frame(frame).await
    }

    /// Forwards a stream of a channel until it ends. A gap becomes a gap of the client's stream; for a client that has no
    /// word for it the call fails, so that it calls again. An item that is no `T` is logged and passed over.
    ///
    /// # Errors
    /// As [`send`](Self::send), and the failure for a gap.
    pub async fn relay<S>(&self, stream: S) -> Result<(), Failure>
    where
        S: Stream<Item = Result<Received<T>, StreamError>> + Send,
    {
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = stream.next().await {
            match item {
                Ok(received) => self.forward(&received).await?,
                Err(StreamError::Gap(gap)) => {
                    if !self.gap(&gap).await? {
                        self.call.server.meter.gap();
                        return Err(super::gap_failure(&gap));
                    }
                }
                Err(other) => tracing::warn!(%other, "an item of a relayed stream was passed over"),
            }
        }
        Ok(())
    }
}

impl<T> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("call", &self.call.id).finish_non_exhaustive()
    }
}

/// Why a value was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// JSON cannot write the value.
    Unwritable(serde_json::Error),
    /// A received value cannot be written as JSON.
    Codec(Box<broker_core::Error>),
    /// The implementation of [`Value`] has written something that is no text.
    NoText,
    /// The call, or the connection, has ended.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable(error) => write!(f, "the value cannot be written as JSON: {error}"),
            Self::Codec(error) => write!(f, "the received value cannot be written as JSON: {error}"),
            Self::NoText => f.write_str("what was written for the value is no UTF-8"),
            Self::Closed => f.write_str("the call, or the connection, has ended"),
        }
    }
}

impl Error for SendError {}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::internal(error)
    }
}
