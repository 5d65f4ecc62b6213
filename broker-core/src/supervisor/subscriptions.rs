//! Subscriptions: which channels are wanted, which are subscribed at the backend, and who waits for that.
//!
//! What is wanted is the hub's table; here is the rest. It is level-triggered: names are put on a list to
//! look at, and each look compares the hub with `actual`. Lock order: subscriptions, then the hub's.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    ChannelName, Error, ErrorKind, Result,
    hub::Hub,
    runtime::{Runtime, user_code::contain},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    state: Mutex<State>,
    /// Notified when there is something to look at.
    notify: Notify,
    unsubscribe_delay: Duration,
    runtime: Runtime,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a link is up to be kept in step. Without one nothing is listed: a new link begins with
    /// everything the hub has.
    online: bool,
    /// Subscribed at the backend through the present link, confirmed.
    actual: HashSet<ChannelName>,
    /// Asked of the link just now: perhaps subscribed already, and then it may have been received.
    trying: Vec<ChannelName>,
    /// Of those that are being asked: the server does not deliver them any more, before it has confirmed them.
    lapsed: Vec<(ChannelName, Next)>,
    /// Somebody waits for these, or may.
    asked: Vec<ChannelName>,
    /// When the last listener left; and the same names in the order in which to look at them.
    left: HashMap<ChannelName, Instant>,
    leaving: VecDeque<(Instant, ChannelName)>,
    waiters: HashMap<ChannelName, Vec<Waiter>>,
    /// Why there is no link.
    last_error: Option<Error>,
    /// Why there will never be one again.
    closed: Option<Error>,
}

type Waiter = oneshot::Sender<Result<()>>;

/// What to do with a channel that the server delivers no more, and that is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Subscribe it again.
    Ask,
    /// Nothing, until the link says that it can be subscribed.
    Wait,
}

impl State {
    fn ask_again(&mut self, name: ChannelName, next: Next) {
        if self.online && next == Next::Ask {
            self.asked.push(name);
        }
    }

    /// Those of the channels being asked that the server has stopped to deliver. They are asked again.
    fn take_lapsed(&mut self) -> HashMap<ChannelName, Next> {
        let lapsed: HashMap<_, _> = mem::take(&mut self.lapsed).into_iter().collect();
        lapsed.iter().for_each(|(name, next)| self.ask_again(name.clone(), *next));
        lapsed
    }
}

impl Subscriptions {
    pub(crate) fn new(unsubscribe_delay: Duration, runtime: Runtime) -> Self {
        Self { state: Mutex::default(), notify: Notify::new(), unsubscribe_delay, runtime }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the backend has confirmed a channel that has a listener in the hub. A refusal ends the
    /// listener first and fails the waiting calls second: `refusal` reports it to a call in between.
    pub(crate) async fn confirmed(
        &self,
        name: &ChannelName,
        limit: Duration,
        refusal: impl Fn() -> Option<Error> + Send,
    ) -> Result<()> {
        let Some(waiting) = self.ask([name])?.pop() else { return Ok(()) };
        if let Some(error) = refusal() {
            return Err(error);
        }
        self.notify.notify_one();
        waiting.outcome(limit).await
    }

    /// The same for many, which are requested together and waited for within one limit. The error is that of the first
    /// one that fails, and names it.
    pub(crate) async fn all_confirmed(
        &self,
        names: &[&ChannelName],
        limit: Duration,
        refusal: impl Fn() -> Option<Error> + Send,
    ) -> Result<()> {
        let mut waiting = self.ask(names.iter().copied())?;
        if let Some(error) = refusal() {
            return Err(error);
        }
        self.notify.notify_one();
        let all = async {
            for waiting in &mut waiting {
                waiting.answer().await.map_err(|error| error.with_channel(waiting.name.clone()))?;
            }
            Ok(())
        };
        match self.runtime.timeout(limit, all).await {
            Ok(outcome) => outcome,
            Err(_) => Err(match waiting.iter().find(|waiting| waiting.receiver.is_some()) {
                Some(waiting) => waiting.late(limit).with_channel(waiting.name.clone()),
                None => Error::closed(),
            }),
        }
    }

    /// Requests channels together. A place to wait for each that is not subscribed already.
    fn ask<'a>(&'a self, names: impl IntoIterator<Item = &'a ChannelName>) -> Result<Vec<Waiting<'a>>> {
        let mut state = self.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let mut waiting = Vec::new();
        for name in names {
            if state.actual.contains(name) {
                continue;
            }
            let (sender, receiver) = oneshot::channel();
            state.waiters.entry(name.clone()).or_default().push(sender);
            if state.online {
                state.asked.push(name.clone());
            }
            waiting.push(Waiting { subscriptions: self, name, receiver: Some(receiver) });
        }
        Ok(waiting)
    }

    /// Requests channels that have a listener in the hub, and does not wait. Those that are subscribed already; the
    /// others begin when they are [confirmed](Self::confirm).
    pub(crate) fn request<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ChannelName>,
    ) -> Result<Vec<&'a ChannelName>> {
        let mut state = self.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let (live, asked): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| state.actual.contains(*name));
        if state.online {
            state.asked.extend(asked.into_iter().cloned());
        }
        drop(state);
        self.notify.notify_one();
        Ok(live)
    }

    /// The server delivers a channel no more. Its name, if it was subscribed, or may have been.
    pub(crate) fn note_unsubscribed(&self, name: &str, next: Next) -> Option<ChannelName> {
        let found = {
            let mut state = self.lock();
            // One that is being subscribed just now: the order of the two is unknown.
            let trying = || state.trying.iter().find(|trying| trying.as_str() == name).cloned();
            match state.actual.get(name).cloned() {
                Some(name) => {
                    state.actual.remove(&name);
                    state.ask_again(name.clone(), next);
                    Some(name)
                }
                None => match trying() {
                    Some(name) => {
                        state.lapsed.push((name.clone(), next));
                        Some(name)
                    }
                    None => {
                        // One that had to wait, if it is still wanted.
                        state.ask_again(ChannelName::internal(name.to_owned()), next);
                        None
                    }
                },
            }
        };
        self.notify.notify_one();
        found
    }

    /// There is something to look at.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// The last listener of a channel left here.
    pub(crate) fn note_left(&self, name: &ChannelName) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.online && state.left.insert(name.clone(), now).is_none() {
            state.leaving.push_back((now + self.unsubscribe_delay, name.clone()));
            drop(state);
            self.notify.notify_one();
        }
    }

    /// A link is up; the caller then subscribes everything the hub has.
    pub(crate) fn begin(&self) {
        let mut state = self.lock();
        state.online = true;
        state.last_error = None;
    }

    /// The link is gone. Returns what was subscribed through it, or may have been.
    pub(crate) fn end(&self, error: &Error) -> HashSet<ChannelName> {
        let mut state = self.lock();
        let mut carried = mem::take(&mut state.actual);
        carried.extend(mem::take(&mut state.trying));
        let waiters = mem::take(&mut state.waiters);
        let closed = state.closed.take();
        *state = State { waiters, last_error: Some(error.clone()), closed, ..State::default() };
        carried
    }

    /// There will be no link any more: every waiting call fails.
    pub(crate) fn close(&self, error: &Error) {
        let waiters = {
            let mut state = self.lock();
            state.closed.get_or_insert_with(|| error.clone());
            mem::take(&mut state.waiters)
        };
        waiters.into_values().flatten().for_each(|waiter| answer(waiter, Err(error.clone())));
    }

    /// What to subscribe now: asked for, wanted, and not subscribed yet.
    pub(crate) fn take_asked(&self, hub: &Hub) -> Vec<ChannelName> {
        let mut state = self.lock();
        let mut asked = mem::take(&mut state.asked);
        asked.sort_unstable();
        asked.dedup();
        asked.retain(|name| !state.actual.contains(name) && hub.contains(name.as_str()));
        asked
    }

    /// What to unsubscribe now: nobody has wanted it for the delay. It counts as not subscribed from here on,
    /// so that a listener who comes back waits for a new confirmation.
    pub(crate) fn take_left(&self, hub: &Hub) -> Vec<ChannelName> {
        let mut state = self.lock();
        let now = Instant::now();
        let mut due = Vec::new();
        while state.leaving.front().is_some_and(|(when, _)| *when <= now) {
            let Some((_, name)) = state.leaving.pop_front() else { break };
            let Some(left) = state.left.remove(&name) else { continue };
            let again = left + self.unsubscribe_delay;
            if hub.contains(name.as_str()) {
                continue; // somebody came back
            }
            if again > now {
                state.left.insert(name.clone(), left); // came back and left again
                state.leaving.push_back((again, name));
            } else if state.actual.remove(&name) {
                due.push(name);
            }
        }
        due
    }

    /// These are asked of the link now.
    pub(crate) fn trying(&self, names: &[ChannelName]) {
        self.lock().trying.extend_from_slice(names);
    }

    /// Those of the confirmed ones that the server has not stopped to deliver meanwhile. The others are asked again.
    pub(crate) fn still_subscribed(&self, names: &[ChannelName]) -> Vec<ChannelName> {
        let lapsed = self.lock().take_lapsed();
        if lapsed.is_empty() {
            return names.to_vec();
        }
        self.notify.notify_one();
        names.iter().filter(|name| !lapsed.contains_key(*name)).cloned().collect()
    }

    /// The backend has confirmed these. Returns those that the server has stopped to deliver since
    /// [`still_subscribed`](Self::still_subscribed): they do not count as subscribed, and are asked again.
    pub(crate) fn confirm(&self, names: &[ChannelName]) -> HashMap<ChannelName, Next> {
        let mut waiters = Vec::new();
        let lapsed = {
            let mut state = self.lock();
            state.trying.clear();
            let lapsed = state.take_lapsed();
            for name in names.iter().filter(|name| !lapsed.contains_key(*name)) {
                state.actual.insert(name.clone());
                waiters.extend(state.waiters.remove(name).into_iter().flatten());
            }
            lapsed
        };
        if !lapsed.is_empty() {
            self.notify.notify_one();
        }
        waiters.into_iter().for_each(|waiter| answer(waiter, Ok(())));
        lapsed
    }

    /// The backend has refused this one.
    pub(crate) fn refuse(&self, name: &ChannelName, error: &Error) {
        let waiters = self.lock().waiters.remove(name);
        waiters.into_iter().flatten().for_each(|waiter| answer(waiter, Err(error.clone())));
    }

    /// What is subscribed at the backend.
    pub(crate) fn subscribed(&self) -> Vec<ChannelName> {
        self.lock().actual.iter().cloned().collect()
    }

    /// Waits until there is something to look at. Cancel safe.
    pub(crate) async fn changed(&self) {
        let next = self.lock().leaving.front().map(|(when, _)| *when);
        match next {
            None => self.notify.notified().await,
            Some(when) => {
                let _ = tokio::time::timeout_at(when, self.notify.notified()).await;
            }
        }
    }
}

/// The waker of the waiting call may be foreign code.
fn answer(waiter: Waiter, outcome: Result<()>) {
    contain("a waker", || drop(waiter.send(outcome)));
}

/// A call that waits for a confirmation; it is removed from the list when it is dropped.
struct Waiting<'a> {
    subscriptions: &'a Subscriptions,
    name: &'a ChannelName,
    receiver: Option<oneshot::Receiver<Result<()>>>,
}

impl Waiting<'_> {
    async fn outcome(mut self, limit: Duration) -> Result<()> {
        let subscriptions = self.subscriptions;
        match subscriptions.runtime.timeout(limit, self.answer()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.late(limit)),
        }
    }

    /// Waits until the backend has confirmed or refused it. Cancel safe.
    async fn answer(&mut self) -> Result<()> {
        let Some(receiver) = &mut self.receiver else { return Err(Error::closed()) };
        let answer = receiver.await;
        self.receiver = None;
        answer.unwrap_or_else(|_| Err(Error::closed()))
    }

    fn late(&self, limit: Duration) -> Error {
        let state = self.subscriptions.lock();
        match &state.last_error {
            Some(error) => {
                let message = format!(
                    "not confirmed within {limit:?}, there is no link to the backend: {}",
                    error.message()
                );
                Error::new(ErrorKind::Unavailable, message).with_source(error.clone())
            }
            None => Error::new(ErrorKind::Timeout, format!("not confirmed within {limit:?}")),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        drop(self.receiver.take());
        let mut state = self.subscriptions.lock();
        if let Some(waiters) = state.waiters.get_mut(self.name) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                state.waiters.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
