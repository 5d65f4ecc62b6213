//! Watch: what a link has heard, from its server and about itself. Shared with the client's tasks.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_nats::{Event, Message, Subscriber};
use broker_core::{ChannelName, Error, ErrorKind, Result, driver::Inbox};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    errors::{Complaint, Peer},
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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By channel, and whether the server has been proven to have it.
    feeds: HashMap<ChannelName, (Arc<Feed>, bool)>,
    /// Where the server refused posts, since somebody last asked, and how many.
    no_publish: (HashSet<String>, usize),
    /// Where it refused a subscription.
    no_subscribe: HashSet<String>,
    /// The connection has all the subscriptions it may have.
    full: bool,
    /// Barriers under way.
    barriers: HashMap<u64, oneshot::Sender<()>>,
    next: u64,
    /// Why the link is over.
    over: Option<Error>,
}

impl Watch {
    pub(crate) fn new(peer: Peer, inbox: Inbox, own: String) -> Arc<Self> {
        Arc::new(Self { peer, inbox, own, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message arrived: inside the client's task, so this must not block.
    pub(crate) fn hear(&self, message: &Message) {
        if *message.subject == *self.own {
            let number = <[u8; 8]>::try_from(&*message.payload).map(u64::from_be_bytes);
            if let Some(barrier) = number.ok().and_then(|number| self.lock().barriers.remove(&number)) {
                // Behind the task that reads the complaints, if that was woken before; see [`Ground`](crate::ground::Ground).
                tokio::spawn(async move { barrier.send(()) });
            }
        } else {
            // Messages live long, and this one is a slice of all that was read with it.
            self.inbox.deliver(&message.subject, Bytes::copy_from_slice(&message.payload));
        }
    }

    /// What the client tells about itself; see [`Ground`](crate::ground::Ground) for when.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Disconnected => self.lose(self.peer.gone()),
            Event::LameDuckMode => self.lose(self.peer.lame_duck()),
            Event::SlowConsumer(_) => self.inbox.gap(),
            Event::ServerError(error) => match self.peer.complaint(error) {
                Complaint::Publish(subject) if subject != self.own => {
                    let (subjects, count) = &mut self.lock().no_publish;
                    subjects.insert(subject);
                    *count += 1;
                }
                Complaint::Subscribe(subject) if subject != self.own => self.no_subscribe(subject),
                Complaint::Publish(own) | Complaint::Subscribe(own) => {
                    self.lose(self.peer.forbidden_inbox(&own));
                }
                Complaint::Full => self.lock().full = true,
                Complaint::Fatal(error) => self.lose(error),
            },
            _ => {}
        }
    }

    fn no_subscribe(&self, subject: String) {
        let mut state = self.lock();
        let withdrawn = state.feeds.get(&*subject).is_some_and(|(_, proven)| *proven);
        state.no_subscribe.insert(subject);
        drop(state);
        // Told as subscribed, and it is not any more: another link will find out what still is.
        if withdrawn {
            let message = format!("{} took the permission for a channel away", self.peer.place);
            self.lose(Error::new(ErrorKind::Unavailable, message));
        }
    }

    /// The link is over. The first reason counts.
    pub(crate) fn lose(&self, error: Error) {
        self.inbox.lost(error.clone());
        let mut state = self.lock();
        state.over.get_or_insert(error);
        state.barriers.clear();
    }

    /// A barrier to come back on the link's own subject. It fails when the link is over.
    pub(crate) fn barrier(&self) -> Result<(u64, oneshot::Receiver<()>)> {
        let mut state = self.lock();
        if let Some(error) = &state.over {
            return Err(error.clone());
        }
        state.next += 1;
        let (number, (sender, receiver)) = (state.next, oneshot::channel());
        state.barriers.insert(number, sender);
        Ok((number, receiver))
    }

    /// Why the link is over.
    pub(crate) fn over(&self) -> Error {
        self.lock().over.clone().unwrap_or_else(|| self.peer.gone())
    }

    /// New feeds for those channels that have none.
    pub(crate) fn feeds_for(self: &Arc<Self>, channels: &[ChannelName]) -> Vec<(ChannelName, Arc<Feed>)> {
        let mut state = self.lock();
        (state.full, state.no_subscribe) = Default::default();
        let mut fresh = Vec::new();
        for channel in channels {
            if !state.feeds.contains_key(channel) {
                let feed = Feed::new(self);
                state.feeds.insert(channel.clone(), (Arc::clone(&feed), false));
                fresh.push((channel.clone(), feed));
            }
        }
        fresh
    }

    /// Which of some new feeds were refused, once the server has seen them; the others are proven from here on.
    pub(crate) fn settle(&self, fresh: Vec<(ChannelName, Arc<Feed>)>) -> Vec<ChannelName> {
        let mut state = self.lock();
        // There may be more of them than we have heard of.
        let all = state.full || state.no_subscribe.len() >= COMPLAINTS;
        let mut refused = Vec::new();
        for (channel, _) in fresh {
            if all || state.no_subscribe.contains(channel.as_str()) {
                refused.push(channel);
            } else if let Some((_, proven)) = state.feeds.get_mut(&channel) {
                *proven = true;
            }
        }
        refused
    }

    /// Why channels were refused.
    pub(crate) fn refusal(&self) -> Error {
        if self.lock().full { self.peer.full() } else { self.peer.forbidden("subscribe") }
    }

    /// Forgets feeds; what they read from is the caller's to end.
    pub(crate) fn forget<'a>(&self, channels: impl Iterator<Item = &'a ChannelName>) -> Vec<Subscriber> {
        let mut state = self.lock();
        let feeds: Vec<_> = channels.filter_map(|channel| state.feeds.remove(channel)).collect();
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
