//! Calls: one call as the task that owns the socket sees it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use broker_streams_wire::{CallId, CloseReason, OpenExtra, Target, Token, write_close, write_open};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    CallError,
    backoff::Backoff,
    inbox::{Entry, Inbox},
    inputs::{Input, Pause},
    socket::Socket,
    stream::Resumption,
    window::Arrivals,
};

/// After so much time a call that gives values shows that its method is well, and a socket that its server is.
pub(crate) const WELL: Duration = Duration::from_secs(10);

/// The longest token that is kept. It is shown at each attempt, with those of all other calls.
const LONGEST_TOKEN: usize = 1024;

/// A token, unless it is too long: then the call cannot go on exactly.
pub(crate) fn kept(token: Option<Token>) -> Option<Token> {
    token.filter(|token| token.0.len() <= LONGEST_TOKEN)
}

/// One call. It ends by [`Call::end`], or as stopped when it is dropped.
pub(crate) struct Call {
    pub(crate) key: u64,
    pub(crate) id: CallId,
    pub(crate) endpoint: Box<str>,
    pub(crate) method: Box<str>,
    pub(crate) args: Box<str>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) options: CallOptions,
    pub(crate) inbox: Arc<Inbox>,
    /// Polls the inputs. It is the inbox.
    pub(crate) waker: Waker,
    pub(crate) phase: Phase,
    /// What a success means: a first call, or one in the place of another.
    pub(crate) begins: Begins,
    /// Who waits for the first success.
    pub(crate) opener: Option<oneshot::Sender<Result<(), CallError>>>,
    /// The secret for the exact resumption.
    pub(crate) token: Option<Token>,
    pub(crate) arrivals: Arrivals,
    /// New credentials were already obtained for this opening.
    pub(crate) refreshed: bool,
    /// A fault has come: only the close is awaited.
    pub(crate) faulted: bool,
    /// When the server is told at the latest what was consumed.
    pub(crate) look_at: Option<Instant>,
    /// How long the next opening in the place of this call waits.
    pub(crate) backoff: Backoff,
    /// When it was opened last.
    pub(crate) since: Option<Instant>,
    pub(crate) slot: Slot,
}

/// What the application wants of a call.
#[derive(Clone, Debug)]
pub(crate) struct CallOptions {
    pub(crate) anonymous: bool,
    pub(crate) resume: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) traceparent: Option<String>,
    pub(crate) window: u32,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// To be opened, not before a time.
    New(Option<Instant>),
    /// The provider of credentials was asked.
    Asking,
    /// The server was asked; until then it has to answer.
    Opening(Instant),
    Open,
    /// The socket was lost; the server keeps the call for a while.
    Parked,
    /// The server was asked to go on; until then it has to answer.
    Resuming(Instant),
}

/// What the success of an opening means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    First,
    ByCursor,
    Anew,
}

/// What an opening shows of who calls.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'a> {
    Nothing,
    Credentials(&'a str),
    /// The server has those of the upgrade.
    Cookies,
}

/// One of the calls that a client may have.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// Takes one, if there are fewer than `most`.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Call {
    pub(crate) fn target(&self) -> Target<'_> {
        Target { endpoint: (&*self.endpoint).into(), method: (&*self.method).into(), call: self.id }
    }

    /// Whether a frame is about this call.
    pub(crate) fn is(&self, target: &Target<'_>) -> bool {
        target.endpoint == *self.endpoint && target.method == *self.method
    }

    /// The frame that opens it.
    pub(crate) fn open_frame(&mut self, shown: Shown<'_>, x1: bool, now: Instant) -> String {
        let cursor = self.inbox.restart().filter(|_| x1);
        if self.begins != Begins::First {
            self.begins = if cursor.is_some() { Begins::ByCursor } else { Begins::Anew };
        }
        let inputs: Vec<&str> = self.inputs.iter().map(Input::name).collect();
        let CallOptions { deadline, traceparent, window, resume, .. } = &self.options;
        let left = |deadline: &Instant| {
            u32::try_from(deadline.saturating_duration_since(now).as_millis()).unwrap_or(u32::MAX)
        };
        let extra = x1.then(|| OpenExtra {
            window: Some(*window),
            deadline: deadline.as_ref().map(left),
            traceparent: traceparent.clone(),
            cursor: cursor.map(String::from),
            resumable: *resume,
        });
        let (auth, mode) = match shown {
            Shown::Nothing => (None, None),
            Shown::Credentials(auth) => (Some(auth), None),
            Shown::Cookies => (None, Some("cookie")),
        };
        write_open(&self.target(), &self.args, &inputs, auth, mode, extra.as_ref())
    }

    /// The frame by which the client says that it does not want it any more.
    pub(crate) fn cancel_frame(&self) -> String {
        write_close(&self.target(), None, CloseReason::Done, None)
    }

    /// The server has opened it. `limits` are frames and bytes of the method's stream, `inputs` those of an
    /// input.
    pub(crate) fn opened(
        &mut self,
        limits: Option<(u64, usize)>,
        inputs: impl Fn(&str) -> Option<(u64, usize)>,
        token: Option<Token>,
    ) {
        self.phase = Phase::Open;
        self.since = Some(Instant::now());
        self.token = kept(token);
        self.refreshed = false;
        self.arrivals = Arrivals::new(limits.map(|(window, _)| window));
        self.inbox.begin(limits);
        let target =
            Target { endpoint: (&*self.endpoint).into(), method: (&*self.method).into(), call: self.id };
        for input in &mut self.inputs {
            let limits = inputs(input.name());
            input.begin(&target, limits);
        }
        match self.begins {
            Begins::First => {}
            Begins::ByCursor => drop(self.inbox.push(Entry::Resumed(Resumption::Cursor))),
            Begins::Anew => drop(self.inbox.push(Entry::Restarted)),
        }
        if let Some(opener) = self.opener.take() {
            // Nobody waits any more: then its stream is gone, too, and the call is cancelled.
            let _ = opener.send(Ok(()));
        }
        self.inbox.signal();
    }

    /// Something has come of its method. If that has been so for a while, the next opening in its place need not
    /// wait: until then the server may end each call after its first value.
    pub(crate) fn is_well(&mut self) {
        if self.backoff.has_failed() && self.since.is_some_and(|since| since.elapsed() >= WELL) {
            self.backoff.reset();
        }
    }

    /// Lets its inputs send what they have.
    pub(crate) fn pump(&mut self, socket: &mut Socket, limit: usize) -> Pause {
        let Self { endpoint, method, id, inputs, waker, options, .. } = self;
        let target = Target { endpoint: (&**endpoint).into(), method: (&**method).into(), call: *id };
        let mut cx = Context::from_waker(waker);
        let mut pause = Pause::Waiting;
        for input in inputs {
            match input.pump(&target, socket, limit, options.resume, &mut cx) {
                Pause::Waiting => {}
                Pause::Turn => pause = Pause::Turn,
                unwritable @ Pause::Unwritable(_) => return unwritable,
            }
        }
        pause
    }

    /// Ends it, for whoever waits for it to open, or for its stream.
    pub(crate) fn end(mut self, end: Result<(), CallError>) {
        // Its inputs go, and its place is free, before anybody can notice the end.
        self.inputs.clear();
        let Self { opener, inbox, slot, .. } = self;
        drop(slot);
        inbox.end(end.clone());
        if let (Some(opener), Err(error)) = (opener, end) {
            let _ = opener.send(Err(error));
        }
    }
}
