//! Health: whether this process would receive its own post.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use futures_core::Stream;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

use crate::{Error, driver::Capabilities, runtime::user_code::shielded};

/// Whether the broker works, judged by the receive path: `Connected` means that a post of our own came back
/// within the last heartbeat.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The present state.
    pub state: ConnectionState,
    /// Since when.
    pub since: SystemTime,
    /// Why the last link was lost, or the last attempt to open one failed; kept after it recovers.
    pub last_error: Option<Error>,
    /// While `Connected`: which part of the backend is out of reach, and why, such as one master of a cluster. The channels
    /// that it serves have had a gap and wait for it; all others go on.
    pub degraded: Option<Error>,
    /// How many attempts have failed since the last link.
    pub failures: u32,
    /// How many links have been opened so far.
    pub links: u64,
    /// How many frames arrived that are not readable messages.
    pub malformed: u64,
    /// The version that the server of the last link reported; `None` if it reported none.
    pub server_version: Option<String>,
    /// What the last link promised beyond the contract; `None` before the first.
    pub capabilities: Option<Capabilities>,
}

/// The state of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// There is no backend ([`Broker::local`](crate::Broker::local)): local posts work, global ones do not.
    Local,
    /// No link yet, or no longer. Local posts work; global posts are `Unavailable`.
    Connecting,
    /// Everything wanted is subscribed, and a post of our own came back within the last heartbeat.
    Connected,
    /// Being [drained](crate::Broker::drain): it takes nothing new, and finishes what it has accepted.
    Draining,
    /// Closed for good.
    Closed,
}

impl Health {
    pub(crate) fn new(state: ConnectionState) -> Self {
        Self {
            state,
            since: SystemTime::now(),
            last_error: None,
            degraded: None,
            failures: 0,
            links: 0,
            malformed: 0,
            server_version: None,
            capabilities: None,
        }
    }

    /// Whether the state is [`ConnectionState::Connected`].
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == ConnectionState::Connected
    }

    pub(crate) fn enter(&mut self, state: ConnectionState) {
        // A link that comes or goes meanwhile does not end a drain.
        let stays = self.state == ConnectionState::Draining && state != ConnectionState::Closed;
        if self.state != state && !stays {
            self.state = state;
            self.since = SystemTime::now();
        }
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Draining => "draining",
            Self::Closed => "closed",
        })
    }
}

/// As its text: `"connected"`.
impl Serialize for ConnectionState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The state, and while there is no link the last error; while a part is out of reach, why. For operators: it may name hosts.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, &self.last_error) {
            (ConnectionState::Connecting, Some(error)) => {
                write!(f, "{}, {} failed attempts: {error}", self.state, self.failures)
            }
            (ConnectionState::Connected, _) => match &self.degraded {
                Some(why) => write!(f, "{}, but a part is out of reach: {why}", self.state),
                None => self.state.fmt(f),
            },
            _ => self.state.fmt(f),
        }
    }
}

/// For operators: the last error is its text, which may name hosts; `since` is in seconds of Unix time.
impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut fields = serializer.serialize_struct("Health", 8)?;
        fields.serialize_field("state", &self.state)?;
        fields.serialize_field("since", &since)?;
        fields.serialize_field("last_error", &self.last_error.as_ref().map(Error::to_string))?;
        fields.serialize_field("degraded", &self.degraded.as_ref().map(Error::to_string))?;
        fields.serialize_field("failures", &self.failures)?;
        fields.serialize_field("links", &self.links)?;
        fields.serialize_field("malformed", &self.malformed)?;
        fields.serialize_field("server_version", &self.server_version)?;
        fields.end()
    }
}

/// The changes of a broker's [`Health`]: first the present state, then each time another begins, or
/// a part of the backend is out of reach, or none is any more. Made by
/// [`Broker::health_changes`](crate::Broker::health_changes).
///
/// A state that ended before it was read is skipped: the present state is always yielded. It ends after
/// [`ConnectionState::Closed`]. It does not keep the broker open.
pub struct HealthChanges {
    next: ReusableBoxFuture<'static, (Option<Health>, watch::Receiver<Health>)>,
}

/// What distinguishes one yielded state from the next.
type Seen = (ConnectionState, SystemTime, bool);

impl HealthChanges {
    pub(crate) fn new(health: watch::Receiver<Health>) -> Self {
        Self { next: ReusableBoxFuture::new(change(health, None)) }
    }

    /// The next state; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Health> {
        std::future::poll_fn(|cx| self.poll_change(cx)).await
    }

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<Health>> {
        let (health, receiver) = ready!(self.next.poll(cx));
        let last = health.as_ref().map(seen);
        self.next
            .set(change(receiver, last.or(Some((ConnectionState::Closed, SystemTime::UNIX_EPOCH, false)))));
        Poll::Ready(health)
    }
}

fn seen(health: &Health) -> Seen {
    (health.state, health.since, health.degraded.is_some())
}

/// Waits for a state that has not been yielded.
async fn change(
    mut health: watch::Receiver<Health>,
    last: Option<Seen>,
) -> (Option<Health>, watch::Receiver<Health>) {
    loop {
        let now = health.borrow_and_update().clone();
        if last.is_some_and(|(state, ..)| state == ConnectionState::Closed) {
            return (None, health);
        }
        if last != Some(seen(&now)) {
            return (Some(now), health);
        }
        if shielded(health.changed()).await.is_err() {
            return (None, health);
        }
    }
}

impl Stream for HealthChanges {
    type Item = Health;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Health>> {
        self.poll_change(cx)
    }
}

impl fmt::Debug for HealthChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthChanges").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn health_is_shown_and_serialized_for_operators() {
        let mut health = Health::new(ConnectionState::Connecting);
        health.since = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7);
        assert_eq!(health.to_string(), "connecting");
        health.failures = 2;
        health.last_error = Some(Error::new(ErrorKind::Unavailable, "no answer"));
        assert_eq!(health.to_string(), "connecting, 2 failed attempts: unavailable: no answer");
        let json = serde_json::to_value(&health).unwrap();
        let expected = serde_json::json!({
            "state": "connecting", "since": 7, "last_error": "unavailable: no answer", "degraded": null, "failures": 2,
            "links": 0, "malformed": 0, "server_version": null,
        });
        assert_eq!(json, expected);
        health.enter(ConnectionState::Connected);
        assert_eq!(health.to_string(), "connected");
        health.degraded = Some(Error::new(ErrorKind::Forbidden, "10.0.0.7:6379 refuses the user"));
        assert_eq!(
            health.to_string(),
            "connected, but a part is out of reach: forbidden: 10.0.0.7:6379 refuses the user"
        );
    }
}
