//! ConnectionState: what a link has received, from its server and about itself. Shared with the client's tasks.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_nats::{Event, Message};
use broker_core::{
    Error,
    ErrorKind::{Forbidden, Misconfigured, Unavailable},
    Result,
    driver::{ErrorContext, Inbox},
};
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::{
    errors::{Complaint, complaint},
    subscription::Subscription,
};

/// So many complaints of the server are certainly received. The client keeps 128 at a time, and drops the newest.
pub(crate) const COMPLAINTS: usize = 100;

/// See the module.
pub(crate) struct ConnectionState {
    pub(crate) peer: ErrorContext,
    inbox: Inbox,
    /// The link's own subject. Answers come to subjects below it.
    pub(crate) own: String,
    /// Why the link is over.
    pub(crate) over: watch::Sender<Option<Error>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the last answer that somebody wanted.
    last: u64,
    /// Who waits for which answer, to what was published where.
    waiting: HashMap<u64, (String, oneshot::Sender<Result<Message>>)>,
    /// By subject, those that the server has been proven to have.
    subscriptions: HashMap<String, Arc<Subscription>>,
    /// What the server refused since somebody last looked: to take, to subscribe, and to subscribe any more.
    no_publish: Vec<String>,
    no_subscribe: Vec<String>,
    full: bool,
}

impl ConnectionState {
    pub(crate) fn new(peer: ErrorContext, inbox: Inbox, own: String) -> Arc<Self> {
        Arc::new(Self { peer, inbox, own, over: watch::Sender::new(None), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message arrived: inside the client's task, so this must not block.
    pub(crate) fn receive(&self, message: Message) {
        let Some(number) = message.subject.strip_prefix(&*self.own) else {
            // Messages live long, and this one is a slice of all that was read with it.
            return self.inbox.deliver(&message.subject, Bytes::copy_from_slice(&message.payload));
        };
        let number = number.get(1..).and_then(|number| number.parse::<u64>().ok());
        if let Some((_, asker)) = number.and_then(|number| self.lock().waiting.remove(&number)) {
            // Behind the task that reads the complaints, if that was woken before; see [`ClientThread`](crate::client_thread::ClientThread).
            tokio::spawn(async move { asker.send(Ok(message)) });
        }
    }

    /// What the client reports about itself; see [`ClientThread`](crate::client_thread::ClientThread) for when.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Disconnected => self.lose(self.peer.disconnected()),
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
            Complaint::Publish(subject) => {
                let mut state = self.lock();
                let asked: Vec<_> = state.waiting.extract_if(|_, (asked, _)| *asked == subject).collect();
                state.no_publish.push(subject.clone());
                drop(state);
                for (_, (_, asker)) in asked {
                    let _gone = asker.send(Err(self.forbidden("publish to", &subject)));
                }
            }
            Complaint::Subscribe(subject) => {
                let mut state = self.lock();
                let withdrawn = state.subscriptions.contains_key(&subject);
                state.no_subscribe.push(subject);
                drop(state);
                // Told as subscribed, and it is not any more: another link will find out what still is.
                if withdrawn {
                    self.lose(self.peer.error(Unavailable, "withdrew the permission for a channel"));
                }
            }
            Complaint::Full => self.lock().full = true,
            Complaint::Fatal(error) => self.lose(error),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// Something may be missing, on every channel.
    pub(crate) fn gap(&self) {
        if !self.is_over() {
            self.inbox.gap();
        }
    }

    /// A task of the link, which loses it if it panics.
    pub(crate) fn guard<F: Future>(
        &self,
        what: &'static str,
        task: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        self.inbox.guard(what, task)
    }

    /// The link is lost, unless it is over already: an attempt that was dropped is no business of the inbox.
    pub(crate) fn lose(&self, error: Error) {
        if self.over.borrow().is_none() {
            self.inbox.lost(error.clone());
        }
        self.end(error);
    }

    /// The link is over. The first reason counts.
    pub(crate) fn end(&self, error: Error) {
        self.over.send_modify(|over| _ = over.get_or_insert(error));
        let mut state = self.lock();
        let _given_up = (mem::take(&mut state.waiting), mem::take(&mut state.subscriptions));
        drop(state);
    }

    /// Why the link is over.
    pub(crate) fn over(&self) -> Error {
        self.over.borrow().clone().unwrap_or_else(|| self.peer.disconnected())
    }

    /// Where an answer has to be sent to, and the wait for it. The wait ends as well when the server refuses to take
    /// anything on `subject`, and when the link is over.
    pub(crate) fn expect(&self, subject: String) -> (String, impl Future<Output = Result<Message>>) {
        let (asker, answer) = oneshot::channel();
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        // Who gave up waiting is forgotten when the next one comes.
        state.waiting.retain(|_, (_, asker)| !asker.is_closed());
        if self.over.borrow().is_none() {
            state.waiting.insert(number, (subject, asker));
        }
        drop(state);
        let answer = async move { answer.await.unwrap_or_else(|_| Err(self.over())) };
        (format!("{}.{number}", self.own), answer)
    }

    /// Of these subjects those that have no subscription.
    pub(crate) fn not_subscribed(&self, mut subjects: Vec<String>) -> Vec<String> {
        let state = self.lock();
        subjects.retain(|subject| !state.subscriptions.contains_key(subject));
        subjects
    }

    /// Once the server has seen new subscriptions: ends those it refused, and says why; the others are proven.
    pub(crate) fn confirm_subscribed(&self, new: Vec<(String, Arc<Subscription>)>) -> Result<()> {
        let mut state = self.lock();
        let (refused, full) = (mem::take(&mut state.no_subscribe), mem::take(&mut state.full));
        // There may be more refusals than were received.
        let all = full || refused.len() >= COMPLAINTS;
        let (ended, proven): (Vec<_>, _) =
            new.into_iter().partition(|(subject, _)| all || refused.contains(subject));
        state.subscriptions.extend(proven);
        drop(state);
        ended.iter().for_each(|(_, subscription)| subscription.end());
        match ended.first() {
            None => Ok(()),
            Some(_) if full => {
                let why = "allows a connection no more subscriptions; see its `max_subscriptions`";
                Err(self.peer.error(Misconfigured, why))
            }
            Some((subject, _)) => Err(self.forbidden("subscribe to", subject)),
        }
    }

    /// No permission for a subject.
    pub(crate) fn forbidden(&self, what: &str, subject: &str) -> Error {
        self.peer.error(Forbidden, format!("no permission to {what} `{subject}`; see its `permissions`"))
    }

    /// Ends subscriptions. What is sent from now on, the server takes when it has forgotten them.
    pub(crate) fn forget(&self, which: impl Fn(&str) -> bool) {
        let subscriptions: Vec<_> =
            self.lock().subscriptions.extract_if(|subject, _| which(subject)).collect();
        subscriptions.iter().for_each(|(_, subscription)| subscription.end());
    }

    /// Where the server has refused posts since the last call.
    pub(crate) fn take_no_publish(&self) -> Vec<String> {
        mem::take(&mut self.lock().no_publish)
    }
}
