//! Without the feature: nothing.

use std::future::Future;

use crate::{Headers, Message};

/// The span in which a delivered message is processed.
#[derive(Clone, Debug)]
pub(crate) struct Delivery;

/// Adds the trace of the caller, unless the headers have one.
#[inline]
pub(crate) fn inject(_: &mut Headers) {}

impl Delivery {
    /// Of what is no message.
    pub(crate) fn none() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn of(_: &Message, _: &str, _: Option<&'static str>) -> Self {
        Self
    }

    /// Runs a part of what processes it.
    #[inline]
    pub(crate) fn run<R>(&self, part: impl FnOnce() -> R) -> R {
        part()
    }

    /// The same for a future, whenever it is polled.
    pub(crate) fn around<F: Future>(self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future
    }
}
