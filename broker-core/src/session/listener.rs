//! Listener: the task that calls one function with what a channel brings, and its handle.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{listener_fn::ListenerItem, state::Shared};
use crate::{CloseReason, Subscription, runtime::tasks};

/// How long a call may hold its thread before the log says so.
const HELD_LONG: Duration = Duration::from_secs(1);

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

/// A listener that was added. Names it, to remove it again, and reports its end.
///
/// Dropping the handle changes nothing: the listener goes on until it is removed, its session or the broker ends, or its
/// function panics.
#[derive(Debug)]
pub struct Listener {
    session: Arc<Shared>,
    number: u64,
    task: Option<JoinHandle<CloseReason>>,
    ended: Option<ListenerEnd>,
}

/// Why a listener ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerEnd {
    /// Its subscription ended: it was removed, its session or the broker was closed, or the backend refuses the channel.
    Closed(CloseReason),
    /// Its function panicked.
    Panicked,
}

impl fmt::Display for ListenerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => reason.fmt(f),
            Self::Panicked => f.write_str("the listener panicked"),
        }
    }
}

impl Listener {
    pub(super) fn new(session: Arc<Shared>, number: u64, task: JoinHandle<CloseReason>) -> Self {
        Self { session, number, task: Some(task), ended: None }
    }

    /// Names it among all listeners of the broker.
    #[must_use]
    pub fn id(&self) -> ListenerId {
        ListenerId { session: self.session.id, number: self.number }
    }

    /// Removes it, as [`Session::remove_listener`](crate::Session::remove_listener) does. Returns whether it was there.
    pub fn remove(&self) -> bool {
        self.session.end_listener(self.number)
    }

    /// Waits until no call runs any more, and says why it ended. Cancel safe; later calls say the same at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{CloseReason, Event, ListenerEnd};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut listener = broker.add_listener("news", |event: Event| println!("{event:?}")).await?;
    /// listener.remove();
    /// assert_eq!(listener.ended().await, ListenerEnd::Closed(CloseReason::Removed));
    /// # Ok(()) }
    /// ```
    pub async fn ended(&mut self) -> ListenerEnd {
        if let Some(task) = &mut self.task {
            let end = match task.await {
                Ok(reason) => ListenerEnd::Closed(reason),
                Err(error) if error.is_panic() => ListenerEnd::Panicked,
                // The runtime is gone, and the broker with it.
                Err(_) => ListenerEnd::Closed(CloseReason::BrokerClosed),
            };
            self.task = None;
            self.ended = Some(end);
        }
        self.ended.clone().unwrap_or(ListenerEnd::Closed(CloseReason::BrokerClosed))
    }
}

impl From<&Listener> for ListenerId {
    fn from(listener: &Listener) -> Self {
        listener.id()
    }
}

impl From<Listener> for ListenerId {
    fn from(listener: Listener) -> Self {
        listener.id()
    }
}

/// The listener's loop. Calls are sequential; it ends with its subscription or by a panic of
/// `function`, which unwinds this task and nothing else; or when the broker aborts, at an await in the middle of a call.
///
/// A block that uses what it captures where it is, not an `async fn`, so that all of it lives in the future once.
pub(crate) fn listen<I, F, Fut>(
    subscription: Subscription,
    mut function: F,
) -> impl Future<Output = CloseReason> + Send
where
    I: ListenerItem,
    F: FnMut(I) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut reporting = PanicReport(subscription);
    async move {
        loop {
            let delivery;
            let item = {
                let Some(event) = reporting.0.next().await else {
                    return reporting.0.close_reason().cloned().unwrap_or(CloseReason::BrokerClosed);
                };
                delivery = reporting.0.delivery(&event);
                match I::from_event(event) {
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
            let mut beginning = Some(beginning);
            let subscription = &reporting.0;
            let mut call = pin!(within(subscription, || delivery.run(|| function(item))));
            // Made for a call that waits, since only that has to be broken off: the subscription ends by itself. Boxed:
            // it is large, and most calls return at once.
            let mut aborted = None;
            let ended = poll_fn(move |cx| {
                let called = within(subscription, || delivery.run(|| call.as_mut().poll(cx)));
                drop(beginning.take());
                if called.is_ready() {
                    return Poll::Ready(Ended::Called);
                }
                let aborted = aborted.get_or_insert_with(|| Box::pin(subscription.aborted()));
                aborted.as_mut().poll(cx).map(|()| Ended::Aborted)
            });
            if let Ended::Aborted = ended.await {
                return CloseReason::BrokerClosed;
            }
        }
    }
}

/// Runs a part of a call, as code of its broker, and warns when it held its thread for long: meanwhile nothing else ran
/// there.
fn within<R>(subscription: &Subscription, part: impl FnOnce() -> R) -> R {
    let began = Instant::now();
    let result = tasks::within(subscription.node(), part);
    let took = began.elapsed();
    if took > HELD_LONG {
        tracing::warn!(
            channel = %subscription.channel(),
            "a listener held its thread for {took:.1?}; move work that blocks to tokio::task::spawn_blocking"
        );
    }
    result
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
            self.0.meter().listener_panicked();
            tracing::error!(channel = %self.0.channel(), "a listener panicked and was removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{Broker, Model, Received};

    #[derive(Serialize, Deserialize)]
    struct Tick;

    impl Model for Tick {
        const NAME: &'static str = "Tick";
    }

    // Tokio allocates a task in steps of 128 B; 272 B are what a future may take to stay within three of them.
    #[tokio::test]
    async fn the_future_of_a_listener_is_small() {
        let subscription = Broker::local().subscribe("room").await.unwrap();
        let listening = listen(subscription, async |_: Received<Tick>| {});
        assert!(size_of_val(&listening) <= 272, "{} B", size_of_val(&listening));
    }
}
