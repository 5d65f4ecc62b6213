//! LogSpec, LogCursor, LogPage: what a backend keeps of revocations, and how it is read.
//!
//! The log is for what the announcement missed: a node that was cut off, down, or not started yet. Core reads it on a new
//! link, after a gap, after an append of its own, and now and then; so it is a poll, and a driver keeps no state
//! for it: no task, no consumer, no buffer.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::ErrorContext;
use crate::{
    ChannelName, ErrorKind, Options, Result,
    wire::names::{Names, REVOCATIONS},
};

/// Which log, and its limits. The same for every call of one broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogSpec {
    /// What to name it after at the backend: `$revocations`, with the application's prefix before it. A driver that
    /// cannot use such a name encodes it, so that two names never become one.
    pub name: ChannelName,
    /// How long a record is kept, at least. A backend may keep it longer, and none may keep it shorter.
    pub retention: Duration,
    /// The limit for one call. The driver ends the call itself by then, with
    /// [`Timeout`](crate::ErrorKind::Timeout), and leaves nothing behind: core drops a call that is much later, and
    /// the link with it.
    pub limit: Duration,
    /// The limit of a driver whose posts wait behind a call, on one connection: short enough that the probe of the heartbeat is
    /// in time after it. Two fifths of `publish_timeout` or of `heartbeat_timeout`, whichever is shorter.
    pub shared_limit: Duration,
}

impl LogSpec {
    /// Core makes one for each broker; tests of a driver make their own. Both limits are the same.
    #[must_use]
    pub const fn new(name: ChannelName, retention: Duration, limit: Duration) -> Self {
        Self { name, retention, limit, shared_limit: limit }
    }

    /// That of a broker with these options.
    pub(crate) fn of_options(options: &Options) -> Self {
        let Options { prefix, revocation_retention, publish_timeout, heartbeat_timeout, .. } = options;
        let shared_limit = *publish_timeout.min(heartbeat_timeout) / 5 * 2;
        Self { shared_limit, ..Self::of(prefix, *revocation_retention, *publish_timeout) }
    }

    /// The log of the application with this prefix; empty: of the one that has none.
    #[must_use]
    pub fn of(prefix: &str, retention: Duration, limit: Duration) -> Self {
        Self::new(Names::new(prefix).to_wire(REVOCATIONS), retention, limit)
    }

    /// For drivers: a call that ends by itself at the limit.
    ///
    /// # Errors
    /// Its own, or [`Timeout`](crate::ErrorKind::Timeout).
    pub async fn within<T>(&self, peer: &ErrorContext, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Self { name, limit, .. } = self;
        let late =
            || peer.error(ErrorKind::Timeout, format!("did not answer about `{name}` within {limit:?}"));
        tokio::time::timeout(*limit, call).await.unwrap_or_else(|_| Err(late()))
    }
}

/// A log of opaque records that the server keeps. Every method may run beside every other call of the link.
#[async_trait]
pub trait DurableLog: Send + Sync {
    /// Appends one record, and makes the log if it is missing.
    ///
    /// `Ok`: the server answered that it stored the record. Every read that begins afterwards, through any link of
    /// any node, returns it, or a `broken` page, or an error. What a crash of the server can still take back is the
    /// server's configuration, and the backend's page says what. A record has at most [`MAX_RECORD`](super::MAX_RECORD)
    /// bytes. Several calls may be under way at once.
    ///
    /// # Errors
    /// The record may or may not be stored, and may appear later. Core appends it again; the log may then hold it
    /// twice. [`Unsupported`](crate::ErrorKind::Unsupported): this server has no such log.
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for a missing permission, which is never `Unsupported`. The link
    /// lives on, unless it says otherwise by [`Inbox::lost`](super::Inbox::lost).
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()>;

    /// One page of the records after a cursor; makes the log if it is missing. A page has 1,000 records at most, and about
    /// 1 MiB: a long log must not take one call longer than its limit.
    ///
    /// Called by one task at a time. A cursor of an earlier link is valid. A driver that
    /// cannot decide whether a cursor is still valid answers `broken`: a false alarm costs a reconnect of some clients,
    /// silence costs the revocation.
    ///
    /// # Errors
    /// As [`append`](Self::append). Nothing has been read.
    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage>;
}

/// A place in a revocation log: opaque text, made and understood by one kind of driver. Core keeps it in memory,
/// across links, and never on disk: a process begins at [`START`](Self::START). A driver takes any other text, empty or
/// with spaces in it, for a place in no log, and its page is `broken`; no text may stand for the start.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LogCursor(Option<Box<str>>);

impl LogCursor {
    /// Before the oldest record that the log still keeps. Reading from here is never `broken`.
    pub const START: Self = Self(None);

    /// A place, as the driver writes it.
    pub fn new(place: impl Into<String>) -> Self {
        Self(Some(place.into().into()))
    }

    /// The place, as the driver wrote it; `None` at the start.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogCursor({})", self.place().unwrap_or("start"))
    }
}

/// What one read of the log returned.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// Oldest first, and in the same order for every reader. May hold a record twice, and records older than the
    /// retention.
    pub records: Vec<Bytes>,
    /// Stands after the last of `records`.
    pub cursor: LogCursor,
    /// Another page waits after `cursor`. `false`: the log was read to a point no earlier than the moment of the
    /// call.
    pub more: bool,
    /// The cursor that was given is no place in this log any more: records after it may be gone for good. `records`
    /// then begin at the oldest that is kept.
    pub broken: Option<LogDiscontinuity>,
    /// Since the last page that this link returned it has found no log, be it by a read or by an append, and made one.
    /// Other nodes may hold the records of an earlier one. A driver also reports it when another link created the log at the same moment;
    /// one that is certain that there never was a log need not.
    pub created: bool,
}

/// Why a cursor lost its place, as far as the driver can determine. Core does the same for all; the operator's remedy
/// differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogDiscontinuity {
    /// Another log stands under the name: it was deleted or flushed, or the server restarted without its data.
    Replaced,
    /// The log is older than the cursor: a snapshot was restored, a lagging replica took over, the power was cut.
    RolledBack,
    /// Records after the cursor were dropped before they were read: by retention, a purge, or by hand.
    Trimmed,
    /// A record that this node had stored is not in the log. Core finds this out; no driver reports it.
    Forgotten,
}

impl fmt::Display for LogDiscontinuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => {
                "another log stands under its name: it was deleted, or its server lost its data"
            }
            Self::RolledBack => {
                "it is older than it was: a snapshot was restored, or a replica that lagged took over"
            }
            Self::Trimmed => "records were dropped before they were read",
            Self::Forgotten => "a stored record is missing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_limit_and_no_earlier() {
        let log = LogSpec::of("shop", Duration::ZERO, Duration::from_secs(5));
        let peer = ErrorContext::new("Redis", "127.0.0.1:6379", "nobody");
        let after = |seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(seconds)
        };
        assert_eq!(log.within(&peer, after(4)).await.unwrap(), 4);
        let error = log.within(&peer, after(6)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.message().contains("127.0.0.1:6379") && error.message().contains("5s"), "{error}");
    }

    #[test]
    fn the_options_of_a_broker_limit_its_calls() {
        let limits = |publish_timeout, heartbeat_timeout| {
            let seconds = Duration::from_secs_f64;
            let options = Options {
                publish_timeout: seconds(publish_timeout),
                heartbeat_timeout: seconds(heartbeat_timeout),
                ..Options::default()
            };
            let log = LogSpec::of_options(&options);
            (log.limit.as_secs_f64(), log.shared_limit.as_secs_f64())
        };
        assert_eq!(limits(5.0, 5.0), (5.0, 2.0));
        assert_eq!(limits(30.0, 20.0), (30.0, 8.0));
        assert_eq!(limits(1.0, 20.0), (1.0, 0.4));
    }

    #[test]
    fn the_log_of_an_application_has_its_prefix() {
        let name = |prefix| LogSpec::of(prefix, Duration::ZERO, Duration::ZERO).name;
        assert_eq!(name("").as_str(), "$revocations");
        assert_eq!(name("shop").as_str(), "shop.$revocations");
    }
}
