//! Socket: one WebSocket, with the frames that wait to be written.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use broker_streams_wire::write_pong;
use futures_core::Stream;
use futures_util::{Sink, SinkExt};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::connector::Io;

/// How often the client says that it is there.
pub(crate) const PING: Duration = Duration::from_secs(20);
/// How long nothing at all may arrive.
pub(crate) const SILENCE: Duration = Duration::from_secs(40);

/// How long a socket has for its last frames and the other end's farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// One WebSocket. It is only driven by its owner: nothing is read or written between two polls.
pub(crate) struct Socket {
    ws: WebSocketStream<Box<dyn Io>>,
    waiting: VecDeque<Message>,
    bytes: usize,
    /// Answers to pings that wait behind other frames.
    pongs: usize,
    /// As many of those that wait may be written; `None`: all.
    until: Option<usize>,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Read {
    Text(Utf8Bytes),
    /// A frame of the WebSocket itself: a sign of life.
    Control,
    /// Closed by the other end, lost, or broken.
    Ended,
}

impl Socket {
    /// As many bytes may wait to be written before values of inputs do.
    const FULL: usize = 64 << 10;

    /// As many answers to pings may wait.
    const PONGS: usize = 64;

    pub(crate) fn new(ws: WebSocketStream<Box<dyn Io>>) -> Self {
        Self { ws, waiting: VecDeque::new(), bytes: 0, pongs: 0, until: None }
    }

    /// Puts a frame behind those that wait.
    pub(crate) fn push(&mut self, text: impl Into<Utf8Bytes>) {
        let text = text.into();
        self.bytes += text.len();
        self.waiting.push_back(Message::Text(text));
    }

    /// Answers a ping, unless many answers wait already: then the other end does not read them.
    pub(crate) fn pong(&mut self) {
        self.answer(|| write_pong(None));
    }

    /// The same with another word for it.
    pub(crate) fn answer<T: Into<Utf8Bytes>>(&mut self, pong: impl FnOnce() -> T) {
        if self.pongs < Self::PONGS {
            self.pongs += 1;
            self.push(pong());
        }
    }

    /// Writes what waits now, and nothing behind it before [`release`](Self::release).
    pub(crate) fn hold(&mut self) {
        self.until = Some(self.waiting.len());
    }

    pub(crate) fn release(&mut self) {
        self.until = None;
    }

    /// Whether so much waits to be written that nothing should be added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= Self::FULL
    }

    /// Reads a frame.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        Poll::Ready(match ready!(Pin::new(&mut self.ws).poll_next(cx)) {
            Some(Ok(Message::Text(text))) => Read::Text(text),
            // What is no text at all is no frame, and is found to be none.
            Some(Ok(Message::Binary(bytes))) => Read::Text(Utf8Bytes::try_from(bytes).unwrap_or_default()),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Read::Control,
            Some(Err(Error::Capacity(error))) => {
                tracing::warn!(%error, "the server has sent what is too long; raise max_frame if it may");
                Read::Ended
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => Read::Ended,
        })
    }

    /// Writes what waits. Ready when all of it is written; `Err` when the socket is lost.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let mut ws = Pin::new(&mut self.ws);
        while !self.waiting.is_empty() && self.until != Some(0) {
            ready!(ws.as_mut().poll_ready(cx)).map_err(drop)?;
            if let Some(message) = self.waiting.pop_front() {
                self.until = self.until.map(|left| left - 1);
                self.bytes = self.bytes.saturating_sub(message.len());
                ws.as_mut().start_send(message).map_err(drop)?;
            }
        }
        if self.waiting.is_empty() {
            self.pongs = 0;
        }
        ws.poll_flush(cx).map_err(drop)
    }

    /// Writes what waits, and reads one frame. Cancel safe.
    pub(crate) async fn exchange(&mut self) -> Read {
        poll_fn(|cx| match self.poll_write(cx) {
            Poll::Ready(Err(())) => Poll::Ready(Read::Ended),
            Poll::Ready(Ok(())) | Poll::Pending => self.poll_read(cx),
        })
        .await
    }

    /// Writes what waits, says farewell, and waits a second at most for the answer.
    pub(crate) async fn close(mut self, code: CloseCode) {
        self.release();
        let farewell = async {
            poll_fn(|cx| self.poll_write(cx)).await?;
            let frame = CloseFrame { code, reason: Utf8Bytes::default() };
            self.ws.send(Message::Close(Some(frame))).await.map_err(drop)?;
            while !matches!(poll_fn(|cx| self.poll_read(cx)).await, Read::Ended) {}
            Ok::<(), ()>(())
        };
        // In time or not, the socket goes.
        let _ = timeout(FAREWELL, farewell).await;
    }
}
