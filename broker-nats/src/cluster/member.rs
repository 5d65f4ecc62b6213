//! Member: one address at which there may be another server of the cluster, and what is known of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use broker_core::{Error, driver::ServerAddr};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use crate::client_thread::ClientThread;

/// How long a call waits for the answer of a server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Member {
    pub(crate) server: ServerAddr,
    /// The URL names it, so it is looked for as long as the link lives.
    pub(crate) is_named: bool,
    /// Its helper came or went.
    pub(crate) changed: Notify,
    /// A call has gone on without its answer.
    pub(crate) missed: Notify,
    state: Mutex<State>,
    /// The task that keeps its helper.
    task: OnceLock<AbortHandle>,
}

struct State {
    /// The link's server announces it: the two know each other.
    announced: bool,
    /// The server that was last found here: another one after a restart.
    id: Option<String>,
    /// Why it needs no helper.
    needless: bool,
    helper: Option<Helper>,
    /// Since when it has had none.
    since: Instant,
    /// Why it has none.
    failed: Option<Error>,
    /// Calls do not wait for its answer any more.
    unproven: bool,
    /// A call has gone on without its answer: what is subscribed may not be known there, until a gap has told so.
    owes_gap: bool,
}

/// A connection to the server, which answers.
#[derive(Clone)]
pub(crate) struct Helper {
    /// Where it is asked.
    pub(crate) subject: String,
    pub(crate) client_thread: Arc<ClientThread>,
}

/// What a call has to do about a server.
pub(crate) enum Standing {
    /// Nothing.
    Done,
    /// Ask its helper here.
    Ask(String),
    /// Go on without it: it cannot be reached from here.
    GoOn,
    /// Wait: it is being looked for.
    Wait,
}

impl Member {
    pub(crate) fn new(server: ServerAddr, is_named: bool, announced: bool) -> Arc<Self> {
        let state = State {
            announced,
            id: None,
            needless: false,
            helper: None,
            since: Instant::now(),
            failed: None,
            unproven: false,
            owes_gap: false,
        };
        let (state, task) = (Mutex::new(state), OnceLock::new());
        Arc::new(Self { server, is_named, changed: Notify::new(), missed: Notify::new(), state, task })
    }

    pub(crate) fn is_kept_by(&self, task: AbortHandle) {
        // There is one.
        let _ = self.task.set(task);
    }

    /// Ends its task.
    pub(crate) fn give_up(&self) {
        self.task.get().inspect(|task| task.abort());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = self.lock();
        match &state.helper {
            _ if state.needless || state.unproven => Standing::Done,
            Some(helper) => Standing::Ask(helper.subject.clone()),
            // Nobody is there.
            None if state.failed.is_some() && !state.announced => Standing::Done,
            None if state.failed.is_some() && state.id.is_none() => Standing::GoOn,
            None => Standing::Wait,
        }
    }

    /// Until when a call that begins now waits.
    pub(crate) fn deadline(&self) -> Instant {
        let state = self.lock();
        if state.helper.is_some() { Instant::now() + PATIENCE } else { state.since + PATIENCE }
    }

    /// A call goes on without its answer.
    pub(crate) fn go_on(&self) {
        let mut state = self.lock();
        state.unproven = !state.needless && (state.announced || state.helper.is_some());
        state.owes_gap |= state.unproven;
        drop(state);
        self.missed.notify_one();
    }

    /// Whether a call has gone on without its answer.
    pub(crate) fn owes_gap(&self) -> bool {
        self.lock().owes_gap
    }

    /// Calls wait for its answer again.
    pub(crate) fn wait_again(&self) {
        self.lock().unproven = false;
    }

    /// It has answered for everything that was subscribed without.
    pub(crate) fn settled(&self) {
        self.lock().owes_gap = false;
    }

    /// Whether it is another server, as far as somebody has looked.
    pub(crate) fn is_other(&self) -> bool {
        let state = self.lock();
        !state.needless && (state.id.is_some() || state.failed.is_some())
    }

    /// Whether it is looked for, and has not been found.
    pub(crate) fn is_missing(&self) -> bool {
        let state = self.lock();
        !state.needless && !state.unproven && state.helper.is_none()
    }

    /// The link's server announces it, or does so no more.
    pub(crate) fn announce(&self, announced: bool) {
        let before = std::mem::replace(&mut self.lock().announced, announced);
        if before != announced {
            self.changed.notify_waiters();
        }
    }

    /// The server has lost the helper that it had by another address.
    pub(crate) fn needed_again(&self, id: Option<&str>) {
        let mut state = self.lock();
        if state.needless && state.id.as_deref() == id {
            (state.needless, state.since) = (false, Instant::now());
            drop(state);
            self.missed.notify_one();
        }
    }

    /// Whether nobody will be there any more.
    pub(crate) fn has_left(&self) -> bool {
        let state = self.lock();
        let gone = state.failed.is_some() || state.needless;
        !self.is_named && !state.announced && state.helper.is_none() && gone
    }

    /// The server that was last found here, if it is one that needs a helper.
    pub(crate) fn id(&self) -> Option<String> {
        let state = self.lock();
        state.id.clone().filter(|_| !state.needless)
    }

    /// The server here has a helper.
    pub(crate) fn serves(&self, id: &str) -> bool {
        let state = self.lock();
        state.helper.is_some() && state.id.as_deref() == Some(id)
    }

    /// Which server is here, and whether it needs a helper. What was published at another one before a restart is over:
    /// whoever publishes at the new one has proven for himself that he is heard.
    pub(crate) fn found(&self, id: &str, needless: bool) {
        let mut state = self.lock();
        if state.id.as_deref().is_some_and(|before| before != id) {
            (state.unproven, state.owes_gap) = (false, false);
        }
        (state.id, state.needless, state.failed) = (Some(id.to_owned()), needless, None);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Its helper answers from now on.
    pub(crate) fn up(&self, helper: Helper) {
        let mut state = self.lock();
        (state.helper, state.failed) = (Some(helper), None);
        drop(state);
        self.changed.notify_waiters();
    }

    /// It has no helper.
    pub(crate) fn down(&self, error: Error) {
        let mut state = self.lock();
        if state.helper.take().is_some() {
            state.since = Instant::now();
        }
        (state.failed, state.needless) = (Some(error), false);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Its helper's connection, to be ended.
    pub(crate) fn take_helper(&self) -> Option<Helper> {
        self.lock().helper.take()
    }

    /// The server is one of the cluster, and why it cannot be asked.
    pub(crate) fn unreached(&self) -> Option<String> {
        let state = self.lock();
        if state.needless || !(state.announced || state.helper.is_some()) {
            return None;
        }
        match (&state.helper, &state.failed) {
            (None, Some(error)) => Some(error.message().to_owned()),
            (None, None) => Some(format!("no connection to {}: no answer", self.server)),
            (Some(_), _) if state.unproven => {
                Some(format!("{} is reached, and nothing of it comes through the cluster", self.server))
            }
            (Some(_), _) => None,
        }
    }
}
