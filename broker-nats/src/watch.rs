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
use tokio::sync::watch;

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
    /// The link's own subject, on which its barriers come back.
    pub(crate) own: String,
    /// The number of the last barrier that came back, and why the link is over.
    progress: watch::Sender<(u64, Option<Error>)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the last barrier that was sent.
    sent: u64,
    /// By subject, and whether the server has been proven to have it.
    feeds: HashMap<String, (Arc<Feed>, bool)>,
    /// Where the server refused posts, since somebody last asked, and how many.
    no_publish: (HashSet<String>, usize),
    /// Where it refused a subscription.
    no_subscribe: HashSet<String>,
    /// The connection has all the subscriptions it may have.
    full: bool,
}

impl Watch {
    pub(crate) fn new(peer: Peer, inbox: Inbox, own: String) -> Arc<Self> {
        let progress = watch::Sender::new((0, None));
        Arc::new(Self { peer, inbox, own, progress, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message arrived: inside the client's task, so this must not block.
    pub(crate) fn hear(&self, message: &Message) {
        if *message.subject != *self.own {
            // Messages live long, and this one is a slice of all that was read with it.
            self.inbox.deliver(&message.subject, Bytes::copy_from_slice(&message.payload));
        } else if let Ok(number) = <[u8; 8]>::try_from(&*message.payload).map(u64::from_be_bytes)
            && number <= self.lock().sent
        {
            let progress = self.progress.clone();
            // Behind the task that reads the complaints, if that was woken before; see [`Ground`](crate::ground::Ground).
            tokio::spawn(async move { progress.send_modify(|(last, _)| *last = number.max(*last)) });
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
            Complaint::Publish(own) | Complaint::Subscribe(own) if own == self.own => {
                let start = own.rsplit_once('.').map_or(&*own, |(start, _)| start);
                let why = format!(
                    "no permission to publish and to subscribe to `{start}.>`, which the driver needs; grant \
                     both, or name another start by the key `inbox`"
                );
                self.lose(self.peer.error(Forbidden, why));
            }
            Complaint::Publish(subject) => {
                let (subjects, count) = &mut self.lock().no_publish;
                subjects.insert(subject);
                *count += 1;
            }
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
        self.progress.send_modify(|(_, over)| _ = over.get_or_insert(error));
    }

    /// Why the link is over.
    pub(crate) fn over(&self) -> Error {
        self.progress.borrow().1.clone().unwrap_or_else(|| self.peer.gone())
    }

    /// The number for a new barrier.
    pub(crate) fn next_barrier(&self) -> u64 {
        let mut state = self.lock();
        state.sent += 1;
        state.sent
    }

    /// Waits until a barrier came back; fails when the link is over.
    pub(crate) async fn passed(&self, barrier: u64) -> Result<()> {
        let mut progress = self.progress.subscribe();
        let done = progress.wait_for(|(last, over)| *last >= barrier || over.is_some()).await;
        done.ok().filter(|done| done.1.is_none()).map(drop).ok_or_else(|| self.over())
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

    /// Where the server has refused posts since the last call, and how many.
    pub(crate) fn take_no_publish(&self) -> (HashSet<String>, usize) {
        mem::take(&mut self.lock().no_publish)
    }
}
