//! Subscription: one subscription, read at the very moment something arrives.
//!
//! The client gives every subscription a queue of its own, so whoever reads them later no longer knows which
//! message of which channel came first; and a queue that nobody reads in time drops the newest. A subscription is its
//! queue's waker. The client's task calls it right after it has put a message there, and the subscription takes it out
//! again and hands it over, on that very call: what a link delivers has the order of its arrival across
//! all channels, no queue ever holds more than one message, and there is no task per channel.
//!
//! All of that happens on the [`ClientThread`](crate::client_thread::ClientThread), so no two calls ever meet.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::task::coop::unconstrained;

use crate::connection_state::ConnectionState;

/// See the module. It keeps itself alive while it has a subscriber: until [`end`](Self::end), or until the client's
/// tasks end.
pub(crate) struct Subscription {
    connection: Arc<ConnectionState>,
    subscriber: Mutex<Option<Subscriber>>,
}

impl Subscription {
    /// Begins to read. To be called on the client_thread, at once after subscribing.
    pub(crate) fn start(connection: Arc<ConnectionState>, subscriber: Subscriber) -> Arc<Self> {
        let subscription = Arc::new(Self { connection, subscriber: Mutex::new(Some(subscriber)) });
        Arc::clone(&subscription).wake();
        subscription
    }

    /// Ends it: nothing is received through it any more, and the client unsubscribes at once.
    pub(crate) fn end(&self) {
        let _unsubscribed = self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Wake for Subscription {
    /// Hands over what is there, until there is nothing.
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        // Nobody else holds it for anything but to end it.
        let Ok(mut subscriber) = self.subscriber.try_lock() else { return };
        while let Some(open) = subscriber.as_mut() {
            // Not on the budget of the client's task: with that used up, a full queue would look empty.
            match pin!(unconstrained(open.next())).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(message)) => self.connection.receive(message),
                Poll::Ready(None) => {
                    *subscriber = None;
                    self.connection.lose(self.connection.peer.disconnected());
                }
                Poll::Pending => return,
            }
        }
    }
}
