//! RequestError: why a request has no reply.

use std::{fmt, time::Duration};

use broker_model::Failure;

use crate::{Error, Gap, StreamError, channel::shown};

/// Why a request has no reply that can be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// No reply came in time. The request was posted; it may have been received, and acted upon.
    NoReply {
        /// How long it was waited for.
        within: Duration,
    },
    /// The reply may be lost: the link broke, or messages were dropped on the way, while it was waited for. As with
    /// [`NoReply`](Self::NoReply), the request may have been acted upon; this is known before the time is over.
    MayBeLost(Gap),
    /// The responder refused, with this text: at most [`MAX_REFUSAL`](Self::MAX_REFUSAL) bytes of it, without control
    /// characters. It comes from another process, so do not show it to clients unread.
    Refused(String),
    /// The reply is of another type, or does not decode.
    Unreadable(StreamError),
    /// The request failed before it could be answered: it could not be posted, replies could not be subscribed to, or the
    /// broker or session was closed.
    Broker(Error),
}

impl RequestError {
    /// How many bytes of a responder's refusal are kept.
    pub const MAX_REFUSAL: usize = 1024;

    /// Whether the same request may succeed later without any change. It may have been acted upon already, except where
    /// [`Broker`](Self::Broker) holds an error that says otherwise.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoReply { .. } | Self::MayBeLost(_) => true,
            Self::Refused(_) | Self::Unreadable(_) => false,
            Self::Broker(error) => error.is_transient(),
        }
    }
}

/// A refusal as it is sent and kept, of at most so many bytes: its text may come from anywhere.
pub(crate) fn refusal(text: &str, most: usize) -> String {
    let most = most.min(RequestError::MAX_REFUSAL);
    let mut kept = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if kept.len() + c.len_utf8() > most {
            break;
        }
        kept.push(c);
    }
    kept
}

impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReply { within } => {
                write!(f, "no reply within {within:?}; the request may have been acted upon")
            }
            Self::MayBeLost(gap) => write!(f, "the reply may be lost: {gap}"),
            Self::Refused(text) => write!(f, "the responder refused: {text}"),
            Self::Unreadable(StreamError::WrongType { expected, message }) => {
                match message.type_name() {
                    Some(found) => write!(f, "the reply is of type {}", shown(found))?,
                    None => f.write_str("the reply has no type")?,
                }
                write!(f, ", and `{expected}` is expected")
            }
            Self::Unreadable(error) => write!(f, "the reply is unreadable: {error}"),
            Self::Broker(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broker(error) => error.source(),
            _ => None,
        }
    }
}

/// A streaming method that fails by it tells its client nothing of it: see [`Failure`].
impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, GapCause};

    #[test]
    fn a_streaming_method_fails_by_it_without_telling_its_client() {
        fn method(error: RequestError) -> Result<(), Failure> {
            match error {
                RequestError::Broker(error) => Err(error)?,
                RequestError::Unreadable(error) => Err(error)?,
                error => Err(error)?,
            }
        }
        let error = Error::new(ErrorKind::Unavailable, "no connection to 10.0.0.7:6379");
        let gap = Gap { cause: GapCause::LinkLost, missed: None };
        for (error, text) in [
            (RequestError::Broker(error), "10.0.0.7"),
            (RequestError::Unreadable(StreamError::Gap(gap)), "link"),
            (RequestError::NoReply { within: Duration::from_secs(5) }, "5s"),
        ] {
            let failure = method(error).unwrap_err();
            assert!(failure.fault().is_none() && failure.to_string().contains(text), "{failure}");
        }
    }

    #[test]
    fn a_refusal_is_short_and_on_one_line() {
        assert_eq!(refusal("not\nnow\u{1b}[2J", usize::MAX), "not now [2J");
        let long = "ü".repeat(5000);
        assert_eq!(refusal(&long, usize::MAX).len(), RequestError::MAX_REFUSAL);
        assert_eq!(refusal(&long, 7).len(), 6);
    }
}
