//! One socket: a task that reads frames, runs the calls, and writes what they send.

mod clock;
mod inbound;
pub(crate) mod outbox;
mod readable;
mod refresh;
mod resume;
mod stop;

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_streams_wire::{CallId, Cause, Extension, Why, write_bad_request};
use futures_util::{FutureExt, Sink, SinkExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Bytes, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    auth::Head,
    call::state::{CallState, End},
    park::Running,
    server::Server,
};
use clock::{Clock, Due};
use outbox::Outbox;
use readable::Readable;
use stop::Stage;

/// The time that a client has to answer the close of a socket.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// What a client is told when its socket is closed for that.
const STOPPING: &str = "the server is going to stop";
/// Frames that are read before the calls have their turn.
const READ_AT_ONCE: usize = 64;
/// Turns before other tasks have theirs.
const TURNS: usize = 16;
/// The time after which a client learns what was consumed, if it is less than half a window.
const NEWS: Duration = Duration::from_secs(1);

/// A transport: what an upgraded connection is.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// One socket.
pub(crate) struct Socket<S> {
    web: WebSocketStream<S>,
    readable: Readable,
    server: Arc<Server>,
    head: Arc<Head>,
    outbox: Arc<Outbox>,
    calls: FuturesUnordered<Running>,
    table: HashMap<CallId, Arc<CallState>>,
    /// Calls that have ended, and whose clients would resume them, since they have not yet consumed the end.
    tails: VecDeque<Arc<CallState>>,
    resuming: Option<resume::Resuming>,
    refreshing: Option<refresh::Refreshing>,
    /// Calls that were resumed here, until the client has shown that it knows.
    resumed: Vec<Arc<CallState>>,
    /// A clone for each call that is being opened.
    opens: Arc<()>,
    /// `None` until a frame has decided.
    extension: Option<Extension>,
    /// Streams of no open call whose values were answered.
    strays: VecDeque<(CallId, Box<str>)>,
    /// The input that is full, since which the socket is not read.
    full: Option<(Arc<CallState>, usize)>,
    clock: Clock,
    /// Something was written that is not flushed.
    unflushed: bool,
    ping: bool,
    /// What the server does next on its way to stop.
    stage: Stage,
    next_stage: Pin<Box<WaitForCancellationFutureOwned>>,
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

impl<S: Transport> Socket<S> {
    pub(crate) fn new(web: WebSocketStream<S>, server: Arc<Server>, head: Head) -> Self {
        Self {
            outbox: Arc::new(Outbox::new(server.limits.unwritten_bytes)),
            clock: Clock::new(&server.limits),
            next_stage: Box::pin(server.draining.clone().cancelled_owned()),
            web,
            readable: Readable::new(),
            server,
            head: Arc::new(head),
            calls: FuturesUnordered::new(),
            table: HashMap::new(),
            tails: VecDeque::new(),
            resuming: None,
            refreshing: None,
            resumed: Vec::new(),
            opens: Arc::new(()),
            extension: None,
            strays: VecDeque::new(),
            full: None,
            unflushed: false,
            ping: false,
            stage: Stage::Serving,
        }
    }

    /// Serves the socket until its end, which is also that of its calls.
    pub(crate) async fn run(mut self) {
        let ending = poll_fn(|cx| self.poll(cx)).await;
        if matches!(ending, Ending::Lost) {
            self.park_calls();
        }
        for call in self.table.values() {
            call.end(End::SocketLost);
        }
        while self.calls.next().await.is_some() {}
        // The calls have nothing to say any more; what waits of them is not worth the time.
        self.outbox.close();
        match ending {
            Ending::Lost => {}
            Ending::ClosedByClient => drop(timeout(CLOSE_LIMIT, self.web.close(None)).await),
            Ending::Close(code, reason) => self.say_goodbye(None, code, reason).await,
            Ending::BadRequest(text) => {
                let frame = write_bad_request(&text);
                self.say_goodbye(Some(frame), CloseCode::Protocol, "bad request").await;
            }
        }
    }

    async fn say_goodbye(&mut self, frame: Option<String>, code: CloseCode, reason: &'static str) {
        let close = CloseFrame { code, reason: tungstenite::Utf8Bytes::from_static(reason) };
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.outbox.begin(cx);
        if self.outbox.is_cut() {
            return Poll::Ready(Ending::Lost);
        }
        for _ in 0..TURNS {
            self.outbox.clear();
            match self.turn(cx) {
                Ok(Turn::Again) => {}
                Ok(Turn::Wait { can_write }) if self.outbox.may_wait(can_write) => return Poll::Pending,
                Ok(Turn::Wait { .. }) => {}
                Err(ending) => return Poll::Ready(ending),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads, lets the calls run, writes, and looks at the clock.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Ending> {
        let read_all = self.poll_read(cx)?;
        while let Poll::Ready(Some(id)) = self.calls.poll_next_unpin(cx) {
            let ended = self.table.remove(&id);
            self.keep_tail(ended);
        }
        self.poll_resume(cx);
        self.poll_refresh(cx);
        while self.next_stage.poll_unpin(cx).is_ready() {
            if !self.on_next_stage() {
                return Err(Ending::Close(CloseCode::Restart, STOPPING));
            }
            self.outbox.wake();
        }
        let can_write = self.poll_write(cx)?;
        // Behind the writing, so that what the calls had to say is written.
        if self.stage != Stage::Serving && self.table.is_empty() && can_write {
            return Err(Ending::Close(CloseCode::Restart, STOPPING));
        }
        self.expect_news();
        while let Poll::Ready(due) = self.clock.poll(cx, &self.server.limits) {
            self.on_time(due)?;
        }
        // What was not read for the answers that waited can be read, if they are written.
        let go_on = !read_all || (can_write && self.readable.is_set() && self.may_read());
        Ok(if go_on { Turn::Again } else { Turn::Wait { can_write } })
    }

    /// Whether all that has arrived was read, or must not be read now.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if let Some((call, place)) = &self.full {
            let bytes = call.lock().inputs.get(*place).map_or(0, |input| input.bytes());
            if bytes >= self.server.limits.window_bytes {
                return Ok(true);
            }
            self.full = None;
            self.clock.hold = None;
        }
        if !self.readable.take(cx) {
            return Ok(true);
        }
        let waker = self.readable.waker();
        let cx = &mut Context::from_waker(&waker);
        for count in 0..READ_AT_ONCE {
            if !self.may_read() {
                self.readable.put_back();
                return Ok(true);
            }
            let Poll::Ready(message) = self.web.poll_next_unpin(cx) else { return Ok(true) };
            if count == 0 {
                self.clock.last_read = Instant::now();
            }
            self.on_message(message)?;
        }
        self.readable.put_back();
        Ok(false)
    }

    /// Whether the client may make the server do more.
    fn may_read(&self) -> bool {
        let opens = Arc::strong_count(&self.opens) - 1;
        self.full.is_none() && opens < self.server.limits.opens && self.outbox.may_answer()
    }

    fn on_message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), Ending> {
        use tungstenite::{
            Error,
            error::{CapacityError, ProtocolError},
        };
        match message {
            Some(Ok(Message::Text(text))) => self.on_text(&text),
            Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.on_text(text),
                Err(_) => Err(Ending::BadRequest("a frame is no UTF-8".to_owned())),
            },
            Some(Ok(Message::Close(_))) => Err(Ending::ClosedByClient),
            Some(Ok(_)) => Ok(()),
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

    /// Writes what waits, and flushes once. Whether more could be written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
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
                    Some(frame) => Message::Text(frame),
                    None => break,
                }
            };
            Pin::new(&mut self.web).start_send(message).map_err(|_| Ending::Lost)?;
            self.clock.stall = None;
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

    /// From now on the socket has a time in which something must be written. More cannot be written now.
    fn stalled(&mut self) -> bool {
        let limit = self.server.limits.stall;
        self.clock.stall.get_or_insert_with(|| Instant::now() + limit);
        false
    }

    fn on_time(&mut self, due: Due) -> Result<(), Ending> {
        match due {
            Due::FirstFrame => Err(Ending::Close(CloseCode::Policy, "no frame has arrived")),
            Due::Silence | Due::Stall => Err(Ending::Lost),
            Due::Ping => {
                self.ping = true;
                self.outbox.wake();
                Ok(())
            }
            Due::Hold => {
                // The others of this socket have waited long enough.
                if let Some((call, _)) = self.full.take() {
                    call.end(End::Why(Why::new(Cause::Limit)));
                }
                self.outbox.wake();
                Ok(())
            }
            Due::News => {
                self.tell_news();
                Ok(())
            }
        }
    }

    /// Sets the time at which a client learns what was consumed, where that is less than half a window.
    fn expect_news(&mut self) {
        if self.outbox.has_news() {
            self.clock.news.get_or_insert_with(|| Instant::now() + NEWS);
        }
    }

    fn tell_news(&self) {
        self.outbox.forget_news();
        for call in self.table.values() {
            for input in &mut call.lock().inputs {
                if let Some(got) = input.news(1) {
                    let frame = broker_streams_wire::write_flow(call.id, Some(input.name()), got);
                    self.outbox.control(frame.into());
                }
            }
        }
    }
}

/// What comes after a turn.
enum Turn {
    Again,
    Wait { can_write: bool },
}
