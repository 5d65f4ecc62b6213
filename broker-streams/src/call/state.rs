//! The state of one call, which its method, its socket and the parts of it that the method holds share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use broker_core::Session;
use broker_streams_wire::{
    CallId, Cause, CloseReason, Target, Values, Why, write_close, write_fault, write_flow,
};
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{method::entry::MethodName, park::Ticket, server::Server, socket::outbox::Outbox};

use super::{
    input::Input,
    timers::Timers,
    window::{Size, Window},
};

/// One call.
pub(crate) struct CallState {
    pub(crate) id: CallId,
    pub(crate) name: MethodName,
    pub(crate) server: Arc<Server>,
    /// Set when the call is opened.
    pub(crate) session: OnceLock<Session>,
    /// Set when the call is opened, if it can be resumed.
    pub(crate) ticket: OnceLock<Ticket>,
    /// Whether the client would resume it.
    pub(crate) resumable: bool,
    values: Values,
    changing: Mutex<Changing>,
}

/// What changes while a call lives.
pub(crate) struct Changing {
    pub(crate) outbox: Arc<Outbox>,
    /// The position from which the client would go on, until the call is open.
    pub(crate) cursor: Option<Box<str>>,
    phase: Phase,
    /// Why the call is to end, if that does not come from its method.
    end: Option<End>,
    /// Of the future that runs the call.
    runner: Option<Waker>,
    pub(crate) timers: Timers,
    /// The session of credentials that were shown later. It ends the call as the call's own does.
    guard: Option<Session>,
    out: Window,
    pub(crate) inputs: SmallVec<[Input; 1]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    /// Frames of the end were written; what the method still holds sends nothing.
    Closed,
}

/// Why a call ends, if that does not come from its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client does not want it any more.
    Cancelled,
    /// Its socket is gone.
    SocketLost,
    /// For a reason that an `x1` client learns.
    Why(Why),
}

impl CallState {
    pub(crate) fn new(
        id: CallId,
        name: MethodName,
        server: Arc<Server>,
        outbox: Arc<Outbox>,
        opening: Opening,
    ) -> Self {
        let Opening { x1, window, cursor, resumable, inputs } = opening;
        let frames = window.map_or(server.limits.window, |asked| asked.clamp(1, MOST_WINDOW)).into();
        let size = x1.then_some(Size { frames, bytes: server.limits.window_bytes });
        let resumable = x1 && resumable;
        let values = Values::new(&target(id, &name), None);
        Self {
            id,
            name,
            server,
            session: OnceLock::new(),
            ticket: OnceLock::new(),
            resumable,
            values,
            changing: Mutex::new(Changing {
                outbox,
                cursor,
                phase: Phase::Opening,
                end: None,
                runner: None,
                timers: Timers::default(),
                guard: None,
                out: Window::new(size),
                inputs,
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn target(&self) -> Target<'_> {
        target(self.id, &self.name)
    }

    /// How a value of the call's stream is written.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// The call is open: from now on it sends.
    pub(crate) fn opened(&self) {
        let mut changing = self.lock();
        if self.ticket.get().is_some() {
            changing.out.keep();
        }
        changing.phase = Phase::Open;
        // What needs it has it.
        changing.cursor = None;
    }

    /// Ends the call from outside. The first reason counts.
    pub(crate) fn end(&self, end: End) {
        let mut changing = self.lock();
        changing.end.get_or_insert(end);
        let runner = changing.runner.take();
        drop(changing);
        runner.into_iter().for_each(Waker::wake);
    }

    /// Ready when the call is to end for a reason from outside. Says what the method has dropped.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<End> {
        let mut changing = self.lock();
        if let Some(end) = changing.end {
            return Poll::Ready(end);
        }
        if let Some(cause) = changing.timers.poll(cx) {
            return Poll::Ready(End::Why(Why::new(cause)));
        }
        if changing.phase == Phase::Open {
            let Changing { inputs, outbox, .. } = &mut *changing;
            for input in inputs.iter_mut().filter(|input| input.is_untold()) {
                input.set_told();
                let frame = write_close(&self.target(), Some(input.name()), CloseReason::Done, None);
                outbox.value(frame.into());
            }
        }
        if !changing.runner.as_ref().is_some_and(|runner| runner.will_wake(cx.waker())) {
            changing.runner = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// When the call ends by itself.
    pub(crate) fn set_timers(&self, began: Instant, life: Option<Duration>, until: Option<SystemTime>) {
        let mut changing = self.lock();
        if let Some(life) = life {
            changing.timers.set_deadline(began, life);
        }
        changing.timers.set_expiry(until);
        if let Some(idle) = self.server.limits.call_idle {
            changing.timers.set_idle(idle);
        }
    }

    /// The client has shown new credentials of the same user: the call lasts as long as they do.
    pub(crate) fn refresh(&self, guard: &Session, until: Option<SystemTime>) {
        let mut changing = self.lock();
        changing.timers.set_expiry(until);
        let old = changing.guard.replace(guard.clone());
        let runner = changing.runner.take();
        drop(changing);
        drop(old);
        // It has to look at the new timer.
        runner.into_iter().for_each(Waker::wake);
    }

    /// The method does not want an input any more.
    pub(crate) fn drop_input(&self, place: usize) {
        let mut changing = self.lock();
        let Some(input) = changing.inputs.get_mut(place) else { return };
        let reader = input.end();
        let (outbox, runner) = (Arc::clone(&changing.outbox), changing.runner.take());
        drop(changing);
        drop(reader);
        runner.into_iter().for_each(Waker::wake);
        // The socket may wait for room in this input.
        outbox.wake();
    }

    /// Takes a frame of the call's stream when the client and the socket have room for it. `None` in a closed call.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>, frame: &mut Option<Utf8Bytes>) -> Poll<Option<()>> {
        let mut changing = self.lock();
        let Changing { outbox, phase, out, timers, .. } = &mut *changing;
        if *phase != Phase::Open {
            return Poll::Ready(None);
        }
        let Some(length) = frame.as_ref().map(|frame| frame.len()) else { return Poll::Ready(Some(())) };
        if out.poll_room(cx, length).is_pending() || outbox.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(frame) = frame.take() {
            if let Some(waited) = out.count(&frame) {
                self.server.meter.window_wait(waited);
            }
            timers.touch();
            outbox.value(frame);
        }
        Poll::Ready(Some(()))
    }

    /// The client's application has consumed so many frames of the call's stream, since it was opened.
    pub(crate) fn consumed(&self, got: u64) {
        let mut changing = self.lock();
        changing.timers.touch();
        let consumed = changing.out.consumed(got);
        drop(changing);
        match consumed {
            Ok(waiting) => waiting.into_iter().for_each(Waker::wake),
            Err(_) => self.end(End::Why(Why::new(Cause::Limit))),
        }
    }

    /// Writes the end: the fault, the close of the method's stream unless the client has closed it, and those of the
    /// inputs that are open. Nothing of the call is written behind this.
    pub(crate) fn close(&self, how: &Closing<'_>) {
        let mut changing = self.lock();
        let Changing { outbox, phase, out, inputs, .. } = &mut *changing;
        let was_open = std::mem::replace(phase, Phase::Closed) == Phase::Open;
        if was_open {
            let target = self.target();
            let why = how.why.as_ref().filter(|_| out.is_agreed());
            let fault = how.fault.map(|(class_name, json)| write_fault(&target, None, class_name, json));
            let close = how.echo.then(|| write_close(&target, None, how.reason, why));
            // Counted, and sent whatever the window says: nothing comes behind.
            for frame in fault.into_iter().chain(close) {
                let frame = Utf8Bytes::from(frame);
                out.count(&frame);
                outbox.value(frame);
            }
            for input in inputs.iter().filter(|input| input.is_to_close()) {
                outbox.value(write_close(&target, Some(input.name()), how.reason, why).into());
            }
        }
        let mut waiting = out.take_waiting();
        waiting.extend(inputs.iter_mut().filter_map(Input::end));
        let guard = changing.guard.take();
        let outbox = Arc::clone(&changing.outbox);
        drop(changing);
        drop(guard);
        waiting.into_iter().for_each(Waker::wake);
        // The socket may wait for room in an input of this call.
        outbox.wake();
    }

    /// Whether the client may resume it: it is open, or its end is not yet consumed.
    pub(crate) fn can_be_resumed(&self) -> bool {
        let changing = self.lock();
        let alive = match changing.phase {
            Phase::Opening => false,
            Phase::Open => changing.end.is_none(),
            Phase::Closed => !changing.out.is_empty(),
        };
        alive && self.ticket.get().is_some()
    }

    /// Bytes that are kept for a client that resumes.
    pub(crate) fn kept(&self) -> usize {
        let changing = self.lock();
        changing.out.kept() + changing.inputs.iter().map(Input::bytes).sum::<usize>()
    }

    /// Says how much was consumed of each input: what was said of it may have been lost.
    pub(crate) fn tell_all(&self) {
        let mut changing = self.lock();
        let Changing { inputs, outbox, .. } = &mut *changing;
        for input in inputs.iter_mut().filter(|input| input.is_open()) {
            let got = input.tell();
            outbox.control(write_flow(self.id, Some(input.name()), got).into());
        }
    }

    /// Goes on at another socket, behind what the client has received. The frames of each input that were received here; -1
    /// for one that is not wanted any more. `None` if the client cannot have received that.
    pub(crate) fn attach(&self, outbox: &Arc<Outbox>, received: u64) -> Option<BTreeMap<String, i64>> {
        let mut changing = self.lock();
        let waiting = changing.out.consumed(received).ok()?;
        changing.timers.touch();
        changing.outbox = Arc::clone(outbox);
        changing.out.frames().for_each(|frame| outbox.value(frame));
        let mut got = BTreeMap::new();
        for input in &mut changing.inputs {
            let received = i64::try_from(input.received()).unwrap_or(i64::MAX);
            if input.is_untold() {
                input.set_told();
            }
            got.insert(input.name().to_owned(), if input.is_dropped() { -1 } else { received });
        }
        drop(changing);
        waiting.into_iter().for_each(Waker::wake);
        Some(got)
    }
}

/// The largest window that a client may ask for.
const MOST_WINDOW: u32 = 1 << 16;

impl Changing {
    /// Whether the client has agreed on the extension.
    pub(crate) fn is_x1(&self) -> bool {
        self.out.is_agreed()
    }

    /// The frame that has waited for room is not to be sent any more.
    pub(crate) fn forget_wait(&mut self) {
        self.out.forget_wait();
    }

    /// Whether the call is to end for a reason from outside: it takes nothing any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the call has ended, and the client has consumed its end.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Closed && self.out.is_empty()
    }
}

impl fmt::Debug for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MethodName { endpoint, method } = &self.name;
        write!(f, "{endpoint}.{method} {}", self.id)
    }
}

/// What a client wants of a call that it opens.
pub(crate) struct Opening {
    pub(crate) x1: bool,
    pub(crate) window: Option<u32>,
    pub(crate) cursor: Option<Box<str>>,
    pub(crate) resumable: bool,
    pub(crate) inputs: SmallVec<[Input; 1]>,
}

/// How a call is closed.
pub(crate) struct Closing<'a> {
    pub(crate) reason: CloseReason,
    pub(crate) fault: Option<(&'a str, &'a str)>,
    /// Whether the close of the method's stream is written.
    pub(crate) echo: bool,
    pub(crate) why: Option<Why>,
}

fn target(call: CallId, name: &MethodName) -> Target<'_> {
    Target { endpoint: (&*name.endpoint).into(), method: (&*name.method).into(), call }
}
