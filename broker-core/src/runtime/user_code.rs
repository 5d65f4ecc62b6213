//! Foreign code that the broker runs: wakers, and the `Drop` of values. A panic in it ends here: it would otherwise end
//! the task that happened to run it, which serves others.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
};

/// Runs foreign code. A panic in it is logged, and nothing else.
#[inline]
pub(crate) fn contain(what: &str, code: impl FnOnce()) {
    // Nothing of ours is in an inconsistent state: no lock is held, and what `code` owns is gone afterwards.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code)) {
        // A subscriber of the log is foreign code, too, and so is the payload's `Drop`.
        let _ = catch_unwind(AssertUnwindSafe(|| log(what, &*panic))).map_err(std::mem::forget);
        std::mem::forget(panic);
    }
}

#[cold]
fn log(what: &str, panic: &(dyn Any + Send)) {
    tracing::error!("{what} panicked: {}", text(panic));
}

/// Waits in a list that others wait in, too: with a waker that contains a panic of the caller's. The lists of tokio wake
/// nobody else after one.
pub(crate) async fn shielded<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut last: Option<(Waker, Waker)> = None;
    poll_fn(move |cx| {
        if last.as_ref().is_none_or(|(theirs, _)| !theirs.will_wake(cx.waker())) {
            let theirs = cx.waker().clone();
            last = Some((theirs.clone(), Waker::from(Arc::new(Shield(theirs)))));
        }
        let ours = last.as_ref().map_or_else(|| cx.waker(), |(_, ours)| ours);
        future.as_mut().poll(&mut Context::from_waker(ours))
    })
    .await
}

struct Shield(Waker);

impl Wake for Shield {
    fn wake(self: Arc<Self>) {
        contain("a waker", || self.0.wake_by_ref());
    }
}

/// What a panic says, for a log or an error: short, on one line.
pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text");
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
