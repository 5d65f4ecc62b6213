//! Health: whether this process would receive its own post.

use std::time::SystemTime;

use crate::Error;

/// Whether the broker works, judged by the receive path: `Connected` means that a post of our own came back
/// within the last heartbeat.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The present state.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Why the last link was lost, or the last attempt to open one failed; kept after it recovers.
    pub last_error: Option<Error>,
    /// How many attempts have failed since the last link.
    pub failures: u32,
    /// How many links have been opened so far.
    pub links: u64,
    /// How many frames arrived that are not readable messages.
    pub malformed: u64,
}

/// The state of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// There is no backend ([`Broker::local`](crate::Broker::local)): local posts work, and nothing else is meant to.
    Local,
    /// No link yet, or no longer. Local posts work; global posts are `Unavailable`.
    Connecting,
    /// Everything wanted is subscribed, and a post of our own came back within the last heartbeat.
    Connected,
    /// Closed for good.
    Closed,
}

impl Health {
    pub(crate) fn new(state: State) -> Self {
        Self { state, since: SystemTime::now(), last_error: None, failures: 0, links: 0, malformed: 0 }
    }

    /// Whether the state is [`State::Connected`].
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    pub(crate) fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.since = SystemTime::now();
        }
    }
}
