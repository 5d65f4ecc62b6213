//! Outbox: frames that wait to be written to one socket, from whatever thread they come.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Answers to what the client sends that may wait to be written; with more, the socket is not read.
const MOST_ANSWERS: usize = 64;

/// Frames that wait to be written to one socket.
pub(crate) struct Outbox {
    queues: Mutex<Queues>,
    /// Of the socket's task.
    task: AtomicWaker,
    /// Whether that task is running, and will look at `woken` before it waits.
    running: AtomicBool,
    /// Whether there is something new for the task to do.
    woken: AtomicBool,
    /// Whether a call was woken since the calls were polled.
    calls: AtomicBool,
    /// Whether the socket is to be given up: its client has come by another.
    cut: AtomicBool,
    /// Whether a method has consumed something that its client may not know of.
    news: AtomicBool,
    limit: usize,
}

#[derive(Default)]
struct Queues {
    /// Written before any value. Bounded by the reader, which waits while there are many.
    control: VecDeque<Utf8Bytes>,
    control_bytes: usize,
    values: VecDeque<Utf8Bytes>,
    value_bytes: usize,
    /// Calls that wait until fewer bytes are to be written.
    waiting: Vec<Waker>,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            queues: Mutex::default(),
            task: AtomicWaker::new(),
            running: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            calls: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            news: AtomicBool::new(false),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when fewer bytes than the limit are to be written. A socket that is gone is ready, too.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queues = self.lock();
        if queues.value_bytes < self.limit || queues.closed {
            return Poll::Ready(());
        }
        if !queues.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            queues.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes a frame when fewer bytes than the limit are to be written. `false` for a socket that is gone.
    #[cfg(feature = "endpoints")]
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>, frame: &mut Option<Utf8Bytes>) -> Poll<bool> {
        std::task::ready!(self.poll_room(cx));
        if self.lock().closed {
            return Poll::Ready(false);
        }
        frame.take().into_iter().for_each(|frame| self.value(frame));
        Poll::Ready(true)
    }

    /// A frame of a call, behind all of that call.
    pub(crate) fn value(&self, frame: Utf8Bytes) {
        let mut queues = self.lock();
        if !queues.closed {
            queues.value_bytes += frame.len();
            queues.values.push_back(frame);
        }
        drop(queues);
        self.wake_for_frames();
    }

    /// A frame that goes before all values.
    pub(crate) fn control(&self, frame: Utf8Bytes) {
        let mut queues = self.lock();
        if !queues.closed {
            queues.control_bytes += frame.len();
            queues.control.push_back(frame);
        }
        drop(queues);
        self.wake_for_frames();
    }

    /// The next frame to write, and the calls that may send again.
    pub(crate) fn take(&self) -> Option<Utf8Bytes> {
        let mut queues = self.lock();
        if let Some(frame) = queues.control.pop_front() {
            queues.control_bytes -= frame.len();
            return Some(frame);
        }
        let frame = queues.values.pop_front()?;
        queues.value_bytes -= frame.len();
        let waiting = if queues.value_bytes <= self.limit / 2 {
            std::mem::take(&mut queues.waiting)
        } else {
            Vec::new()
        };
        drop(queues);
        waiting.into_iter().for_each(Waker::wake);
        Some(frame)
    }

    /// Whether the client may make the server answer: not while many answers wait that it does not read.
    pub(crate) fn may_answer(&self) -> bool {
        let queues = self.lock();
        let bytes = queues.control_bytes.max(queues.value_bytes);
        queues.control.len() < MOST_ANSWERS && bytes < self.limit.saturating_mul(2)
    }

    /// Nothing is written any more. What waits is dropped, and so is what comes.
    pub(crate) fn close(&self) {
        let mut queues = self.lock();
        queues.closed = true;
        let (control, values) = (std::mem::take(&mut queues.control), std::mem::take(&mut queues.values));
        let waiting = std::mem::take(&mut queues.waiting);
        drop(queues);
        drop((control, values));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The client has come by another socket: this one is given up.
    pub(crate) fn cut(&self) {
        self.cut.store(true, SeqCst);
        self.wake();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }

    /// A method has consumed something that its client may not know of.
    pub(crate) fn note_news(&self) {
        self.news.store(true, SeqCst);
    }

    pub(crate) fn has_news(&self) -> bool {
        self.news.load(SeqCst)
    }

    /// The clients are going to be told what was consumed.
    pub(crate) fn forget_news(&self) {
        self.news.store(false, SeqCst);
    }

    /// Wakes the socket's task for something else than frames.
    pub(crate) fn wake(&self) {
        self.woken.store(true, SeqCst);
        self.wake_for_frames();
    }

    /// There is a call to be polled.
    pub(crate) fn wake_calls(&self) {
        self.calls.store(true, SeqCst);
        self.wake_for_frames();
    }

    /// Whether there is a call to be polled. From then on a call that is woken counts anew.
    pub(crate) fn take_calls(&self) -> bool {
        self.calls.swap(false, SeqCst)
    }

    /// The same without an effect.
    pub(crate) fn has_calls(&self) -> bool {
        self.calls.load(SeqCst)
    }

    /// Wakes the socket's task, unless it runs and will look by itself.
    fn wake_for_frames(&self) {
        if !self.running.load(SeqCst) {
            self.task.wake();
        }
    }

    /// The task begins to run: it need not be woken.
    pub(crate) fn begin(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.running.store(true, SeqCst);
    }

    /// The task is going to look at all there is to do.
    pub(crate) fn clear(&self) {
        self.woken.store(false, SeqCst);
    }

    /// The task is going to wait, unless there is something new since it looked; then it goes on. Frames count only if
    /// they can be written.
    pub(crate) fn may_wait(&self, can_write: bool) -> bool {
        self.running.store(false, SeqCst);
        let frames = can_write && {
            let queues = self.lock();
            !queues.control.is_empty() || !queues.values.is_empty()
        };
        let may_wait = !frames && !self.woken.load(SeqCst) && !self.has_calls();
        if !may_wait {
            self.running.store(true, SeqCst);
        }
        may_wait
    }
}

/// What the calls of the socket are polled with.
impl Wake for Outbox {
    fn wake(self: Arc<Self>) {
        self.wake_calls();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_calls();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_call_that_is_woken_wakes_a_task_that_waits_and_keeps_one_that_runs_from_waiting() {
        let (outbox, task) = (Arc::new(Outbox::new(1)), Arc::new(Task::default()));
        let call = Waker::from(Arc::clone(&outbox));
        outbox.begin(&Context::from_waker(&Waker::from(Arc::clone(&task))));
        call.wake_by_ref();
        assert_eq!(task.0.load(SeqCst), 0, "it runs, and will look");
        assert!(!outbox.may_wait(true));
        assert!(outbox.take_calls() && !outbox.take_calls());
        assert!(outbox.may_wait(true));
        call.wake_by_ref();
        assert_eq!(task.0.load(SeqCst), 1, "it waits");
        assert!(outbox.has_calls());
    }
}
