//! Link: one WebSocket, the frames that wait to be written to it, and its clock.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_streams_wire::write_bad_request;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Bytes, Message, Utf8Bytes,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    clock::{Clock, Due},
    outbox::Outbox,
    readable::Readable,
    watched::Watched,
};
use crate::{Limits, meter::Meter};

/// The time that a client has to answer the close of a socket.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A transport: what an upgraded connection is.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// How many bytes were written.
    fn written(&self) -> u64;
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for Watched<S> {
    fn written(&self) -> u64 {
        self.written()
    }
}

/// One WebSocket.
pub(crate) struct Link<S> {
    web: WebSocketStream<S>,
    pub(crate) readable: Readable,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) clock: Clock,
    meter: Meter,
    stall: Duration,
    /// What was written when the socket had last to wait.
    written: u64,
    /// Something was written that is not flushed.
    unflushed: bool,
    ping: bool,
}

/// How a socket ends.
pub(crate) enum Ending {
    /// Nothing can be written any more.
    Lost,
    /// The client has closed it.
    ClosedByClient,
    /// It is closed, with this code.
    Close(CloseCode, &'static str),
    /// A frame could not be read: this is said before the socket is closed.
    BadRequest(String),
}

impl<S: Transport> Link<S> {
    pub(crate) fn new(web: WebSocketStream<S>, limits: &Limits, meter: Meter) -> Self {
        Self {
            web,
            readable: Readable::new(),
            meter,
            outbox: Arc::new(Outbox::new(limits.unwritten_bytes)),
            clock: Clock::new(limits),
            stall: limits.stall,
            written: 0,
            unflushed: false,
            ping: false,
        }
    }

    /// The next text, with the waker of [`Readable`]. `None` for a frame of the WebSocket protocol, which is about the
    /// socket alone.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Utf8Bytes>, Ending>> {
        let text = self.web.poll_next_unpin(cx).map(text);
        if let Poll::Ready(Ok(Some(text))) = &text {
            self.meter.read(text.len());
        }
        text
    }

    /// Writes what waits, and flushes once. Whether more could be written.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        loop {
            match Pin::new(&mut self.web).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Ending::Lost),
                Poll::Pending => {
                    self.unflushed = true;
                    return Ok(self.stalled());
                }
            }
            let message = if std::mem::take(&mut self.ping) {
                Message::Ping(Bytes::new())
            } else {
                match self.outbox.take() {
                    Some(frame) => {
                        self.meter.written(&frame);
                        Message::Text(frame)
                    }
                    None => break,
                }
            };
            Pin::new(&mut self.web).start_send(message).map_err(|_| Ending::Lost)?;
            self.unflushed = true;
        }
        if !self.unflushed {
            return Ok(true);
        }
        match Pin::new(&mut self.web).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.clock.stall = None;
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Ending::Lost),
            Poll::Pending => Ok(self.stalled()),
        }
    }

    /// More cannot be written now. From the last byte on that was, the socket has a time in which one must be.
    fn stalled(&mut self) -> bool {
        let written = self.web.get_ref().written();
        if self.clock.stall.is_none() || written != self.written {
            self.written = written;
            self.clock.stall = Some(Instant::now() + self.stall);
        }
        false
    }

    /// Does what is due for every kind of socket; gives back what is not.
    pub(crate) fn on_time(&mut self, due: Due) -> Result<Option<Due>, Ending> {
        match due {
            Due::FirstFrame => Err(Ending::Close(CloseCode::Policy, "no frame has arrived")),
            Due::Stall if self.web.get_ref().written() != self.written => {
                self.stalled();
                Ok(None)
            }
            Due::Silence | Due::Stall => Err(Ending::Lost),
            Due::Ping => {
                self.ping = true;
                self.outbox.wake();
                Ok(None)
            }
            Due::Hold | Due::News => Ok(Some(due)),
        }
    }

    /// Closes the socket. What waits to be written is dropped.
    pub(crate) async fn end(&mut self, ending: Ending) {
        self.outbox.close();
        match ending {
            Ending::Lost => {}
            Ending::ClosedByClient => drop(timeout(CLOSE_LIMIT, self.web.close(None)).await),
            Ending::Close(code, reason) => self.say_goodbye(None, code, reason).await,
            Ending::BadRequest(text) => {
                let frame = write_bad_request(&text);
                self.meter.bad_frame();
                self.meter.written(&frame);
                self.say_goodbye(Some(frame), CloseCode::Protocol, "bad request").await;
            }
        }
    }

    async fn say_goodbye(&mut self, frame: Option<String>, code: CloseCode, reason: &'static str) {
        let close = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let goodbye = async {
            if let Some(frame) = frame {
                self.web.feed(Message::text(frame)).await?;
            }
            self.web.close(Some(close)).await?;
            // Until the client has answered: what it still sends is of no interest.
            while let Some(Ok(_)) = self.web.next().await {}
            Ok::<_, tungstenite::Error>(())
        };
        // Whether the client gets it is up to the client.
        drop(timeout(CLOSE_LIMIT, goodbye).await);
    }
}

/// The text of a message, or how the socket ends.
fn text(message: Option<Result<Message, tungstenite::Error>>) -> Result<Option<Utf8Bytes>, Ending> {
    use tungstenite::{
        Error,
        error::{CapacityError, ProtocolError},
    };
    match message {
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Binary(bytes))) => match Utf8Bytes::try_from(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Ending::BadRequest("a frame is no UTF-8".to_owned())),
        },
        Some(Ok(Message::Close(_))) => Err(Ending::ClosedByClient),
        Some(Ok(_)) => Ok(None),
        Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
            Err(Ending::Close(CloseCode::Size, "a frame is too long"))
        }
        Some(Err(Error::Utf8(_))) => Err(Ending::BadRequest("a frame is no UTF-8".to_owned())),
        // The end of the connection, without a word.
        Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Err(Ending::Lost),
        Some(Err(Error::Protocol(_))) => Err(Ending::Close(CloseCode::Protocol, "no WebSocket frame")),
        Some(Err(_)) | None => Err(Ending::Lost),
    }
}
