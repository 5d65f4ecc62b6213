//! Inbox: what a client has sent and was not yet handled.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use super::Any;
use crate::{Limits, socket::outbox::Outbox};

/// What is handled in the order of its arrival.
pub(super) enum Item {
    /// New credentials; `None` to sign out.
    Authenticate(Option<String>),
    /// For an endpoint, by its place.
    Message(usize, Any),
    /// A text that ends the connection, for this reason.
    Bad(&'static str),
}

impl Item {
    fn bytes(&self) -> usize {
        let own = match self {
            Self::Authenticate(key) => key.as_ref().map_or(0, String::len),
            Self::Message(_, message) => message.bytes(),
            Self::Bad(_) => 0,
        };
        own + size_of::<Self>()
    }
}

/// What was not yet handled. It holds at most a window of items, and, but for one item, so many bytes.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    most: usize,
    most_bytes: usize,
    /// The socket is told when there is room again.
    outbox: Arc<Outbox>,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: usize,
    /// Nothing comes any more.
    ended: bool,
    reader: Option<Waker>,
}

impl Inbox {
    pub(super) fn new(limits: &Limits, outbox: &Arc<Outbox>) -> Self {
        let most = usize::try_from(limits.window).unwrap_or(usize::MAX);
        let (most_bytes, outbox) = (limits.window_bytes, Arc::clone(outbox));
        Self { waiting: Mutex::default(), most, most_bytes, outbox }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more item.
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.lock();
        !waiting.ended && waiting.items.len() < self.most && waiting.bytes < self.most_bytes
    }

    /// Adds an item. Behind a bad one there is no room for more.
    pub(super) fn push(&self, item: Item) {
        let mut waiting = self.lock();
        waiting.ended |= matches!(item, Item::Bad(_));
        waiting.bytes += item.bytes();
        waiting.items.push_back(item);
        let reader = waiting.reader.take();
        drop(waiting);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Nothing comes any more: what is there is the rest.
    pub(super) fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        let reader = waiting.reader.take();
        drop(waiting);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The next item; `None` when all was taken and nothing comes any more. Cancel safe.
    pub(super) async fn next(&self) -> Option<Item> {
        let item = poll_fn(|cx| {
            let mut waiting = self.lock();
            if let Some(item) = waiting.items.pop_front() {
                waiting.bytes -= item.bytes();
                return Poll::Ready(Some(item));
            }
            if waiting.ended {
                return Poll::Ready(None);
            }
            let old = waiting.reader.replace(cx.waker().clone());
            drop(waiting);
            drop(old);
            Poll::Pending
        })
        .await;
        // The socket may not have been read, for lack of room.
        self.outbox.wake();
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(window: u32, window_bytes: usize) -> Inbox {
        let limits = Limits { window, window_bytes, ..Limits::default() };
        Inbox::new(&limits, &Arc::new(Outbox::new(1)))
    }

    #[tokio::test]
    async fn there_is_room_for_a_window_of_items() {
        let inbox = inbox(2, 1 << 20);
        inbox.push(Item::Authenticate(None));
        assert!(inbox.has_room());
        inbox.push(Item::Message(0, Any::new("int", "1")));
        assert!(!inbox.has_room());
        assert!(matches!(inbox.next().await, Some(Item::Authenticate(None))));
        assert!(inbox.has_room());
        inbox.push(Item::Bad("bad"));
        assert!(!inbox.has_room());
        assert!(matches!(inbox.next().await, Some(Item::Message(0, _))));
        assert!(!inbox.has_room(), "behind a bad one there is none");
        assert!(matches!(inbox.next().await, Some(Item::Bad("bad"))));
        assert!(inbox.next().await.is_none());
    }

    #[tokio::test]
    async fn the_socket_is_told_of_the_room() {
        let outbox = Arc::new(Outbox::new(1));
        let inbox = Inbox::new(&Limits::default(), &outbox);
        inbox.push(Item::Authenticate(None));
        assert!(outbox.may_wait(true));
        assert!(inbox.next().await.is_some());
        assert!(!outbox.may_wait(true), "it has to read again");
    }

    #[tokio::test]
    async fn bytes_are_limited_too_but_for_one_item() {
        let inbox = inbox(64, 100);
        let long = "1".repeat(1000);
        inbox.push(Item::Message(0, Any::new("int", &long)));
        assert!(!inbox.has_room());
        assert!(inbox.next().await.is_some());
        assert!(inbox.has_room());
        inbox.end();
        assert!(inbox.next().await.is_none());
    }
}
