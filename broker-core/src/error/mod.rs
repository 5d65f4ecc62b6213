//! Error: what failed, where, and what to do about it.

use std::{error::Error as StdError, fmt, time::Duration};

use broker_model::Failure;

use crate::ChannelName;

/// The result of a call into the broker.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What kind of failure it was: small, to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A channel name, header, URL or option breaks a rule. The message names the input and the rule.
    InvalidInput,
    /// The payload or the headers are over the limit. Nothing was sent.
    TooLarge,
    /// A value could not be encoded.
    Codec,
    /// A global post on a broker that has no backend ([`Broker::local`](crate::Broker::local)).
    NoBackend,
    /// This backend, or this server, cannot do it.
    Unsupported,
    /// The backend is unavailable. Nothing was sent; the same call may succeed later.
    Unavailable,
    /// The link broke after the message was handed to it: it may or may not have been delivered.
    Interrupted,
    /// No answer within the limit.
    Timeout,
    /// Too much is waiting to be sent already.
    Overloaded,
    /// The server refused the credentials, or the user has no permission for this.
    Forbidden,
    /// The server is set up in a way that cannot work; an operator has to change it.
    Misconfigured,
    /// What the peer sent is not the expected protocol.
    Protocol,
    /// The authentication was revoked since its check began. The user has to sign in again.
    Revoked,
    /// The broker or the session is closed.
    Closed,
    /// Anything else the backend answered.
    Other,
}

impl ErrorKind {
    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Interrupted | Self::Timeout | Self::Overloaded | Self::Other)
    }

    const fn text(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid input",
            Self::TooLarge => "too large",
            Self::Codec => "cannot encode",
            Self::NoBackend => "no backend",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Interrupted => "interrupted",
            Self::Timeout => "timed out",
            Self::Overloaded => "overloaded",
            Self::Forbidden => "forbidden",
            Self::Misconfigured => "misconfigured",
            Self::Protocol => "protocol error",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
            Self::Other => "failed",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a call failed: a kind to match on, and one line for a person that names the input and the remedy.
///
/// `Display` is one sentence, as in ``publish on redis (channel `news`): unavailable: no connection to …``. `Debug`
/// adds the causes behind it. Neither ever holds a password: drivers put only host, port and names into a message,
/// never a URL. Both are for operators and logs; [`public_message`](Self::public_message) is for the clients of a
/// server.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    /// What was being done: `publish`, `subscribe`, `connect`.
    operation: Option<&'static str>,
    backend: Option<&'static str>,
    channel: Option<ChannelName>,
    retry_after: Option<Duration>,
    /// Shared, so that one failure can be returned to every caller that waited for it.
    source: Option<std::sync::Arc<Source>>,
}

/// Two errors are equal if they have the same kind and read the same. Their causes are not compared.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind == other.0.kind && self.to_string() == other.to_string()
    }
}

impl Eq for Error {}

impl Error {
    /// An error of a kind, with a message that says what was wrong and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            backend: None,
            channel: None,
            retry_after: None,
            source: None,
        }))
    }

    /// Names the operation that failed, unless a deeper layer did already.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Names the backend, unless a deeper layer did already.
    #[must_use]
    pub fn with_backend(mut self, backend: &'static str) -> Self {
        self.0.backend.get_or_insert(backend);
        self
    }

    /// Names the channel.
    #[must_use]
    pub fn with_channel(mut self, channel: ChannelName) -> Self {
        self.0.channel = Some(channel);
        self
    }

    /// Keeps the cause for [`source`](StdError::source), which leaves out what the message says already. A message can
    /// therefore repeat its cause, for those who read only the one line.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(std::sync::Arc::new(source.into()));
        self
    }

    /// How long the remedy of the caller would fail as well.
    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    /// For [`Revoked`](ErrorKind::Revoked): how long from now a new token of the user would be refused like this one,
    /// because it is dated by another clock, or in whole seconds. The client waits as long, and signs in again. A token with
    /// an exact time of this server may be let in earlier. `None`: it may sign in at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use std::time::{Duration, Instant, SystemTime};
    /// use broker::{Identity, Revocation};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let (began, issued) = (Instant::now(), SystemTime::now());
    /// broker.revoke(Revocation::user("ada")).await?;
    ///
    /// let error = broker.session_for(Identity::new("ada", issued)).await.unwrap_err();
    /// // `clock_skew`, and the second in which that ends.
    /// assert!(error.retry_after().unwrap() <= Duration::from_secs(2));
    /// // A new sign-in here is accepted at once.
    /// let error = broker.session_for(Identity::new("ada", began)).await.unwrap_err();
    /// assert_eq!(error.retry_after(), None);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without operation, backend and channel.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// A sentence for the clients of a server that reveals nothing about its backend: the kind of failure and what the
    /// client can do. It depends on the [kind](Self::kind) alone, and never names a host, user, channel or
    /// limit, or anything that the backend answered.
    ///
    /// ```
    /// use broker::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unavailable, "no connection to 10.0.0.7:6379: connection refused");
    /// assert_eq!(error.public_message(), "the service is not available at the moment; try again later");
    /// ```
    #[must_use]
    pub fn public_message(&self) -> &'static str {
        match self.0.kind {
            ErrorKind::InvalidInput => "the request is not valid; correct it before you send it again",
            ErrorKind::TooLarge => "the message is too large; send a smaller one",
            ErrorKind::Codec => {
                "the message holds a value that cannot be sent; correct it before you send it again"
            }
            ErrorKind::NoBackend | ErrorKind::Unsupported => "the service does not offer this",
            ErrorKind::Unavailable => "the service is not available at the moment; try again later",
            ErrorKind::Interrupted => {
                "the connection was lost on the way, and the message may have been delivered or not; before you \
                 send it again, check whether it was"
            }
            ErrorKind::Timeout => "the service did not answer in time; try again later",
            ErrorKind::Overloaded => "the service is overloaded; try again later",
            ErrorKind::Revoked => "the sign-in is no longer valid; sign in again",
            ErrorKind::Closed => "the connection is closed; connect again",
            // What the server may do at its backend, and what it finds there, is no fault of its clients.
            ErrorKind::Forbidden | ErrorKind::Misconfigured | ErrorKind::Protocol | ErrorKind::Other => {
                "the service failed; try again later"
            }
        }
    }

    /// What was being done, where it is known.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The backend it happened on, where one was involved.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }

    /// The channel it was about, where it was about one.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelName> {
        self.0.channel.as_ref()
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient()
    }

    pub(crate) fn draining() -> Self {
        Self::new(ErrorKind::Closed, "the broker is being drained, and takes nothing new")
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the broker is closed")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, operation, backend, channel, .. } = &*self.0;
        match (operation, backend, channel) {
            (None, None, None) => {}
            (None, None, Some(channel)) => write!(f, "channel `{channel}`: ")?,
            (operation, backend, channel) => {
                f.write_str(operation.unwrap_or_default())?;
                match (operation, backend) {
                    (Some(_), Some(backend)) => write!(f, " on {backend}")?,
                    (_, backend) => f.write_str(backend.unwrap_or_default())?,
                }
                if let Some(channel) = channel {
                    write!(f, " (channel `{channel}`)")?;
                }
                f.write_str(": ")?;
            }
        }
        write!(f, "{kind}: {message}")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, "\ncaused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    /// The first cause that adds something to this error's message.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let mut source = self.0.source.as_ref().map(|source| &***source as &(dyn StdError + 'static));
        while let Some(error) = source.filter(|error| self.says(*error)) {
            source = error.source();
        }
        source
    }
}

impl Error {
    /// Whether the message holds all that `other` would add.
    fn says(&self, other: &(dyn StdError + 'static)) -> bool {
        match other.downcast_ref::<Self>() {
            Some(other) => self.0.message.contains(other.message()),
            None => self.0.message.contains(&other.to_string()),
        }
    }
}

/// A streaming method that fails by it tells its client nothing of it: see [`Failure`].
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests;
