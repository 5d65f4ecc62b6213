//! WebSocketForward: a typed stream over a WebSocket, and messages of the client to a function.

mod run;

use std::{fmt, future::Future, time::Duration};

use axum::{
    extract::ws::{CloseFrame, WebSocketUpgrade},
    response::{IntoResponse, Response},
};
use broker_core::{Error, ErrorKind, StreamItem};
use serde::de::DeserializeOwned;

use crate::{ItemStream, items::Shown};
use run::{Limits, Socket};

/// How many bytes may wait for a client that does not read, answers to its pings among them. Far more than a frame has: the
/// largest message, as JSON that is much longer than its payload.
const MAX_UNSENT: usize = 8 << 20;

/// Sends a typed stream to the client over a WebSocket, and hands what the client sends to a function of the application.
///
/// Each item is a text frame, unless [`encode`](Self::encode) says otherwise:
///
/// ```text
/// {"event":"message","id":"…","data":{"text":"hello"}}
/// {"event":"gap","data":{"missed":3,"cause":"overflow"}}
/// {"event":"unreadable","data":{"error":"wrong-type"}}
/// ```
///
/// with the same words as [`sse`](crate::sse). The cause of a gap is `overflow`, `link-lost`, `dropped` or `skipped`, after
/// which the client reads the present state anew; `conflated`, after which it need not, for the next message is the newest; or
/// `subscribed`, where a stream that did not wait begins. The end is a close code:
///
/// | code | when |
/// |---|---|
/// | 1000 | the session was closed, or the stream has ended without a reason |
/// | 1001 | this server shuts down: connect again; or the client has been silent, see [`ping_interval`](Self::ping_interval) |
/// | 1002, 1007, 1009 | the client broke the protocol; sent what is not the expected JSON; or too much at once |
/// | 1003 | the client sent bytes, or anything to a socket that only sends |
/// | 1011, 1013 | the service failed; or is overloaded or not available, so try again later |
/// | 4001 | the authentication was revoked, or became uncertain: sign in again |
///
/// Everything is bounded: the size of a message ([`max_message`](Self::max_message)), the time in which the client takes a
/// frame ([`send_timeout`](Self::send_timeout)), and its silence. Messages of the client are handled one after the
/// other: while the function works, nothing more is read from the socket, and the stream goes on. A client
/// that is slower than its stream misses messages and receives a gap.
///
/// It ends when the client leaves, when the stream ends, or when the function says so, and then all of it is dropped: the
/// stream, and the function, also in the middle of a call. There is one task for each socket, and none is left.
///
/// ```
/// use axum::{extract::WebSocketUpgrade, response::IntoResponse};
/// use broker::{Channel, Model, Scope};
/// use broker_axum::{HttpError, UserSession, WebSocketForward};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Said { by: String, text: String }
///
/// const ROOM: Channel<Said> = Channel::new("room");
///
/// async fn chat(user: UserSession, upgrade: WebSocketUpgrade) -> Result<impl IntoResponse, HttpError> {
///     let (name, session) = (user.name().to_owned(), user.into_session());
///     let said = session.create_stream(ROOM).await?;
///     Ok(WebSocketForward::new(upgrade, said).on_message(move |text: String| {
///         let (session, said) = (session.clone(), Said { by: name.clone(), text });
///         async move { session.post_message(ROOM, said, Scope::Global).await }
///     }))
/// }
/// # let _: axum::Router<broker::Broker> = axum::Router::new().route("/", axum::routing::any(chat));
/// ```
///
/// The stream is opened before the connection is upgraded, so that an error is still a response. `any` as the route's
/// method takes WebSockets over HTTP/2 as well as over HTTP/1.1.
///
/// Returned as it is, without [`on_message`](Self::on_message), it only sends.
#[must_use = "a handler returns it, or what `on_message` makes of it"]
pub struct WebSocketForward<S: ItemStream> {
    upgrade: WebSocketUpgrade,
    stream: S,
    encode: Encode<S>,
    limits: Limits,
    max_message: usize,
}

/// The frame of an item, if it is to have one.
type Encode<S> = Box<dyn FnMut(StreamItem<<S as ItemStream>::Model>) -> Option<String> + Send>;

impl<S: ItemStream> WebSocketForward<S> {
    /// Forwards this stream.
    pub fn new(upgrade: WebSocketUpgrade, stream: S) -> Self {
        Self {
            upgrade,
            stream,
            encode: Box::new(|item| Some(envelope(Shown::of(&item)))),
            limits: Limits::default(),
            max_message: 64 << 10,
        }
    }

    /// Makes the text of each frame, of at most 8 MiB; nothing is sent for `None`.
    pub fn encode(
        mut self,
        encode: impl FnMut(StreamItem<S::Model>) -> Option<String> + Send + 'static,
    ) -> Self {
        self.encode = Box::new(encode);
        self
    }

    /// The longest message that the client may send, in bytes; 64 KiB unless set. A longer one closes the socket with 1009,
    /// before it is received.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// How long a frame may take until the client's side has taken it; 10 s unless set. Then the connection is closed
    /// without a close code, for which there is no way either.
    pub fn send_timeout(mut self, limit: Duration) -> Self {
        self.limits.send = limit;
        self
    }

    /// How often the client is pinged; 20 s unless set. One of whom nothing has arrived during three of these pauses is
    /// gone.
    pub fn ping_interval(mut self, pause: Duration) -> Self {
        self.limits.ping = pause;
        self
    }

    /// Handles each message of the client: text that is JSON of the type `In`. What the function returns decides whether
    /// the socket stays open; see [`MessageOutcome`].
    pub fn on_message<In, F, Fut>(self, mut function: F) -> Response
    where
        In: DeserializeOwned + 'static,
        F: FnMut(In) -> Fut + Send + 'static,
        Fut: Future<Output: MessageOutcome> + Send + 'static,
    {
        self.start(move |text: &str| match serde_json::from_str(text) {
            Ok(message) => {
                let call = function(message);
                Ok(async move { call.await.close_with() })
            }
            Err(_) => Err(close(1007, "not the JSON that is expected here")),
        })
    }

    /// The same for a function of two arguments, a state and the message: each call gets a clone of the state.
    ///
    /// ```
    /// use axum::{extract::WebSocketUpgrade, response::IntoResponse};
    /// use broker::{Broker, Model, Scope, Session};
    /// use broker_axum::{HttpError, RequestSession, WebSocketForward};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Said { text: String }
    ///
    /// async fn say(session: Session, said: Said) -> broker::Result<broker::Receipt> {
    ///     session.post_message("room", said, Scope::Global).await
    /// }
    ///
    /// async fn chat(session: RequestSession, upgrade: WebSocketUpgrade) -> Result<impl IntoResponse, HttpError> {
    ///     let said = session.create_stream::<Said>("room").await?;
    ///     Ok(WebSocketForward::new(upgrade, said).on_message_with(session.0, say))
    /// }
    /// # let _: axum::Router<Broker> = axum::Router::new().route("/", axum::routing::any(chat));
    /// ```
    pub fn on_message_with<State, In, F, Fut>(self, state: State, mut function: F) -> Response
    where
        State: Clone + Send + 'static,
        In: DeserializeOwned + 'static,
        F: FnMut(State, In) -> Fut + Send + 'static,
        Fut: Future<Output: MessageOutcome> + Send + 'static,
    {
        self.on_message(move |message| function(state.clone(), message))
    }

    /// Upgrades the connection. The function begins the call for a message, or refuses it.
    fn start<F, Fut>(self, receive: F) -> Response
    where
        F: FnMut(&str) -> Result<Fut, CloseFrame> + Send + 'static,
        Fut: Future<Output = Option<CloseFrame>> + Send + 'static,
    {
        let Self { upgrade, stream, encode, limits, max_message } = self;
        upgrade
            .max_message_size(max_message)
            .max_frame_size(max_message)
            .max_write_buffer_size(MAX_UNSENT)
            .on_upgrade(move |socket| Socket::new(socket, limits).run(stream, encode, receive))
    }
}

impl<S: ItemStream> IntoResponse for WebSocketForward<S> {
    fn into_response(self) -> Response {
        self.start(|_| Err::<std::future::Ready<_>, _>(close(1003, "this socket takes no messages")))
    }
}

impl<S: ItemStream + fmt::Debug> fmt::Debug for WebSocketForward<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketForward")
            .field("stream", &self.stream)
            .field("limits", &self.limits)
            .field("max_message", &self.max_message)
            .finish_non_exhaustive()
    }
}

fn envelope(shown: Shown) -> String {
    match shown {
        // The id has hexadecimal digits only.
        Shown::Message { id: Some(id), json } => {
            format!(r#"{{"event":"message","id":"{id}","data":{json}}}"#)
        }
        Shown::Message { id: None, json } => format!(r#"{{"event":"message","data":{json}}}"#),
        Shown::Notice { event, json } => format!(r#"{{"event":"{event}","data":{json}}}"#),
    }
}

/// What a function of [`on_message`](WebSocketForward::on_message) may return, or rather its future.
///
/// - `()`: the socket stays open.
/// - A [`Result`] of anything and an [`Error`] of the broker, what a post returns for one: the error closes the socket, with
///   its [public message](Error::public_message) and the code 1007 for what is wrong with the message, 1009 if it is too
///   large, 1013 if it may be sent again later, 1001 if the broker is closed, 4001 if the authentication was revoked, else
///   1011. If the session was closed meanwhile, its reason counts.
/// - A [`Result`] of anything and a [`CloseFrame`]: closes it with that.
pub trait MessageOutcome: sealed::Sealed {
    /// What the socket is to be closed with.
    #[doc(hidden)]
    fn close_with(self) -> Option<CloseFrame>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<T> Sealed for Result<T, broker_core::Error> {}
    impl<T> Sealed for Result<T, axum::extract::ws::CloseFrame> {}
}

impl MessageOutcome for () {
    fn close_with(self) -> Option<CloseFrame> {
        None
    }
}

impl<T> MessageOutcome for Result<T, Error> {
    fn close_with(self) -> Option<CloseFrame> {
        let error = self.err()?;
        let code = match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::Codec => 1007,
            ErrorKind::TooLarge => 1009,
            ErrorKind::Closed => 1001,
            ErrorKind::Revoked => 4001,
            kind if kind.is_transient() => 1013,
            _ => 1011,
        };
        if code == 1011 || code == 1013 {
            tracing::warn!("a message of a WebSocket was not handled: {error}");
        }
        Some(close(code, error.public_message()))
    }
}

impl<T> MessageOutcome for Result<T, CloseFrame> {
    fn close_with(self) -> Option<CloseFrame> {
        self.err()
    }
}

/// The reason has room for 123 bytes.
fn close(code: u16, reason: &str) -> CloseFrame {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    CloseFrame { code, reason: reason[..end].into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_closes_with_the_code_of_its_error() {
        assert_eq!(().close_with(), None);
        assert_eq!(Ok::<_, Error>(7).close_with(), None);
        for (kind, code) in [
            (ErrorKind::InvalidInput, 1007),
            (ErrorKind::TooLarge, 1009),
            (ErrorKind::Closed, 1001),
            (ErrorKind::Revoked, 4001),
            (ErrorKind::Unavailable, 1013),
            (ErrorKind::Interrupted, 1013),
            (ErrorKind::Forbidden, 1011),
        ] {
            let frame = Err::<(), _>(Error::new(kind, "at 10.0.0.7")).close_with().unwrap();
            assert_eq!(frame.code, code, "{kind}");
            assert!(!frame.reason.contains("10.0.0.7") && frame.reason.len() <= 123, "{}", frame.reason);
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(close(1000, &"ü".repeat(80)).reason.as_str(), "ü".repeat(61));
    }
}
