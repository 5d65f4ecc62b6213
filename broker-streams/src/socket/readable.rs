//! Readable: whether there may be something to read, so that a socket that only writes does not try.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Whether there may be something to read. An attempt costs: the buffer is set to zero before each.
pub(crate) struct Readable {
    flag: Arc<Flag>,
    waker: Waker,
}

struct Flag {
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, SeqCst);
        self.task.wake();
    }
}

impl Readable {
    /// At first there may be.
    pub(crate) fn new() -> Self {
        let flag = Arc::new(Flag { is_set: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&flag)), flag }
    }

    /// Whether to try. From then on the task is woken when there is something, if the attempt is made with
    /// [`waker`](Self::waker).
    pub(crate) fn take(&self, cx: &Context<'_>) -> bool {
        self.flag.task.register(cx.waker());
        self.flag.is_set.swap(false, SeqCst)
    }

    /// There is more than what was read.
    pub(crate) fn put_back(&self) {
        self.flag.is_set.store(true, SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.is_set.load(SeqCst)
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
