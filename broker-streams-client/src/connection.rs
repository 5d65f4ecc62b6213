//! Connection: the task that connects, serves one socket after another, and ends when no call needs one.

use std::{
    collections::{BTreeMap, HashMap},
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_streams_wire::CallId;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::{
    CallError, Status,
    backoff::Backoff,
    calls::{Call, Phase, WELL},
    client::Shared,
    mailbox::{Mailbox, Order, Post},
    serve::{Ended, Session},
};

/// The task's state. When it goes, for whatever reason, every call that is still there ends with an error.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// In the order in which the application has opened them.
    pub(crate) calls: BTreeMap<u64, Call>,
    pub(crate) ids: HashMap<CallId, u64>,
    pub(crate) backoff: Backoff,
    /// What ended the last socket or attempt.
    why: Option<CallError>,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, mailbox: Arc<Mailbox>) -> Self {
        let (calls, ids) = (BTreeMap::new(), HashMap::new());
        Self { shared, mailbox, calls, ids, backoff: Backoff::default(), why: None }
    }

    /// Runs until no call needs a socket. It waits for calls nowhere but on a socket, a second at most.
    pub(crate) async fn run(mut self) {
        let mut wait: Option<Duration> = None;
        loop {
            if let Some(delay) = wait.take() {
                self.wait(Instant::now() + delay).await;
            }
            if let Some(start) = self.start() {
                self.wait(start).await;
            }
            if self.calls.is_empty() && self.mailbox.refuse_if_empty() {
                break;
            }
            self.attempt().await;
            if self.calls.is_empty() && self.mailbox.refuse_if_empty() {
                break;
            }
            wait = Some(self.backoff.next());
        }
    }

    /// Connects once, and serves the socket until it ends.
    async fn attempt(&mut self) {
        self.publish(Status::Connecting);
        let (route, offer) = (self.shared.route.clone(), self.shared.offer);
        match self.unless_unneeded(route.meet(offer)).await {
            Some(Ok((socket, agreed))) => {
                self.publish(Status::Connected);
                self.why = None;
                let mut session = Session::new(socket, agreed);
                self.connected(&mut session);
                let ended = poll_fn(|cx| self.poll_serve(&mut session, cx)).await;
                self.served(session, ended).await;
            }
            Some(Err(error)) => {
                self.why = Some(error.clone());
                self.not_connected(&error);
            }
            None => {}
        }
    }

    /// After a socket.
    async fn served(&mut self, session: Session, ended: Ended) {
        let code = match ended {
            Ended::Lost | Ended::IdleTimeout => None,
            Ended::BadFrame => Some(CloseCode::Protocol),
            Ended::Unneeded | Ended::Closed | Ended::Offline | Ended::Left => Some(CloseCode::Normal),
        };
        // That a call was opened shows nothing: the server may fall at each.
        if session.since.elapsed() >= WELL {
            self.backoff.reset();
        }
        self.why = ended.error();
        self.lost(ended, session.leaving());
        if self.calls.is_empty() {
            self.publish(Status::Disconnected { why: self.why.clone() });
        }
        if let Some(code) = code {
            // New calls have a socket of their own by now, or wait for the next of this task.
            session.into_socket().close(code).await;
        }
    }

    /// No call was opened in this attempt: those that wait for their opening fail.
    fn not_connected(&mut self, error: &CallError) {
        let waiting = |call: &Call| call.opener.is_some();
        for call in self.remove_where(waiting) {
            call.end(Err(error.clone()));
        }
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<Call> {
        let call = self.calls.remove(&key)?;
        self.ids.remove(&call.id);
        Some(call)
    }

    pub(crate) fn remove_where(&mut self, is_one: impl Fn(&Call) -> bool) -> Vec<Call> {
        let keys: Vec<u64> =
            self.calls.iter().filter(|(_, call)| is_one(call)).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(crate) fn insert(&mut self, call: Call) {
        self.ids.insert(call.id, call.key);
        self.calls.insert(call.key, call);
    }

    pub(crate) fn publish(&self, status: Status) {
        self.shared.publish(&self.mailbox, status);
    }

    /// The time before which no call wants a socket, if there is one.
    fn start(&self) -> Option<Instant> {
        let now = Instant::now();
        let start = |call: &Call| match call.phase {
            Phase::New(Some(at)) => at,
            _ => now,
        };
        self.calls.values().map(start).min().filter(|start| *start > now)
    }

    /// Waits, unless something is to be done before. The waits of calls go on.
    async fn wait(&mut self, until: Instant) {
        self.publish(Status::Waiting { delay: until.saturating_duration_since(Instant::now()) });
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.interrupted() => {}
        }
    }

    /// A future, unless no call needs its output any more.
    async fn unless_unneeded<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        self.take_in();
        loop {
            if self.calls.is_empty() {
                return None;
            }
            tokio::select! {
                output = &mut future => return Some(output),
                () = self.interrupted() => {}
            }
        }
    }

    /// Takes what is in the mailbox at this moment.
    fn take_in(&mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        if let Poll::Ready(post) = mailbox.poll_take(&mut Context::from_waker(std::task::Waker::noop())) {
            self.take_in_unconnected(post);
        }
    }

    /// Takes in what the application wants while there is no socket, until no call is left, or there is a
    /// reason to connect at once. Cancel safe.
    async fn interrupted(&mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        loop {
            let deadline = self.calls.values().filter_map(|call| call.options.deadline).min();
            let passed = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let at_once = tokio::select! {
                biased;
                post = poll_fn(|cx| mailbox.poll_take(cx)) => self.take_in_unconnected(post),
                () = passed => { self.end_overdue(Instant::now()); false }
            };
            if at_once || self.calls.is_empty() {
                return;
            }
        }
    }

    /// `true` if there is a reason to connect at once.
    fn take_in_unconnected(&mut self, post: Post) -> bool {
        let mut at_once = post.order == Some(Order::Online);
        let new: Vec<u64> = post.calls.iter().map(|call| call.key).collect();
        for call in post.calls {
            self.insert(call);
            at_once = true;
        }
        for key in new.into_iter().chain(post.ready) {
            if self.calls.get(&key).is_some_and(|call| call.inbox.look()) {
                drop(self.remove(key));
            }
        }
        match post.order {
            Some(Order::Close) => {
                self.why = Some(CallError::SocketClosed);
                self.end_all(&CallError::SocketClosed);
            }
            Some(Order::Online | Order::Offline | Order::Authenticate) | None => {}
        }
        at_once
    }

    pub(crate) fn end_all(&mut self, error: &CallError) {
        for call in self.remove_where(|_| true) {
            call.end(Err(error.clone()));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end_all(&CallError::Stopped);
        for call in self.mailbox.close() {
            call.end(Err(CallError::Stopped));
        }
        let why = self.why.take();
        self.publish(Status::Disconnected { why });
        self.shared.forget(&self.mailbox);
    }
}
