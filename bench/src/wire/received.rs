//! Received: how many messages have arrived, and when.

use std::{
    mem, str,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{sync::Notify, time::timeout};

use crate::Outcome;

/// How long a round may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How many messages have arrived, and how long each took, if that is asked for.
pub(crate) struct Received {
    began: Instant,
    count: AtomicU64,
    wanted: AtomicU64,
    /// When the wanted one arrived, in nanoseconds.
    at: AtomicU64,
    reached: Notify,
    timing: AtomicBool,
    took: Mutex<Histogram<u64>>,
}

impl Received {
    pub(super) fn new() -> Outcome<Arc<Self>> {
        Ok(Arc::new(Self {
            began: Instant::now(),
            count: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            at: AtomicU64::new(0),
            reached: Notify::new(),
            timing: AtomicBool::new(false),
            took: Mutex::new(Histogram::new(3)?),
        }))
    }

    /// A message has arrived. Where each is timed, its payload is the time at which it was due.
    pub(super) fn note<P: AsRef<[u8]>>(&self, payload: impl FnOnce() -> P) {
        if self.timing.load(Acquire)
            && let Some(due) = str::from_utf8(payload().as_ref()).ok().and_then(|due| due.parse().ok())
        {
            let took = self.now().saturating_sub(due);
            // A histogram without an upper limit takes every value.
            let _ = self.took.lock().unwrap_or_else(PoisonError::into_inner).record(took);
        }
        if self.count.fetch_add(1, SeqCst) + 1 == self.wanted.load(SeqCst) {
            self.at.store(self.now(), SeqCst);
            self.reached.notify_one();
        }
    }

    /// Nanoseconds since it was made.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Whether each is timed from now on.
    pub(super) fn time_each(&self, timing: bool) {
        self.timing.store(timing, SeqCst);
    }

    /// How long each took, in nanoseconds, since this was last asked.
    pub(super) fn took(&self) -> Outcome<Histogram<u64>> {
        let fresh = Histogram::new(3)?;
        Ok(mem::replace(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner), fresh))
    }

    /// When the last that was wanted arrived, by [`now`](Self::now).
    pub(super) fn arrived_at(&self) -> u64 {
        self.at.load(SeqCst)
    }

    /// From now on that many more are wanted. Nothing is under way.
    pub(crate) fn want(&self, more: u64) {
        self.wanted.store(self.count.load(Acquire) + more, SeqCst);
    }

    pub(crate) async fn reach(&self) -> Outcome {
        let arrived = timeout(LIMIT, self.reached.notified()).await;
        let (count, wanted) = (self.count.load(Acquire), self.wanted.load(SeqCst));
        arrived.map_err(|_| format!("only {count} of {wanted} messages have arrived").into())
    }
}
