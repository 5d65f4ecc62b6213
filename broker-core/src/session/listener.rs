//! Listeners: the task that calls one function with what a channel brings.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use crate::{Model, Received, StreamError, Subscription, runtime::tasks, subscription::stream};

/// Names a listener of one session, to remove it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId {
    pub(crate) session: u64,
    pub(crate) number: u64,
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.session, self.number)
    }
}

/// What a listener's function can take.
///
/// - [`StreamItem<T>`](crate::StreamItem): everything, gaps and unreadable messages included. Take this one where a loss matters.
/// - [`Received<T>`]: the values alone; gaps and unreadable messages are logged as warnings.
pub trait ListenerItem: Send + 'static + sealed::Sealed {
    /// The type of the messages.
    type Model: Model;

    /// What of an item the function is called with.
    #[doc(hidden)]
    fn from_item(item: stream::StreamItem<Self::Model>) -> Result<Self, StreamError>
    where
        Self: Sized;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for crate::Received<T> {}
    impl<T> Sealed for crate::StreamItem<T> {}
}

impl<T: Model> ListenerItem for Received<T> {
    type Model = T;

    fn from_item(item: stream::StreamItem<T>) -> Result<Self, StreamError> {
        item
    }
}

impl<T: Model> ListenerItem for stream::StreamItem<T> {
    type Model = T;

    fn from_item(item: stream::StreamItem<T>) -> Result<Self, StreamError> {
        Ok(item)
    }
}

/// The listener's loop. Calls are sequential; it ends with its subscription or by a panic of
/// `function`, which unwinds this task and nothing else; or when the broker aborts, at an await in the middle of a call.
///
/// A block that uses what it captures where it is, not an `async fn`, so that all of it lives in the future once.
pub(crate) fn listen<I, F, Fut>(
    subscription: Subscription,
    mut function: F,
) -> impl Future<Output = ()> + Send
where
    I: ListenerItem,
    F: FnMut(I) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut reporting = PanicReport(subscription);
    async move {
        loop {
            let item = {
                let Some(event) = reporting.0.next().await else { return };
                match I::from_item(stream::item(event)) {
                    Ok(item) => item,
                    Err(error) => {
                        tracing::warn!(channel = %reporting.0.channel(), "a listener was not called: {error}");
                        continue;
                    }
                }
            };
            // Closed while it was decoded: no call begins (promise 8).
            let open = Some(&reporting.0).filter(|subscription| !subscription.is_closed());
            let Some(beginning) = open.and_then(Subscription::gate).and_then(|gate| gate.enter()) else {
                continue;
            };
            let node = reporting.0.node();
            let mut beginning = Some(beginning);
            let mut call = pin!(tasks::within(node, || function(item)));
            let mut aborted = pin!(reporting.0.aborted());
            let ended = poll_fn(move |cx| {
                let called = tasks::within(node, || call.as_mut().poll(cx));
                drop(beginning.take());
                if called.is_ready() {
                    return Poll::Ready(Ended::Called);
                }
                // The subscription ends by itself; only a call has to be broken off.
                aborted.as_mut().poll(cx).map(|()| Ended::Aborted)
            });
            if let Ended::Aborted = ended.await {
                return;
            }
        }
    }
}

/// How a call ended.
enum Ended {
    Called,
    Aborted,
}

/// Logs when it is dropped by a panic.
struct PanicReport(Subscription);

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(channel = %self.0.channel(), "a listener panicked and was removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::Broker;

    #[derive(Serialize, Deserialize)]
    struct Tick;

    impl Model for Tick {
        const NAME: &'static str = "Tick";
    }

    // Tokio allocates a task in steps of 128 B; 272 B are what a future may take to stay within three of them.
    #[tokio::test]
    async fn a_listener_takes_three_steps_of_memory() {
        let subscription = Broker::local().subscribe("room").await.unwrap();
        let listening = listen(subscription, async |_: Received<Tick>| {});
        assert!(size_of_val(&listening) <= 272, "{} B", size_of_val(&listening));
    }
}
