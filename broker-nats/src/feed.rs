//! Feed: one subscription, read at the very moment something arrives.
//!
//! The client gives every subscription a queue of its own, so whoever reads them later no longer knows which
//! message of which channel came first; and a queue that nobody reads in time drops the newest. A feed is its
//! queue's waker. The client's task calls it right after it has put a message there, and the feed takes it out
//! again and hands it over, on that very call: what a link delivers has the order of its arrival across
//! all channels, no queue ever holds more than one message, and there is no task per channel.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use async_nats::Subscriber;
use futures_util::Stream;
use tokio::task::coop::unconstrained;

use crate::watch::Watch;

/// See the module. It keeps itself alive while it has a subscriber: [`take`](Self::take) ends that.
pub(crate) struct Feed {
    watch: Arc<Watch>,
    subscriber: Mutex<Option<Subscriber>>,
    /// How often it was woken since it began to read.
    wakes: AtomicUsize,
}

impl Feed {
    pub(crate) fn new(watch: &Arc<Watch>) -> Arc<Self> {
        let watch = Arc::clone(watch);
        Arc::new(Self { watch, subscriber: Mutex::new(None), wakes: AtomicUsize::new(0) })
    }

    /// Begins to read.
    pub(crate) fn start(self: &Arc<Self>, subscriber: Subscriber) {
        *self.lock() = Some(subscriber);
        self.wake_by_ref();
    }

    /// Ends it: nothing is heard of it any more.
    pub(crate) fn take(&self) -> Option<Subscriber> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Subscriber>> {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what is there, until there is nothing.
    fn read(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let mut subscriber = self.lock();
        while let Some(open) = subscriber.as_mut() {
            // Not on the budget of the client's task: with that used up, a full queue would look empty.
            let next = pin!(unconstrained(poll_fn(|context| Pin::new(&mut *open).poll_next(context))));
            match next.poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(message)) => self.watch.hear(&message),
                Poll::Ready(None) => {
                    *subscriber = None;
                    self.watch.lose(self.watch.peer.gone());
                }
                Poll::Pending => return,
            }
        }
    }
}

impl Wake for Feed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever comes first reads. The others, and a wake out of the reading itself, make it look again.
        if self.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut seen = 1;
        loop {
            self.read();
            match self.wakes.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(more) => seen = more,
            }
        }
    }
}
