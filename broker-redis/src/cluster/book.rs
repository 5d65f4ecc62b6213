//! Book: which channels one connection is subscribed to, as the server says by their names.
//!
//! A server that gives a slot away ends the subscriptions in it unasked. The client takes that message for the reply to the
//! oldest call in flight, and every reply behind it goes to a wrong call. So nothing here is counted: a channel is subscribed
//! when the server has named it.

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use broker_core::ChannelName;
use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    state: Mutex<State>,
    /// Something was named.
    named: Notify,
    closed: AtomicBool,
    /// How often the server has pushed something.
    heard: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    subscribed: HashSet<ChannelName>,
    /// Asked for, and not named yet.
    coming: HashSet<ChannelName>,
    /// Given up, and not named yet.
    leaving: HashSet<ChannelName>,
    /// How many calls are in flight, and whether the replies to them may have gone to wrong ones.
    calls: usize,
    shifted: bool,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has pushed something: it lives.
    pub(crate) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// A call begins.
    pub(crate) fn begin(&self) {
        let mut state = self.lock();
        state.shifted &= state.calls > 0;
        state.calls += 1;
    }

    /// A call has ended. Whether every reply to it was its own.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.lock();
        state.calls = state.calls.saturating_sub(1);
        !state.shifted
    }

    /// These are asked for.
    pub(crate) fn ask(&self, channels: &[ChannelName]) {
        self.lock().coming.extend(channels.iter().cloned());
    }

    /// These will not come: they were refused, or are served elsewhere.
    pub(crate) fn give_up(&self, channels: &[ChannelName]) {
        let mut state = self.lock();
        channels.iter().for_each(|channel| _ = state.coming.remove(channel));
    }

    /// Those of the channels that are subscribed here, which are given up.
    pub(crate) fn leave(&self, channels: &[ChannelName]) -> Vec<ChannelName> {
        let mut state = self.lock();
        let here: Vec<_> =
            channels.iter().filter(|channel| state.subscribed.contains(*channel)).cloned().collect();
        state.leaving.extend(here.iter().cloned());
        here
    }

    /// These have been left, or were ended.
    pub(crate) fn left(&self, channels: &[ChannelName]) {
        let mut state = self.lock();
        for channel in channels {
            state.leaving.remove(channel);
            state.subscribed.remove(channel);
        }
    }

    /// The server has subscribed a channel.
    pub(crate) fn subscribed(&self, name: &str) {
        let mut state = self.lock();
        if let Some(channel) = state.coming.take(name) {
            state.subscribed.insert(channel);
        }
        drop(state);
        self.named.notify_waiters();
    }

    /// The server has ended a subscription. The channel, if nobody had asked for that.
    pub(crate) fn unsubscribed(&self, name: &str) -> Option<ChannelName> {
        let mut state = self.lock();
        let ended = if state.leaving.remove(name) {
            state.subscribed.remove(name);
            None
        } else {
            state.shifted |= state.calls > 0;
            state.subscribed.take(name)
        };
        drop(state);
        self.named.notify_waiters();
        ended
    }

    /// Waits until none of these is coming or leaving. `false`: the book was closed before, and they are nowhere. Cancel
    /// safe.
    pub(crate) async fn settled(&self, channels: &[ChannelName]) -> bool {
        loop {
            let mut named = std::pin::pin!(self.named.notified());
            named.as_mut().enable();
            {
                let state = self.lock();
                if self.is_closed() {
                    return false;
                }
                let open = |channel| state.coming.contains(channel) || state.leaving.contains(channel);
                if !channels.iter().any(open) {
                    return true;
                }
            }
            named.await;
        }
    }

    /// Nothing of the connection counts any more. What was subscribed on it, once; who waits for what was about to be
    /// learns it from [`settled`](Self::settled).
    pub(crate) fn close(&self) -> Vec<ChannelName> {
        let mut state = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        let mut channels: HashSet<ChannelName> = std::mem::take(&mut state.subscribed);
        for left in std::mem::take(&mut state.leaving) {
            channels.remove(&left);
        }
        state.coming.clear();
        drop(state);
        self.named.notify_waiters();
        channels.into_iter().collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn names(names: &[&str]) -> Vec<ChannelName> {
        names.iter().map(|name| ChannelName::new(*name).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_channel_is_subscribed_when_the_server_names_it() {
        let book = Book::default();
        let (a, both) = (names(&["a"]), names(&["a", "b"]));
        book.ask(&both);
        book.subscribed("a");
        book.subscribed("never asked");
        assert!(book.settled(&a).await);
        assert!(book.settled(&both).now_or_never().is_none());
        book.subscribed("b");
        assert!(book.settled(&both).await);
        assert_eq!(book.leave(&names(&["b", "c"])), names(&["b"]));
        assert_eq!(book.unsubscribed("b"), None, "it was left");
        assert_eq!(book.close(), a);
        assert_eq!(book.close(), []);
    }

    #[tokio::test]
    async fn what_was_coming_when_the_book_was_closed_is_not_subscribed() {
        let (book, both) = (Book::default(), names(&["a", "b"]));
        book.ask(&both);
        book.subscribed("a");
        let settled = book.settled(&both);
        let mut settled = std::pin::pin!(settled);
        assert!(settled.as_mut().now_or_never().is_none());
        assert_eq!(book.close(), names(&["a"]));
        assert!(!settled.await);
        book.ask(&both);
        assert_eq!(book.settled(&both).now_or_never(), Some(false), "asked too late");
    }

    #[test]
    fn what_ends_unasked_makes_the_replies_doubtful_until_all_calls_are_over() {
        let book = Book::default();
        book.ask(&names(&["a", "b"]));
        ["a", "b"].iter().for_each(|name| book.subscribed(name));
        assert_eq!(book.unsubscribed("a"), names(&["a"]).pop(), "no call was in flight");
        book.begin();
        assert!(book.end());
        book.begin();
        assert_eq!(book.unsubscribed("b"), names(&["b"]).pop());
        assert_eq!(book.unsubscribed("b"), None, "once");
        book.begin();
        assert!(!book.end() && !book.end());
        book.begin();
        assert!(book.end());
    }
}
