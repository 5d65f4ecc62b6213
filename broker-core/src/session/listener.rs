//! Listener: the task that calls one function with what a channel brings, and its handle.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{listener_fn::ListenerItem, state::Shared};
use crate::{CloseReason, Event, Subscription, runtime::tasks};

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
/// `lasting` is dropped when it ends.
///
/// A block that uses what it captures where it is, not an `async fn`, so that all of it lives in the future once. The calls
/// are boxed until nothing waits: most listeners wait most of the time, and would keep the room for what their function holds
/// across its awaits.
pub(crate) fn listen<I, F, Fut>(
    subscription: Subscription,
    function: F,
    lasting: impl Send + 'static,
) -> impl Future<Output = CloseReason> + Send
where
    I: ListenerItem,
    F: FnMut(I) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut parts = Parts { reporting: PanicReport(subscription), function, _lasting: lasting };
    async move {
        // All of them, so that they are dropped in their order.
        let parts = &mut parts;
        // The calls have just ended with a look at what waits, which has left the waker.
        let mut waits = false;
        loop {
            let subscription = &mut parts.reporting.0;
            let next =
                poll_fn(|cx| if mem::take(&mut waits) { Poll::Pending } else { subscription.poll_event(cx) });
            let Some(event) = next.await else { return reason(subscription) };
            match Box::pin(calls(subscription, &mut parts.function, event)).await {
                None => waits = true,
                Some(reason) => return reason,
            }
        }
    }
}

/// Calls the function with what has come, and with what comes meanwhile, one after another. `None` when nothing waits any
/// more or its turn is over, and why it ended when it did.
async fn calls<I, F, Fut>(
    subscription: &mut Subscription,
    function: &mut F,
    first: Event,
) -> Option<CloseReason>
where
    I: ListenerItem,
    F: FnMut(I) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut event = first;
    loop {
        if let Ended::Aborted = called(subscription, function, event).await {
            return Some(CloseReason::BrokerClosed);
        }
        match poll_fn(|cx| Poll::Ready(subscription.poll_event(cx))).await {
            Poll::Ready(Some(next)) => event = next,
            Poll::Ready(None) => return Some(reason(subscription)),
            Poll::Pending => return None,
        }
    }
}

fn reason(subscription: &Subscription) -> CloseReason {
    subscription.close_reason().cloned().unwrap_or(CloseReason::BrokerClosed)
}

/// Calls the function with what has come, if that is what it takes.
async fn called<I, F, Fut>(subscription: &Subscription, function: &mut F, event: Event) -> Ended
where
    I: ListenerItem,
    F: FnMut(I) -> Fut,
    Fut: Future<Output = ()>,
{
    let delivery = subscription.delivery(&event);
    let item = match I::from_event(event) {
        Ok(item) => item,
        Err(error) => {
            tracing::warn!(channel = %subscription.channel(), "a listener was not called: {error}");
            return Ended::Called;
        }
    };
    // Closed while it was decoded: no call begins (promise 8).
    let open = Some(subscription).filter(|subscription| !subscription.is_closed());
    let Some(beginning) = open.and_then(Subscription::gate).and_then(|gate| gate.enter()) else {
        return Ended::Called;
    };
    let mut beginning = Some(beginning);
    let mut call = pin!(within(subscription, || delivery.run(|| function(item))));
    // Made for a call that waits, since only that has to be broken off: the subscription ends by itself. Boxed: it is
    // large, and most calls return at once.
    let mut aborted = None;
    poll_fn(|cx| {
        let called = within(subscription, || delivery.run(|| call.as_mut().poll(cx)));
        drop(beginning.take());
        if called.is_ready() {
            return Poll::Ready(Ended::Called);
        }
        let aborted = aborted.get_or_insert_with(|| Box::pin(subscription.aborted()));
        aborted.as_mut().poll(cx).map(|()| Ended::Aborted)
    })
    .await
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

/// What a listener holds, in the order in which it is dropped.
struct Parts<F, L> {
    reporting: PanicReport,
    function: F,
    _lasting: L,
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

    // Tokio allocates a task in steps of 128 B; 144 B are what a future may take to stay within two of them.
    #[tokio::test]
    async fn the_future_of_a_listener_is_small() {
        let subscription = Broker::local().subscribe("room").await.unwrap();
        let captured = std::sync::Arc::new([0; 1024]);
        let listening = listen(
            subscription,
            move |_: Received<Tick>| {
                let (large, captured) = ([1; 1024], captured.clone());
                async move {
                    tokio::task::yield_now().await;
                    assert_ne!(large, *captured);
                }
            },
            (),
        );
        assert!(size_of_val(&listening) <= 144, "{} B", size_of_val(&listening));
    }
}
