//! Feed: what one reader of an endpoint's stream has not read yet.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use broker_model::{Unreadable, Value};
use futures_core::Stream;

use super::Inner;
use crate::CallError;

/// A message of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointMessage {
    class_name: Box<str>,
    json: Box<str>,
}

impl EndpointMessage {
    pub(super) fn new(class_name: &str, json: &str) -> Self {
        Self { class_name: class_name.into(), json: json.into() }
    }

    /// The name of its class.
    #[must_use]
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// Its data, as JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The message as what it is.
    ///
    /// # Errors
    /// [`Unreadable`] for another class, or data that do not fit.
    pub fn read<T: Value>(&self) -> Result<T, Unreadable> {
        T::decode(&self.class_name, &self.json)
    }
}

/// The messages of one endpoint, from the moment at which this was made. By
/// [`Endpoints::stream`](super::Endpoints::stream).
///
/// It goes on when the connection is made again: [`CallError::Restarted`] stands where messages may be
/// missing. A reader that is slow finds [`CallError::Gap`] in the place of the oldest.
pub struct EndpointStream {
    feed: Arc<Feed>,
    _client: Arc<Inner>,
}

impl EndpointStream {
    /// The next message. It waits as long as there is none, connected or not. Cancel safe.
    ///
    /// # Errors
    /// [`CallError::Gap`] and [`CallError::Restarted`], in the place of what is missing. The stream goes on.
    pub async fn next(&mut self) -> Result<EndpointMessage, CallError> {
        poll_fn(|cx| self.feed.poll_next(cx)).await
    }
}

impl Stream for EndpointStream {
    type Item = Result<EndpointMessage, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.feed.poll_next(cx).map(Some)
    }
}

impl fmt::Debug for EndpointStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointStream")
    }
}

#[derive(Default)]
struct Feed(Mutex<State>);

#[derive(Default)]
struct State {
    /// Messages. Nothing in the place of one: the connection was made again.
    queue: VecDeque<Option<EndpointMessage>>,
    bytes: usize,
    /// Messages that have made room for those in the queue.
    missed: u64,
    reader: Option<Waker>,
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<EndpointMessage, CallError>> {
        let mut state = self.state();
        if state.missed > 0 {
            let missed = Some(mem::take(&mut state.missed));
            return Poll::Ready(Err(CallError::Gap { missed, cause: "overflow".into() }));
        }
        if let Some(entry) = state.queue.pop_front() {
            let Some(message) = entry else { return Poll::Ready(Err(CallError::Restarted)) };
            state.bytes -= cost(&message);
            return Poll::Ready(Ok(message));
        }
        let before = state.reader.replace(cx.waker().clone());
        drop(state);
        drop(before);
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// What a message costs, with what keeps it.
const fn cost(message: &EndpointMessage) -> usize {
    64 + message.class_name.len() + message.json.len()
}

/// All readers, by endpoint.
#[derive(Default)]
pub(super) struct Feeds(Mutex<HashMap<Box<str>, Vec<Weak<Feed>>>>);

impl Feeds {
    pub(super) fn open(&self, endpoint: &str, client: Arc<Inner>) -> EndpointStream {
        let feed = Arc::new(Feed::default());
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|_, readers| {
            readers.retain(|reader| reader.strong_count() > 0);
            !readers.is_empty()
        });
        feeds.entry(endpoint.into()).or_default().push(Arc::downgrade(&feed));
        drop(feeds);
        EndpointStream { feed, _client: client }
    }

    /// A message has come. A reader holds at most `limit` bytes; the oldest messages make room.
    pub(super) fn deliver(&self, endpoint: &str, message: &EndpointMessage, limit: usize) {
        let feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let readers: Vec<_> = feeds.get(endpoint).into_iter().flatten().filter_map(Weak::upgrade).collect();
        drop(feeds);
        for reader in readers {
            reader.change(|state| {
                state.bytes += cost(message);
                state.queue.push_back(Some(message.clone()));
                while state.bytes > limit && state.queue.len() > 1 {
                    if let Some(oldest) = state.queue.pop_front().flatten() {
                        state.bytes -= cost(&oldest);
                        state.missed += 1;
                    }
                }
            });
        }
    }

    /// The connection was made again.
    pub(super) fn restarted(&self) {
        let feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let readers: Vec<_> = feeds.values().flatten().filter_map(Weak::upgrade).collect();
        drop(feeds);
        for reader in readers {
            reader.change(|state| {
                if !matches!(state.queue.back(), Some(None)) {
                    state.queue.push_back(None);
                }
            });
        }
    }
}
