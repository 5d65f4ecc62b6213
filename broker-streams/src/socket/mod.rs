//! One socket: a task that reads frames, runs the calls, and writes what they send.

mod clock;
mod inbound;
pub(crate) mod link;
pub(crate) mod outbox;
mod readable;
mod refresh;
mod resume;
mod stop;
pub(crate) mod turns;
pub(crate) mod watched;

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    hash::RandomState,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use broker_streams_wire::{CallId, Cause, Extension, Why};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::frame::coding::CloseCode};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    auth::Head,
    call::state::{CallState, End},
    park::Running,
    server::Server,
};
use clock::Due;
use link::{Ending, Link, Transport};
use outbox::Outbox;
use stop::Stage;
use turns::{Turn, Turns};

/// What a client is told when its socket is closed for that.
pub(crate) const STOPPING: &str = "the server is going to stop";
/// Frames that are read before the calls have their turn.
pub(crate) const READ_AT_ONCE: usize = 64;
/// The time after which a client learns what was consumed, if it is less than half a window.
const NEWS: Duration = Duration::from_secs(1);

/// One socket.
pub(crate) struct Socket<S> {
    link: Link<S>,
    server: Arc<Server>,
    head: Arc<Head>,
    outbox: Arc<Outbox>,
    calls: FuturesUnordered<Running>,
    /// What they are polled with: it notes that there is a call to be polled.
    calls_waker: Waker,
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
    strays: VecDeque<(CallId, u64)>,
    hasher: RandomState,
    /// The input that is full, since which the socket is not read.
    full: Option<(Arc<CallState>, usize)>,
    /// What the server does next on its way to stop.
    stage: Stage,
    next_stage: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: Transport> Socket<S> {
    /// In a box: futures that move it have room for it twice.
    pub(crate) fn new(web: WebSocketStream<S>, server: Arc<Server>, head: Head) -> Box<Self> {
        let link = Link::new(web, &server.limits, server.meter.clone());
        Box::new(Self {
            outbox: Arc::clone(&link.outbox),
            next_stage: Box::pin(server.draining.clone().cancelled_owned()),
            server,
            head: Arc::new(head),
            calls: FuturesUnordered::new(),
            calls_waker: Waker::from(Arc::clone(&link.outbox)),
            link,
            table: HashMap::new(),
            tails: VecDeque::new(),
            resuming: None,
            refreshing: None,
            resumed: Vec::new(),
            opens: Arc::new(()),
            extension: None,
            strays: VecDeque::new(),
            hasher: RandomState::new(),
            full: None,
            stage: Stage::Serving,
        })
    }

    /// Serves the socket until its end, which is also that of its calls.
    pub(crate) async fn run(mut self: Box<Self>) {
        let ending = poll_fn(|cx| self.poll(cx)).await;
        if matches!(ending, Ending::Lost) {
            self.park_calls();
        }
        if let Some(resuming) = self.resuming.take() {
            // Calls that are on their way here must not be lost with the socket.
            self.server.parked.spawn(resume::give_back(resuming));
        }
        for call in self.table.values() {
            call.end(End::SocketLost);
        }
        while self.calls.next().await.is_some() {}
        // The calls have nothing to say any more; what waits of them is not worth the time.
        self.link.end(ending).await;
    }
}

impl<S: Transport> Turns for Socket<S> {
    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Ending> {
        if self.outbox.is_cut() {
            return Err(Ending::Lost);
        }
        let read_all = self.poll_read(cx)?;
        let calls_yield = self.poll_calls();
        self.poll_resume(cx);
        self.poll_refresh(cx);
        while self.next_stage.poll_unpin(cx).is_ready() {
            if !self.on_next_stage() {
                return Err(Ending::Close(CloseCode::Restart, STOPPING));
            }
            self.outbox.wake();
        }
        let can_write = self.link.poll_write(cx)?;
        // Behind the writing, so that what the calls had to say is written.
        if self.stage != Stage::Serving && self.table.is_empty() && can_write {
            return Err(Ending::Close(CloseCode::Restart, STOPPING));
        }
        self.expect_news();
        while let Poll::Ready(due) = self.link.clock.poll(cx, &self.server.limits) {
            self.on_time(due)?;
        }
        if calls_yield {
            return Ok(Turn::Yield);
        }
        // What was not read for the answers that waited can be read, if they are written.
        let go_on = !read_all || (can_write && self.link.readable.is_set() && self.may_read());
        Ok(if go_on { Turn::Again } else { Turn::Wait { can_write } })
    }
}

impl<S: Transport> Socket<S> {
    /// Whether all that has arrived was read, or must not be read now.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if let Some((call, place)) = &self.full {
            let bytes = call.lock().inputs.get(*place).map_or(0, |input| input.bytes());
            if bytes >= self.server.limits.window_bytes {
                self.link.clock.last_read = Instant::now();
                return Ok(true);
            }
            self.full = None;
            self.link.clock.hold = None;
        }
        if !self.may_read() {
            // The client is not silent: the server does not listen, for a time that has its own limits. Also if nothing is there to be
            // read: what it answers with may be behind what it has yet to read.
            self.link.clock.last_read = Instant::now();
            return Ok(true);
        }
        if !self.link.readable.take(cx) {
            return Ok(true);
        }
        let waker = self.link.readable.waker();
        let cx = &mut Context::from_waker(&waker);
        for count in 0..READ_AT_ONCE {
            if !self.may_read() {
                self.link.readable.put_back();
                return Ok(true);
            }
            let Poll::Ready(text) = self.link.poll_read(cx) else { return Ok(true) };
            if count == 0 {
                self.link.clock.last_read = Instant::now();
            }
            if let Some(text) = text? {
                self.on_text(&text)?;
            }
        }
        self.link.readable.put_back();
        Ok(false)
    }

    fn run_call(&mut self, running: Running) {
        self.calls.push(running);
        self.outbox.wake_calls();
    }

    /// Whether other tasks are to have their turns: calls give way that have more to do.
    fn poll_calls(&mut self) -> bool {
        // Twice: when all of them were polled, `FuturesUnordered` wakes its waker, though no call was woken. The second time
        // finds that out for next to nothing; another poll of the socket's task would double what a value costs.
        for _ in 0..2 {
            if !self.outbox.take_calls() {
                return false;
            }
            while let Poll::Ready(Some(id)) =
                self.calls.poll_next_unpin(&mut Context::from_waker(&self.calls_waker))
            {
                let ended = self.table.remove(&id);
                self.keep_tail(ended);
            }
        }
        self.outbox.has_calls()
    }

    /// Whether the client may make the server do more.
    fn may_read(&self) -> bool {
        let opens = Arc::strong_count(&self.opens) - 1;
        self.full.is_none() && opens < self.server.limits.opens && self.outbox.may_answer()
    }

    fn on_time(&mut self, due: Due) -> Result<(), Ending> {
        match self.link.on_time(due)? {
            Some(Due::Hold) => {
                // The others of this socket have waited long enough.
                if let Some((call, _)) = self.full.take() {
                    call.end(End::Why(Why::new(Cause::Limit)));
                }
                self.outbox.wake();
                Ok(())
            }
            Some(Due::News) => {
                self.tell_news();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sets the time at which a client learns what was consumed, where that is less than half a window.
    fn expect_news(&mut self) {
        if self.outbox.has_news() {
            self.link.clock.news.get_or_insert_with(|| Instant::now() + NEWS);
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
