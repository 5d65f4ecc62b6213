//! Serving: one turn of the task on a connected socket.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_streams_wire::{Agreement, Bye, write_flow, write_ping};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    CallError,
    calls::Phase,
    connection::Connection,
    inputs::Pause,
    mailbox::{Order, Post},
    socket::{PING, Read, SILENCE, Socket},
};

/// How long a socket without calls waits for the next.
const LINGER: Duration = Duration::from_secs(1);
/// Frames that are read before calls have their turn.
const READS: usize = 64;

/// Why a socket is served no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other end closed it, or it broke.
    Lost,
    /// Nothing has arrived for too long.
    IdleTimeout,
    /// The other end sent what is no frame.
    BadFrame,
    /// No call needs it.
    Unneeded,
    /// The application closed the client.
    Closed,
    /// The application has said that there is no network.
    Offline,
    /// The server is going to stop, and no call is open on it any more.
    Left,
}

impl Ended {
    pub(crate) const fn error(self) -> Option<CallError> {
        match self {
            Self::Lost | Self::BadFrame | Self::Left => Some(CallError::SocketLost),
            Self::IdleTimeout => Some(CallError::IdleTimeout),
            Self::Closed | Self::Offline => Some(CallError::SocketClosed),
            Self::Unneeded => None,
        }
    }
}

/// What a provider of credentials was asked for, and its answer.
pub(crate) enum Asked {
    /// For the opening of a call.
    Open(u64, Result<Option<String>, CallError>),
    /// For the resumption of the calls that are parked.
    Resume(Result<Option<String>, CallError>),
    /// For the calls that are open.
    Authenticate(Result<Option<String>, CallError>),
    /// To obtain new ones.
    Refresh(Result<bool, CallError>),
}

/// All that lasts as long as one socket.
pub(crate) struct Session {
    pub(crate) socket: Socket,
    /// What both ends have agreed on; `None`: the eight frames only.
    pub(crate) agreed: Option<Agreement>,
    pub(crate) asked: FuturesUnordered<Pin<Box<dyn Future<Output = Asked> + Send>>>,
    /// Calls that wait for new credentials.
    pub(crate) refreshing: Vec<u64>,
    /// The server is going to stop.
    pub(crate) bye: Option<Bye>,
    /// Calls whose inputs have something to send, and those that begin when there is room.
    pub(crate) pumping: VecDeque<u64>,
    /// When there was the socket.
    pub(crate) since: Instant,
    heard: Instant,
    ping_at: Instant,
    /// Since when there is no call.
    idle: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Session {
    pub(crate) fn new(socket: Socket, agreed: Option<Agreement>) -> Self {
        let now = Instant::now();
        Self {
            socket,
            agreed,
            asked: FuturesUnordered::new(),
            refreshing: Vec::new(),
            bye: None,
            pumping: VecDeque::new(),
            since: now,
            heard: now,
            ping_at: now + PING,
            idle: None,
            timer: Box::pin(sleep_until(now)),
        }
    }

    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }

    pub(crate) fn leaving(&self) -> Option<Duration> {
        self.bye.map(|bye| Duration::from_millis(bye.spread.into()))
    }

    /// Lets a call's inputs send in this turn, or when there is room.
    pub(crate) fn pump_soon(&mut self, key: u64) {
        if !self.pumping.contains(&key) {
            self.pumping.push_back(key);
        }
    }

    /// Sees to it that the timer goes off no later than then.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
    }
}

impl Connection {
    /// One turn: the application's wishes, what has arrived, timers, credentials, inputs, and then one write
    /// of all.
    pub(crate) fn poll_serve(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Poll<Ended> {
        let now = Instant::now();
        let mailbox = Arc::clone(&self.mailbox);
        let mut ended = None;
        if let Poll::Ready(post) = mailbox.poll_take(cx) {
            ended = self.take_post(session, post, now);
        }
        let mut again = false;
        if ended.is_none() {
            (ended, again) = self.read(session, now, cx);
        }
        ended = ended.or_else(|| self.poll_timer(session, now, cx));
        // After all that asks for something.
        while let Poll::Ready(Some(asked)) = session.asked.poll_next_unpin(cx) {
            self.answered(session, asked, now);
        }
        again |= self.pump(session, now);
        if let Some(ended) = ended {
            return Poll::Ready(ended);
        }
        if session.socket.poll_write(cx) == Poll::Ready(Err(())) {
            return Poll::Ready(Ended::Lost);
        }
        // What was written may have made room.
        if again || !session.pumping.is_empty() && !session.socket.is_full() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn take_post(&mut self, session: &mut Session, post: Post, now: Instant) -> Option<Ended> {
        for call in post.calls {
            let key = call.key;
            self.insert(call);
            self.look(session, key, now);
            self.begin(session, key, now);
        }
        for key in post.ready {
            self.look(session, key, now);
        }
        match post.order? {
            Order::Close => {
                for call in self.remove_where(|_| true) {
                    if call.phase == Phase::Open {
                        session.socket.push(call.cancel_frame());
                    }
                    call.end(Err(CallError::SocketClosed));
                }
                self.mailbox.refuse_if_empty();
                Some(Ended::Closed)
            }
            Order::Offline => Some(Ended::Offline),
            Order::Authenticate if session.agreed.is_some() => {
                let asked = Arc::clone(&self.shared.provider).ask();
                session.asked.push(Box::pin(async { Asked::Authenticate(asked.await) }));
                None
            }
            Order::Authenticate | Order::Online => None,
        }
    }

    /// Reads what has arrived. `true` if there may be more.
    fn read(&mut self, session: &mut Session, now: Instant, cx: &mut Context<'_>) -> (Option<Ended>, bool) {
        for _ in 0..READS {
            // Always, also while nothing can be written: a server that waits for room would not read, either.
            // What this makes the client write is bounded: by its calls, and by the pongs that may wait.
            match session.socket.poll_read(cx) {
                Poll::Pending => return (None, false),
                Poll::Ready(Read::Ended) => return (Some(Ended::Lost), false),
                Poll::Ready(Read::Control) => session.heard = now,
                Poll::Ready(Read::Text(text)) => {
                    session.heard = now;
                    if let Some(ended) = self.arrived(session, &text, now) {
                        return (Some(ended), false);
                    }
                }
            }
        }
        (None, true)
    }

    /// Looks at a call whose application has done something, or whose timer has gone off.
    pub(crate) fn look(&mut self, session: &mut Session, key: u64, now: Instant) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.inbox.look() {
            if matches!(call.phase, Phase::Open | Phase::Opening(_) | Phase::Resuming(_)) && !call.faulted {
                session.socket.push(call.cancel_frame());
            }
            if let Some(call) = self.remove(key) {
                call.end(Ok(()));
            }
            return;
        }
        if call.phase == Phase::Open {
            self.tell(session, key, now);
            session.pump_soon(key);
        }
    }

    /// Tells the server what was consumed, if that is due, and there is room.
    fn tell(&mut self, session: &mut Session, key: u64, now: Instant) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if session.socket.is_full() {
            return session.pump_soon(key);
        }
        let news = call.inbox.news(now);
        if let Some(got) = news.got {
            call.arrivals.acknowledge(got);
            session.socket.push(write_flow(call.id, None, got));
        }
        call.look_at = news.at;
        if let Some(at) = news.at {
            session.wake_at(at);
        }
    }

    /// Lets inputs send, and calls begin that waited for room. Each call has a turn at most; what is left
    /// waits for the next. `true` if there is to be a next at once.
    fn pump(&mut self, session: &mut Session, now: Instant) -> bool {
        let mut begun = false;
        for _ in 0..session.pumping.len() {
            if session.socket.is_full() {
                break;
            }
            let Some(key) = session.pumping.pop_front() else { break };
            let Some(call) = self.calls.get_mut(&key) else { continue };
            match call.phase {
                Phase::New(None) => {
                    self.begin(session, key, now);
                    begun = true;
                    continue;
                }
                Phase::Open => self.tell(session, key, now),
                _ => continue,
            }
            let Some(call) = self.calls.get_mut(&key) else { continue };
            match call.pump(&mut session.socket, self.shared.route.max_frame) {
                Pause::Waiting => {}
                Pause::Turn => session.pumping.push_back(key),
                Pause::Unwritable(why) => self.give_up(session, key, CallError::Unwritable(why)),
            }
        }
        begun || !session.pumping.is_empty() && !session.socket.is_full()
    }

    /// Ends a call for a reason that the server does not know.
    pub(crate) fn give_up(&mut self, session: &mut Session, key: u64, error: CallError) {
        if let Some(call) = self.remove(key) {
            if matches!(call.phase, Phase::Open | Phase::Opening(_) | Phase::Resuming(_)) {
                session.socket.push(call.cancel_frame());
            }
            call.end(Err(error));
        }
    }

    fn poll_timer(&mut self, session: &mut Session, now: Instant, cx: &mut Context<'_>) -> Option<Ended> {
        if self.calls.is_empty() {
            let since = *session.idle.get_or_insert(now);
            session.wake_at(since + LINGER);
            if session.bye.is_some() {
                return Some(Ended::Left);
            }
        } else {
            session.idle = None;
            if session.bye.is_some() && self.calls.values().all(|call| matches!(call.phase, Phase::New(_))) {
                return Some(Ended::Left);
            }
        }
        while session.timer.as_mut().poll(cx).is_ready() {
            if let Some(ended) = self.timer(session) {
                return Some(ended);
            }
        }
        None
    }

    /// The timer has gone off: does what is due, and sets it anew.
    fn timer(&mut self, session: &mut Session) -> Option<Ended> {
        // Not the time at which the turn began: what has gone off since would seem not to be due, for ever.
        let now = Instant::now();
        if session.heard + SILENCE <= now {
            return Some(Ended::IdleTimeout);
        }
        if session.ping_at <= now {
            session.ping_at = now + PING;
            session.socket.push(write_ping(None));
        }
        if session.idle.is_some_and(|since| since + LINGER <= now) && self.mailbox.refuse_if_empty() {
            return Some(Ended::Unneeded);
        }
        let next = session.ping_at.min(session.heard + SILENCE);
        session.timer.as_mut().reset(next);
        if let Some(since) = session.idle {
            session.wake_at((since + LINGER).max(now + Duration::from_millis(1)));
        }
        for key in self.calls.keys().copied().collect::<Vec<_>>() {
            self.call_timer(session, key, now);
        }
        None
    }
}
