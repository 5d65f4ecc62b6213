//! Runtime: where a broker's tasks and timers run, whichever thread calls it.

pub(crate) mod gate;
pub(crate) mod sync;
pub(crate) mod tasks;
pub(crate) mod user_code;

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Mutex, PoisonError, mpsc},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    time::{Sleep, sleep},
};

use crate::{Error, ErrorKind, Result};

/// The Tokio runtime in which a broker was made. A local broker has none of its own: it takes the caller's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtime(Option<Handle>);

/// Why a broker is closed whose runtime has ended.
pub(crate) const GONE: &str = "the runtime this broker was made on is gone";

/// The limit passed first.
#[derive(Debug)]
pub(crate) struct Late;

impl Runtime {
    /// The one in which the caller is.
    pub(crate) fn current(what: &str) -> Result<Self> {
        let handle = current(what)?;
        if timer_of(&handle, Duration::ZERO).is_none() {
            let message =
                format!("{what} needs a tokio runtime with timers: call enable_all() on its builder");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Self(Some(handle)))
    }

    /// Where a task of the broker runs.
    pub(crate) fn handle(&self, what: &str) -> Result<Handle> {
        self.0.clone().map_or_else(|| current(what), Ok)
    }

    /// Whether the caller is in it.
    pub(crate) fn is_current(&self) -> bool {
        let Some(own) = &self.0 else { return false };
        Handle::try_current().is_ok_and(|current| current.id() == own.id())
    }

    /// Waits for a future for at most so long, on whatever thread: in the broker's runtime, in another, in none.
    pub(crate) async fn timeout<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T> + Send,
    ) -> Result<T, Late> {
        tokio::select! {
            biased;
            output = future => Ok(output),
            () = self.late(limit) => Err(Late),
        }
    }

    /// Returns after so long, on whatever thread it is awaited.
    pub(crate) async fn late(&self, limit: Duration) {
        if self.is_current() {
            return sleep(limit).await; // `current` has seen that there are timers
        }
        // Boxed, for it is rare and large, and every post's future would be as large.
        Box::pin(self.late_elsewhere(limit)).await;
    }

    /// The same, where the caller is not in the broker's runtime.
    async fn late_elsewhere(&self, limit: Duration) {
        let begun = Instant::now();
        let current = Handle::try_current().ok();
        if let Some(timer) = current.and_then(|current| timer_of(&current, limit)) {
            over_or_ended(timer).await;
            if begun.elapsed() >= limit {
                return;
            }
            // The clock of the caller's runtime is paused, and the broker's is not; or that runtime has ended.
        }
        let rest = limit.saturating_sub(begun.elapsed());
        match &self.0 {
            Some(own) => borrowed(own, rest).await,
            None => by_thread(rest).await,
        }
    }
}

/// A timer of a runtime in which the caller is not. Nothing is to be waited for in one that has ended.
async fn borrowed(runtime: &Handle, limit: Duration) {
    let timer = {
        let _entered = runtime.enter();
        sleep(limit)
    };
    over_or_ended(timer).await;
}

/// Returns when the time is over, or the timer's runtime has ended: that has no timers any more, and tokio says so by a
/// panic.
async fn over_or_ended(timer: Sleep) {
    let mut timer = pin!(timer);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| timer.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(()))
    })
    .await;
}

/// For a local broker where there is no timer: a thread waits, until the time is over or nobody waits for it any more.
async fn by_thread(limit: Duration) {
    let (over, waiting) = oneshot::channel::<()>();
    let (_alive, dropped) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _ = dropped.recv_timeout(limit);
        drop(over);
    });
    let _ = waiting.await;
}

/// A timer of the runtime in which the caller is. None where it has no timers: tokio says so by a panic only, so that
/// the answer is kept.
fn timer_of(current: &Handle, limit: Duration) -> Option<Sleep> {
    static WITHOUT: Mutex<Option<Id>> = Mutex::new(None);
    let without = || WITHOUT.lock().unwrap_or_else(PoisonError::into_inner);
    if *without() == Some(current.id()) {
        return None;
    }
    let timer = catch_unwind(|| sleep(limit)).ok();
    if timer.is_none() {
        *without() = Some(current.id());
    }
    timer
}

fn current(what: &str) -> Result<Handle> {
    Handle::try_current().map_err(|_| {
        let message = format!("{what} needs a tokio runtime: call this from within one");
        Error::new(ErrorKind::InvalidInput, message)
    })
}

#[cfg(test)]
mod tests {
    use crate::{Broker, Scope};

    // Every post copies its future. With all the ways to wait in it, it took 1,144 B; without the way through a full outbox, 544 B.
    #[tokio::test]
    async fn the_future_of_a_post_is_small() {
        let broker = Broker::local();
        let posting = broker.publish("room", "x", Scope::Local);
        assert!(size_of_val(&posting) <= 600, "{} B", size_of_val(&posting));
    }
}
