//! Error: what failed, where, and what to do about it.

use std::{error::Error as StdError, fmt};

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
    /// The backend is away. Nothing was sent; the same call may succeed later.
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
    /// Whether the same call may succeed later without anybody changing anything.
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
/// `Display` is one line, `Debug` adds the source. Neither ever holds a password: drivers put only
/// host, port and names into a message, never a URL.
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
    /// Shared, so that one failure can be told to everyone who waited for it.
    source: Option<std::sync::Arc<Source>>,
}

impl Error {
    /// An error of a kind, with a message that says what was wrong and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            backend: None,
            channel: None,
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

    /// Keeps the cause for [`source`](StdError::source).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(std::sync::Arc::new(source.into()));
        self
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

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient()
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the broker is closed")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, operation, backend, channel, .. } = &*self.0;
        match (operation, backend) {
            (Some(operation), Some(backend)) => write!(f, "{operation} on {backend} ")?,
            (Some(operation), None) => write!(f, "{operation} ")?,
            (None, Some(backend)) => write!(f, "{backend} ")?,
            (None, None) => {}
        }
        if let Some(channel) = channel {
            write!(f, "(channel `{channel}`) ")?;
        }
        write!(f, "{kind}: {message}")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if let Some(source) = &self.0.source {
            write!(f, "\ncaused by: {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &***source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_where_and_why() {
        let error = Error::new(ErrorKind::Unavailable, "connection refused at 127.0.0.1:1")
            .with_operation("publish")
            .with_backend("redis")
            .with_channel(ChannelName::new("news").unwrap());
        assert_eq!(
            error.to_string(),
            "publish on redis (channel `news`) unavailable: connection refused at 127.0.0.1:1"
        );
        assert!(error.is_transient());
    }

    #[test]
    fn the_deepest_layer_names_the_operation() {
        let error =
            Error::new(ErrorKind::Timeout, "late").with_operation("subscribe").with_operation("connect");
        assert_eq!(error.operation(), Some("subscribe"));
    }
}
