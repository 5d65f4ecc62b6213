//! Peer: a client's connection, as one endpoint sees it.

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::Arc,
};

use broker_core::{Model, Received, Session};
use broker_model::Value;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Entry, frame, shared::Shared};
use crate::{SendError, server::Server};

/// A client's connection, as one [endpoint](crate::StreamingEndpoint) sees it. Cloning is cheap; what outlives the connection
/// sends nothing any more.
#[derive(Clone)]
pub struct Peer {
    connection: Arc<Shared>,
    place: usize,
}

impl Peer {
    pub(super) const fn new(connection: Arc<Shared>, place: usize) -> Self {
        Self { connection, place }
    }

    pub(super) fn server(&self) -> &Server {
        &self.connection.server
    }

    fn entry(&self) -> &Entry {
        &self.connection.server.streaming[self.place]
    }

    /// The endpoint that it is used by.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.entry().name
    }

    /// The session of the connection's user, or an anonymous one: all endpoints of the connection share it. What is opened through it
    /// ends with the connection, or before that when the client signs out; and when the authentication is revoked.
    ///
    /// Its [identity](Session::identity) is who the client is. A client may sign in on the live connection, and has another session
    /// since then.
    #[must_use = "it is there to be used"]
    pub fn session(&self) -> Session {
        self.connection.session()
    }

    /// Sends a message to the client, from this endpoint. Waits while many bytes wait to be written to the connection. Every message
    /// goes out in the order of sending.
    ///
    /// Cancel safe: a dropped call has sent nothing.
    ///
    /// # Errors
    /// [`SendError::Unwritable`] for what JSON cannot write; [`SendError::Closed`] when the connection is over.
    pub fn send_stream_message<'a, T: Value>(
        &'a self,
        message: &T,
    ) -> impl Future<Output = Result<(), SendError>> + Send + use<'a, T> {
        let text = frame::write(&self.entry().before, &message.class_name(), |json| message.encode(json));
        self.send(text.map_err(SendError::Unwritable))
    }

    /// Sends a message that was received from a channel. It is encoded once for all clients of this process.
    ///
    /// # Errors
    /// As [`send_stream_message`](Self::send_stream_message), and [`SendError::Codec`].
    pub async fn forward<T: Model>(&self, received: &Received<T>) -> Result<(), SendError> {
        let json = received.json().map_err(|error| SendError::Codec(Box::new(error)))?;
        let text = frame::write(&self.entry().before, T::NAME, |text| {
            text.extend_from_slice(&json);
            Ok::<_, SendError>(())
        });
        self.send(text).await
    }

    async fn send(&self, text: Result<Vec<u8>, SendError>) -> Result<(), SendError> {
        let mut frame = Some(Utf8Bytes::from(String::from_utf8(text?).map_err(|_| SendError::NoText)?));
        let sent = poll_fn(|cx| self.connection.outbox.poll_send(cx, &mut frame)).await;
        if sent { Ok(()) } else { Err(SendError::Closed) }
    }

    /// Waits until the server begins to stop. The connection lives a little longer then.
    pub async fn draining(&self) {
        self.connection.server.draining.cancelled().await;
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}
