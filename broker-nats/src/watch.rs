//! Watch: what a link has heard, from its server and about itself. Shared with the client's tasks.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_nats::{Event, Message, Subscriber};
use broker_core::{
    Error,
    ErrorKind::{Forbidden, Misconfigured, Unavailable},
    Result,
    driver::{Inbox, Peer},
};
use bytes::Bytes;
use tokio::sync::{
    broadcast::{self, error::TryRecvError},
    oneshot,
};

use crate::{
    errors::{Complaint, complaint},
    feed::Feed,
};

/// So many complaints of the server are certainly heard. The client keeps 128 at a time, and drops the newest.
pub(crate) const COMPLAINTS: usize = 100;

/// See the module.
pub(crate) struct Watch {
    pub(crate) peer: Peer,
    inbox: Inbox,
    /// The link's own subject. Answers come to subjects below it.
    pub(crate) own: String,
    /// Where the server refuses what is published.
    refused: broadcast::Sender<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why the link is over.
    over: Option<Error>,
    /// The number of the last answer that somebody wanted.
    last: u64,
    /// Who waits for which answer.
    waiting: HashMap<u64, oneshot::Sender<Message>>,
    /// By subject, and whether the server has been proven to have it.
    feeds: HashMap<String, (Arc<Feed>, bool)>,
    /// Where it refused a subscription.
    no_subscribe: HashSet<String>,
    /// The connection has all the subscriptions it may have.
    full: bool,
}

/// An answer that somebody waits for.
pub(crate) struct Answer<'a> {
    /// Where it has to be sent to.
    pub(crate) subject: String,
    number: u64,
    receiver: oneshot::Receiver<Message>,
    watch: &'a Watch,
}

impl Answer<'_> {
    /// Waits for it; fails when the link is over.
    pub(crate) async fn wait(mut self) -> Result<Message> {
        (&mut self.receiver).await.map_err(|_| self.watch.over())
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let _unanswered = self.watch.lock().waiting.remove(&self.number);
    }
}

/// The refusals that come from now on, of what is published.
pub(crate) struct Refusals(broadcast::Receiver<String>);

impl Refusals {
    /// Waits, for ever if need be, for one of this subject.
    pub(crate) async fn of(&mut self, subject: &str) {
        // The sender outlives whoever waits, so that an error only means that some were missed.
        while !self.0.recv().await.is_ok_and(|refused| refused == subject) {}
    }

    /// Those that came so far: where, and how many.
    pub(crate) fn so_far(mut self) -> (HashSet<String>, usize) {
        let (mut subjects, mut count) = (HashSet::new(), 0);
        loop {
            match self.0.try_recv() {
                Ok(subject) => {
                    subjects.insert(subject);
                    count += 1;
                }
                Err(TryRecvError::Lagged(missed)) => count += missed as usize,
                Err(_) => return (subjects, count),
            }
        }
    }
}

impl Watch {
    pub(crate) fn new(peer: Peer, inbox: Inbox, own: String) -> Arc<Self> {
        let refused = broadcast::Sender::new(COMPLAINTS);
        Arc::new(Self { peer, inbox, own, refused, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message arrived: inside the client's task, so this must not block.
    pub(crate) fn hear(&self, message: Message) {
        let Some(number) = message.subject.strip_prefix(&*self.own) else {
            // Messages live long, and this one is a slice of all that was read with it.
            return self.inbox.deliver(&message.subject, Bytes::copy_from_slice(&message.payload));
        };
        let number = number.get(1..).and_then(|number| number.parse::<u64>().ok());
        let waiting = number.and_then(|number| self.lock().waiting.remove(&number));
        if let Some(waiting) = waiting {
            // Behind the task that reads the complaints, if that was woken before; see [`Ground`](crate::ground::Ground).
            tokio::spawn(async move { waiting.send(message) });
        }
    }

    /// What the client tells about itself; see [`Ground`](crate::ground::Ground) for when.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Disconnected => self.lose(self.peer.gone()),
            Event::LameDuckMode => {
                self.lose(self.peer.error(Unavailable, "is about to shut down (lame duck mode)"));
            }
            Event::SlowConsumer(_) => self.inbox.gap(),
            Event::ServerError(error) => self.complaint(complaint(&self.peer, error)),
            _ => {}
        }
    }

    fn complaint(&self, complaint: Complaint) {
        match complaint {
            Complaint::Publish(own) | Complaint::Subscribe(own) if own.starts_with(&self.own) => {
                let start = self.own.rsplit_once('.').map_or(&*own, |(start, _)| start);
                let why = format!(
                    "no permission to publish and to subscribe to `{start}.>`, which the driver needs; grant \
                     both, or name another start by the key `inbox`"
                );
                self.lose(self.peer.error(Forbidden, why));
            }
            // Fails where nobody waits for it.
            Complaint::Publish(subject) => drop(self.refused.send(subject)),
            Complaint::Subscribe(subject) => {
                let mut state = self.lock();
                let withdrawn = state.feeds.get(&subject).is_some_and(|(_, proven)| *proven);
                state.no_subscribe.insert(subject);
                drop(state);
                // Told as subscribed, and it is not any more: another link will find out what still is.
                if withdrawn {
                    self.lose(self.peer.error(Unavailable, "took the permission for a channel away"));
                }
            }
            Complaint::Full => self.lock().full = true,
            Complaint::Fatal(error) => self.lose(error),
        }
    }

    /// The link is over. The first reason counts.
    pub(crate) fn lose(&self, error: Error) {
        self.inbox.lost(error.clone());
        let mut state = self.lock();
        state.over.get_or_insert(error);
        let _unanswered = mem::take(&mut state.waiting);
        drop(state);
    }

    /// Why the link is over.
    pub(crate) fn over(&self) -> Error {
        self.lock().over.clone().unwrap_or_else(|| self.peer.gone())
    }

    /// Expects one more answer.
    pub(crate) fn expect(&self) -> Answer<'_> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        if state.over.is_none() {
            state.waiting.insert(number, sender);
        }
        drop(state);
        Answer { subject: format!("{}.{number}", self.own), number, receiver, watch: self }
    }

    /// Listens for what the server refuses to have published from now on.
    pub(crate) fn refusals(&self) -> Refusals {
        Refusals(self.refused.subscribe())
    }

    /// New feeds for those subjects that have none.
    pub(crate) fn feeds_for(self: &Arc<Self>, subjects: Vec<String>) -> Vec<(String, Arc<Feed>)> {
        let mut state = self.lock();
        (state.full, state.no_subscribe) = Default::default();
        let mut fresh = Vec::new();
        for subject in subjects {
            if let Entry::Vacant(vacant) = state.feeds.entry(subject.clone()) {
                let (feed, _) = vacant.insert((Feed::new(self), false));
                fresh.push((subject, Arc::clone(feed)));
            }
        }
        fresh
    }

    /// Once the server has seen new feeds: forgets those it refused, and says why; the others are proven from
    /// here on.
    pub(crate) fn settle(&self, fresh: Vec<(String, Arc<Feed>)>) -> Result<()> {
        let mut state = self.lock();
        // There may be more refusals than we have heard of.
        let (full, all) = (state.full, state.full || state.no_subscribe.len() >= COMPLAINTS);
        let mut refused = Vec::new();
        for (subject, feed) in fresh {
            if all || state.no_subscribe.contains(&subject) {
                state.feeds.remove(&subject);
                refused.push(feed);
            } else if let Some((_, proven)) = state.feeds.get_mut(&subject) {
                *proven = true;
            }
        }
        drop(state);
        if refused.is_empty() {
            return Ok(());
        }
        refused.iter().for_each(|feed| drop(feed.take()));
        if full {
            let why = "lets a connection have no more channels; see its `max_subscriptions`";
            return Err(self.peer.error(Misconfigured, why));
        }
        Err(self.forbidden("subscribe"))
    }

    /// No permission for a channel.
    pub(crate) fn forbidden(&self, what: &str) -> Error {
        self.peer.error(Forbidden, format!("no permission to {what} here; see its `permissions`"))
    }

    /// Forgets feeds; what they read from is the caller's to end.
    pub(crate) fn forget<'a>(&self, subjects: impl Iterator<Item = &'a str>) -> Vec<Subscriber> {
        let mut state = self.lock();
        let feeds: Vec<_> = subjects.filter_map(|subject| state.feeds.remove(subject)).collect();
        drop(state);
        feeds.iter().filter_map(|(feed, _)| feed.take()).collect()
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&self) -> Vec<Subscriber> {
        let feeds = mem::take(&mut self.lock().feeds);
        feeds.values().filter_map(|(feed, _)| feed.take()).collect()
    }
}
