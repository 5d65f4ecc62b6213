//! Replies: which requests of this node wait, and what has come for each of them.
//!
//! A request is in the table as long as its [`Waiting`] lives. Everything that comes from elsewhere is untrusted: a reply
//! to a request that does not wait is dropped, and no request keeps more replies than its bound.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    CloseReason, Gap, GapCause, Message, Result, driver::random, hub::Ring, metrics::Meter,
    runtime::user_code::contain,
};

/// See the module.
pub(crate) struct Replies {
    state: Mutex<State>,
}

struct State {
    /// The number of the last request. Begins at random, so that who has seen no request guesses none.
    last: u64,
    waiting: HashMap<u64, Inbox>,
    /// Where the reader reads.
    read: Option<Arc<Ring>>,
    /// The broker is closed.
    closed: bool,
}

/// What has come for one request.
pub(super) struct Inbox {
    /// Posted in this process only: its replies come straight here, and neither link nor reader is anything to it.
    local: bool,
    bound: usize,
    replies: VecDeque<Message>,
    /// How many replies had no room since that was reported last.
    dropped: u64,
    lost: Option<Gap>,
    ended: Option<CloseReason>,
    waker: Option<Waker>,
}

/// What a request receives.
#[derive(Debug)]
pub(crate) enum Arrived {
    Reply(Message),
    /// Replies may be missing.
    Lost(Gap),
    /// None comes any more.
    Ended(CloseReason),
}

/// A request that waits, until this is dropped.
pub(crate) struct Waiting {
    replies: Arc<Replies>,
    number: u64,
}

impl Default for Replies {
    fn default() -> Self {
        let state = State { last: random(), waiting: HashMap::new(), read: None, closed: false };
        Self { state: Mutex::new(state) }
    }
}

impl Replies {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where replies are read. If there is no reader, `make` makes a reader with its ring, under the lock, so that the next request
    /// finds that ring. The caller runs the reader, without the lock: a runtime that has ended drops it at once, and then it comes back
    /// [here](Self::end).
    pub(crate) fn reading<R>(
        &self,
        make: impl FnOnce() -> Result<(Arc<Ring>, R)>,
    ) -> Result<(Arc<Ring>, Option<R>)> {
        let mut state = self.lock();
        match &state.read {
            Some(ring) if ring.end_reason().is_none() => Ok((Arc::clone(ring), None)),
            _ => {
                let (ring, reader) = make()?;
                let last = state.read.replace(Arc::clone(&ring));
                drop(state);
                drop(last);
                Ok((ring, Some(reader)))
            }
        }
    }

    /// A place for a request, with room for so many replies that are not taken.
    pub(crate) fn wait(self: &Arc<Self>, local: bool, bound: usize) -> Waiting {
        let mut state = self.lock();
        let number = loop {
            state.last = state.last.wrapping_add(1) & (u64::MAX >> 1);
            if state.last != 0 && !state.waiting.contains_key(&state.last) {
                break state.last;
            }
        };
        let inbox = Inbox {
            local,
            bound,
            replies: VecDeque::new(),
            dropped: 0,
            lost: None,
            ended: state.closed.then_some(CloseReason::BrokerClosed),
            waker: None,
        };
        state.waiting.insert(number, inbox);
        Waiting { replies: Arc::clone(self), number }
    }

    /// A reply came. It is dropped if there is no request for it, or no room.
    pub(crate) fn put(&self, reply: Message, meter: &Meter) {
        if let Err(reply) = self.receive(reply) {
            meter.reply_dropped();
            tracing::debug!(origin = %reply.origin(), "a reply came for no request that waits");
            contain("a reply that was dropped", || drop(reply));
        }
    }

    /// Gives it back if there is no request for it, or no room.
    pub(super) fn receive(&self, reply: Message) -> Result<(), Message> {
        let Some(number) = reply.exchange().number() else { return Err(reply) };
        let waker = {
            let mut state = self.lock();
            match state.waiting.get_mut(&number) {
                // What is posted here is for those who wait here; one cannot stand for the other.
                Some(inbox) if inbox.local != reply.is_local() => return Err(reply),
                Some(inbox) if inbox.replies.len() < inbox.bound => {
                    inbox.replies.push_back(reply);
                    inbox.waker.take()
                }
                Some(inbox) => {
                    inbox.dropped += 1;
                    return Err(reply);
                }
                None => return Err(reply),
            }
        };
        wake(waker);
        Ok(())
    }

    /// Messages may be missing on the channel for replies.
    pub(crate) fn gap(&self, gap: Gap) {
        match gap.cause {
            // Reported when it broke; what waits now came later.
            GapCause::LinkLost => {}
            // Of other kinds of readers.
            GapCause::Conflated | GapCause::Subscribed => {}
            GapCause::Overflow | GapCause::Dropped | GapCause::Skipped => self.lose(gap),
        }
    }

    /// The link is gone, and what was under way with it.
    pub(crate) fn link_lost(&self) {
        self.lose(Gap::new(None, GapCause::LinkLost));
    }

    fn lose(&self, gap: Gap) {
        let lose = |inbox: &mut Inbox| inbox.lost = Some(inbox.lost.map_or(gap, |before| both(before, gap)));
        self.each(|inbox| !inbox.local, lose);
    }

    /// The reader of this ring ends, and with it what is replied to through the backend.
    pub(super) fn end(&self, ring: &Arc<Ring>, reason: &CloseReason) {
        let last = self.lock().read.take_if(|read| Arc::ptr_eq(read, ring));
        if last.is_some() {
            self.each(|inbox| !inbox.local, |inbox| inbox.end(reason));
        }
    }

    /// The broker is closed.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.each(|_| true, |inbox| inbox.end(&CloseReason::BrokerClosed));
    }

    fn each(&self, of: impl Fn(&Inbox) -> bool, change: impl Fn(&mut Inbox)) {
        let mut wakers = Vec::new();
        for inbox in self.lock().waiting.values_mut().filter(|inbox| of(inbox)) {
            change(inbox);
            wakers.push(inbox.waker.take());
        }
        wakers.into_iter().for_each(wake);
    }

    /// How many requests wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // Each on its own: what panics while another panic unwinds ends the process.
        mem::take(&mut self.replies)
            .into_iter()
            .for_each(|reply| contain("a reply that was dropped", || drop(reply)));
        let waker = self.waker.take();
        contain("a waker", || drop(waker));
    }
}

impl Inbox {
    /// What came, replies first.
    pub(super) fn next(&mut self) -> Option<Arrived> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(Arrived::Reply(reply));
        }
        if self.dropped > 0 {
            let missed = Some(mem::take(&mut self.dropped));
            return Some(Arrived::Lost(Gap::new(missed, GapCause::Overflow)));
        }
        if let Some(gap) = self.lost.take() {
            return Some(Arrived::Lost(gap));
        }
        self.ended.clone().map(Arrived::Ended)
    }

    fn end(&mut self, reason: &CloseReason) {
        self.ended.get_or_insert_with(|| reason.clone());
    }
}

impl Waiting {
    /// The request's number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Waits no more. What has come until now.
    pub(super) fn stop(self) -> Option<Inbox> {
        self.replies.lock().waiting.remove(&self.number)
    }

    /// What came, replies first.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Arrived> {
        let waker = cx.waker().clone(); // foreign code, so before the lock
        let mut state = self.replies.lock();
        let Some(inbox) = state.waiting.get_mut(&self.number) else {
            return Poll::Ready(Arrived::Ended(CloseReason::BrokerClosed));
        };
        if let Some(arrived) = inbox.next() {
            return Poll::Ready(arrived);
        }
        let last = inbox.waker.replace(waker);
        drop(state);
        drop(last);
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Dropped without the lock.
        let _inbox = self.replies.lock().waiting.remove(&self.number);
    }
}

/// One gap for two that are not reported yet.
fn both(before: Gap, gap: Gap) -> Gap {
    let missed = before.missed.zip(gap.missed).map(|(before, missed)| before.saturating_add(missed));
    Gap::new(missed, before.cause)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        contain("a waker", || waker.wake());
    }
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").field("waiting", &self.lock().waiting.len()).finish_non_exhaustive()
    }
}
