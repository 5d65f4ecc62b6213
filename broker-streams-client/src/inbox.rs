//! Inbox: what one call's task and its stream share: the values that wait, and how the call ended.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::time::Instant;

use crate::{CallError, StreamFault, mailbox::Mailbox, stream::Resumption, window::Consumption};

/// One call, as its stream and the task that owns the socket see it. As a waker it tells the task to look at
/// the call.
pub(crate) struct Inbox {
    key: u64,
    /// The task was told, and has not looked yet.
    told: AtomicBool,
    state: Mutex<State>,
}

struct State {
    queue: VecDeque<Entry>,
    bytes: usize,
    /// Bytes that may wait; one value may always.
    limit: usize,
    consumption: Consumption,
    /// The position behind the last value that the application was given.
    cursor: Option<Box<str>>,
    end: Option<Result<(), CallError>>,
    cancelled: bool,
    reader: Option<Waker>,
    mailbox: Arc<Mailbox>,
}

/// What waits for the application.
#[derive(Debug)]
pub(crate) enum Entry {
    Value { class_name: Box<str>, json: Box<str>, cursor: Option<Box<str>> },
    Fault(StreamFault),
    Gap { missed: Option<u64>, cause: Box<str> },
    Restarted,
    Resumed(Resumption),
}

impl Entry {
    /// What an entry costs beside its text. Without it very many very small values would cost little.
    const OVERHEAD: usize = 64;

    fn len(&self) -> usize {
        Self::OVERHEAD
            + match self {
                Self::Value { class_name, json, cursor } => {
                    class_name.len() + json.len() + cursor.as_ref().map_or(0, |cursor| cursor.len())
                }
                Self::Fault(fault) => fault.len(),
                Self::Gap { cause, .. } => cause.len(),
                Self::Restarted | Self::Resumed(_) => 0,
            }
    }

    /// Whether it came as a frame of the stream.
    const fn is_frame(&self) -> bool {
        !matches!(self, Self::Restarted | Self::Resumed(_))
    }
}

/// What the server does not know of the application's consumption.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Tell the server that so much was consumed.
    pub(crate) got: Option<u64>,
    /// Look again then.
    pub(crate) at: Option<Instant>,
}

/// How long after the last consumption the server is told, if there was less than half a window.
const QUIET: std::time::Duration = std::time::Duration::from_secs(1);

impl Inbox {
    pub(crate) fn new(key: u64, limit: usize, mailbox: Arc<Mailbox>, cursor: Option<Box<str>>) -> Self {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            limit,
            consumption: Consumption::new(),
            cursor,
            end: None,
            cancelled: false,
            reader: None,
            mailbox,
        };
        Self { key, told: AtomicBool::new(false), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the task that there is something to do for this call.
    pub(crate) fn signal(&self) {
        if !self.told.swap(true, Ordering::AcqRel) {
            let mailbox = Arc::clone(&self.state().mailbox);
            mailbox.ready(self.key);
        }
    }

    // The application's side.

    /// The next entry; `None` after the last, when the call has ended well.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Entry, CallError>>> {
        let mut state = self.state();
        let Some(entry) = state.queue.pop_front() else {
            return match &state.end {
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
                None => {
                    // A waker is foreign code, and the one before goes only when the lock is free.
                    let before = state.reader.replace(cx.waker().clone());
                    drop(state);
                    drop(before);
                    Poll::Pending
                }
            };
        };
        let bytes = entry.len();
        state.bytes = state.bytes.saturating_sub(bytes);
        // The position moves before the value is handed over: were it the other way round, a value could come
        // twice.
        if let Entry::Value { cursor: Some(cursor), .. } = &entry {
            state.cursor = Some(cursor.clone());
        }
        let signal = entry.is_frame() && state.consumption.consume(bytes);
        drop(state);
        if signal {
            self.signal();
        }
        Poll::Ready(Some(Ok(entry)))
    }

    /// The position behind the last value that the application was given, or from which it began.
    pub(crate) fn cursor(&self) -> Option<String> {
        self.state().cursor.as_deref().map(str::to_owned)
    }

    /// The application does not want the call any more.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        state.cancelled = true;
        let queue = mem::take(&mut state.queue);
        state.bytes = 0;
        let is_over = state.end.is_some();
        drop(state);
        drop(queue);
        if !is_over {
            self.signal();
        }
    }

    // The task's side.

    /// Another task owns the call from now on. It looks at the call as soon as it has it.
    pub(crate) fn move_to(&self, mailbox: &Arc<Mailbox>) {
        let before = mem::replace(&mut self.state().mailbox, Arc::clone(mailbox));
        drop(before);
    }

    /// Whether the application does not want the call any more. What is signalled from now on is signalled
    /// anew.
    pub(crate) fn look(&self) -> bool {
        self.told.store(false, Ordering::Release);
        self.state().cancelled
    }

    /// What to tell the server of an open call.
    pub(crate) fn news(&self, now: Instant) -> News {
        let mut state = self.state();
        let quiet = state.consumption.untold().map(|last| last + QUIET);
        if state.consumption.is_due() || quiet.is_some_and(|at| at <= now) {
            return News { got: Some(state.consumption.tell()), at: None };
        }
        News { got: None, at: quiet }
    }

    /// The number to tell the server.
    pub(crate) fn tell(&self) -> u64 {
        self.state().consumption.tell()
    }

    /// The number to resume from.
    pub(crate) fn position(&self) -> u64 {
        self.state().consumption.consumed()
    }

    /// A call is asked for in the place of one that was lost. What waits of that one is dropped, for the
    /// server sends it again, or the application is told that it is missing. Returns the position behind the
    /// last value that the application was given; none is given from here on until the new call sends one.
    pub(crate) fn restart(&self) -> Option<Box<str>> {
        let mut state = self.state();
        let queue = mem::take(&mut state.queue);
        state.bytes = 0;
        let cursor = state.cursor.clone();
        drop(state);
        drop(queue);
        cursor
    }

    /// A call is open: what is consumed counts from here on.
    pub(crate) fn begin(&self, limits: Option<(u64, usize)>) {
        self.state().consumption.begin(limits);
    }

    /// Puts an entry behind those that wait. `false` if that would be too much.
    pub(crate) fn push(&self, entry: Entry) -> bool {
        let mut state = self.state();
        if state.cancelled {
            return true;
        }
        let bytes = state.bytes.saturating_add(entry.len());
        if entry.is_frame() && bytes > state.limit && !state.queue.is_empty() {
            return false;
        }
        if matches!((state.queue.back(), &entry), (Some(Entry::Resumed(_)), Entry::Resumed(_))) {
            return true;
        }
        state.bytes = bytes;
        state.queue.push_back(entry);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// The call has ended. The first end counts.
    pub(crate) fn end(&self, end: Result<(), CallError>) {
        let mut state = self.state();
        if state.end.is_none() {
            state.end = Some(end);
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        self.signal();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.signal();
    }
}
