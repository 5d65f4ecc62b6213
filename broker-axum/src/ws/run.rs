//! Socket: one client, until either side ends.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use axum::{
    Error,
    extract::ws::{CloseFrame, Message, WebSocket},
};
use broker_core::CloseReason;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::{Encode, close};
use crate::ItemStream;

/// A longer pause is as good as none; beyond it, sums of times could overflow.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// A client that is silent for so many pings is gone.
const SILENT_PINGS: u32 = 3;
/// How long the client has to answer a close frame.
const GOODBYE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) send: Duration,
    pub(super) ping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { send: Duration::from_secs(10), ping: Duration::from_secs(20) }
    }
}

/// Why it ends.
enum End {
    /// The client is gone, or takes nothing: a close frame would reach no one.
    Gone,
    /// The client has said goodbye; the answer is still to be sent.
    Left,
    /// The client is closed with this. What it has sent beyond is not read: it is too much.
    Unread(CloseFrame),
    Close(CloseFrame),
}

/// See the module.
pub(super) struct Socket {
    socket: WebSocket,
    limits: Limits,
    pings: Interval,
    received: Instant,
}

impl Socket {
    pub(super) fn new(socket: WebSocket, limits: Limits) -> Self {
        let now = Instant::now();
        // A pause of zero is none.
        let limits = Limits { ping: limits.ping.clamp(Duration::from_millis(1), LONGEST), ..limits };
        let pause = limits.ping;
        let mut pings = interval_at(now + pause, pause);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { socket, limits, pings, received: now }
    }

    /// Forwards both ways until either side ends.
    pub(super) async fn run<S, F, Fut>(mut self, mut stream: S, mut encode: Encode<S>, mut receive: F)
    where
        S: ItemStream,
        F: FnMut(&str) -> Result<Fut, CloseFrame> + Send,
        Fut: Future<Output = Option<CloseFrame>> + Send,
    {
        let end = match self.forward(&mut stream, &mut encode, &mut receive).await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        // Neither is needed for the goodbye: the session may end, and others need not wait for that.
        drop((stream, receive));
        self.say_goodbye(end).await;
    }

    async fn forward<S, F, Fut>(
        &mut self,
        stream: &mut S,
        encode: &mut Encode<S>,
        receive: &mut F,
    ) -> Result<std::convert::Infallible, End>
    where
        S: ItemStream,
        F: FnMut(&str) -> Result<Fut, CloseFrame> + Send,
        Fut: Future<Output = Option<CloseFrame>> + Send,
    {
        let mut call: Option<Pin<Box<Fut>>> = None;
        loop {
            tokio::select! {
                item = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)) => match item {
                    Some(item) => {
                        if let Some(text) = encode(item) {
                            self.send(Message::Text(text.into())).await?;
                        }
                    }
                    None => return Err(End::Close(reason(stream.close_reason()))),
                },
                // One call at a time: what the client sends meanwhile waits in the socket.
                message = self.socket.recv(), if call.is_none() => {
                    if let Some(text) = self.received(message)? {
                        call = Some(Box::pin(receive(text.as_str()).map_err(End::Close)?));
                    }
                }
                outcome = finished(&mut call), if call.is_some() => {
                    call = None;
                    self.received = Instant::now();
                    if let Some(frame) = outcome {
                        return Err(self.rest(stream, encode, frame).await);
                    }
                }
                _ = self.pings.tick() => {
                    if call.is_none() && self.received.elapsed() > self.limits.ping * SILENT_PINGS {
                        return Err(End::Close(close(1001, "no answer to pings")));
                    }
                    self.send(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(self.limits.send, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    /// The text of a message, if it has one.
    fn received(
        &mut self,
        message: Option<Result<Message, Error>>,
    ) -> Result<Option<axum::extract::ws::Utf8Bytes>, End> {
        self.received = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => Ok(Some(text)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => Err(End::Close(close(1003, "text, not bytes"))),
            Some(Err(error)) => Err(broken(&error)),
            Some(Ok(Message::Close(_))) => Err(End::Left),
            None => Err(End::Gone),
        }
    }

    /// A call has asked for the end. Sends what lies ready in the stream before that; the reason of the stream counts, if
    /// it has ended as well: a post fails because the session is closed, and not the other way round.
    async fn rest<S: ItemStream>(
        &mut self,
        stream: &mut S,
        encode: &mut Encode<S>,
        frame: CloseFrame,
    ) -> End {
        loop {
            let item = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_next(cx))).await;
            match item {
                Poll::Ready(Some(item)) => {
                    if let Some(text) = encode(item)
                        && let Err(end) = self.send(Message::Text(text.into())).await
                    {
                        return end;
                    }
                }
                Poll::Ready(None) if stream.close_reason().is_some() => {
                    return End::Close(reason(stream.close_reason()));
                }
                Poll::Ready(None) | Poll::Pending => return End::Close(frame),
            }
        }
    }

    /// Sends the close frame, and waits for the answer; for a limited time.
    async fn say_goodbye(&mut self, end: End) {
        let (frame, unread) = match end {
            End::Gone => return,
            End::Left => (None, false),
            End::Close(frame) => (Some(frame), false),
            End::Unread(frame) => (Some(frame), true),
        };
        let goodbye = async {
            if let Some(frame) = frame
                && self.socket.send(Message::Close(Some(frame))).await.is_err()
            {
                return;
            }
            // Sends the answer to the client's close frame, too.
            while let Some(Ok(_)) = self.socket.recv().await {}
            if unread {
                // If the socket were closed while it holds bytes, the client would receive a reset instead.
                std::future::pending::<()>().await;
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }
}

async fn finished<Fut: Future>(call: &mut Option<Pin<Box<Fut>>>) -> Fut::Output {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// The close code of a stream's end.
fn reason(reason: Option<&CloseReason>) -> CloseFrame {
    match reason {
        Some(CloseReason::BrokerClosed) => close(1001, "the server shuts down; connect again"),
        Some(CloseReason::AuthenticationRevoked(_)) => close(4001, "the sign-in was revoked; sign in again"),
        Some(CloseReason::AuthenticationUncertain(_)) => {
            close(4001, "the sign-in cannot be checked; sign in again")
        }
        Some(CloseReason::Refused(_)) => close(1011, "the service failed"),
        _ => close(1000, "the end"),
    }
}

/// What the client did wrong; if that was not to leave. The type of the error is that of a dependency of axum, which may be
/// another one with the next version; without its text the code is another, nothing more.
fn broken(error: &Error) -> End {
    let text = error.to_string();
    if text.starts_with("Space limit exceeded") {
        End::Unread(close(1009, "the message is too large"))
    } else if text.starts_with("UTF-8") {
        End::Unread(close(1007, "not UTF-8"))
    } else if text.starts_with("WebSocket protocol error") && !text.contains("without closing handshake") {
        End::Unread(close(1002, "not the WebSocket protocol"))
    } else {
        End::Gone
    }
}
