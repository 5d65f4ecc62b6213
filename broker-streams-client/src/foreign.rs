//! Foreign: code of the application that the task of a connection runs. A panic in it must not end the calls of others.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// The application's code has panicked. What it said went to the panic hook.
#[derive(Debug)]
pub(crate) struct Panicked;

impl From<Box<dyn Any + Send>> for Panicked {
    fn from(payload: Box<dyn Any + Send>) -> Self {
        discard(payload);
        Self
    }
}

/// Runs what may panic.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(Panicked::from)
}

/// Drops what is of the application.
pub(crate) fn discard<T>(what: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(what))) {
        tracing::error!("a value of the application has panicked when it was dropped");
        // Whatever it is: it would panic again.
        std::mem::forget(payload);
    }
}

/// A future of the application. It is dropped as soon as it is ready.
pub(crate) struct Foreign<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> Foreign<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T> Future for Foreign<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.0 else { return Poll::Ready(Err(Panicked)) };
        let output = match guarded(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panicked) => Err(panicked),
        };
        discard(self.0.take());
        Poll::Ready(output)
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}
