//! Foreign code that the broker runs: wakers, and the `Drop` of values. A panic in it ends here: it would otherwise end
//! the task that happened to run it, which serves others.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs foreign code. A panic in it is logged, and nothing else.
#[inline]
pub(crate) fn contain(what: &str, code: impl FnOnce()) {
    // Nothing of ours is in an inconsistent state: no lock is held, and what `code` owns is gone afterwards.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code)) {
        log(what, &*panic);
        // Dropping the payload is foreign code, too.
        std::mem::forget(panic);
    }
}

#[cold]
fn log(what: &str, panic: &(dyn Any + Send)) {
    tracing::error!("{what} panicked: {}", text(panic));
}

/// What a panic says, for a log or an error: short, on one line.
pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text");
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
