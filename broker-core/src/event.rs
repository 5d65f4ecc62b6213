//! Event, Gap, CloseReason: what a subscription yields, and why it ends.

use std::fmt;

use broker_model::Failure;

use crate::{Error, Malformed, Message, Revoked, Uncertainty, channel::shown};

/// What an untyped [`Subscription`](crate::Subscription) yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message, in its place.
    Message(Message),
    /// Messages may be missing here.
    Gap(Gap),
    /// Something arrived that is not a message. The subscription goes on.
    Malformed(Malformed),
}

impl Event {
    /// The message, or what stands in its place.
    pub(crate) fn into_message(self) -> Result<Message, StreamError> {
        match self {
            Self::Message(message) => Ok(message),
            Self::Gap(gap) => Err(StreamError::Gap(gap)),
            Self::Malformed(malformed) => Err(StreamError::Malformed(malformed)),
        }
    }
}

/// Messages are missing, or may be, at this place in the stream.
///
/// The subscription is live again when you see it: read the present state anew, then go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Exactly how many messages are missing; `None` when the number is unknown, and may even be zero.
    pub missed: Option<u64>,
    /// Why.
    pub cause: GapCause,
}

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapCause {
    /// This subscriber was too slow and its queue overflowed; the oldest were dropped. Nobody else lost anything.
    Overflow,
    /// The link to the backend, or the part of it that carries this channel, was lost and is back; what was posted in
    /// between was not received.
    LinkLost,
    /// The backend or its client dropped messages while the link lived on.
    Dropped,
    /// The numbers of the messages show that some were lost on the way while the link lived on: in the backend, or
    /// between a poster and the backend (its post then was [`Interrupted`](crate::ErrorKind::Interrupted) or refused).
    /// It is unknown how many are missing when the report of that is missing too, and when a node was killed: it has posted,
    /// and is silent since. Numbers that show more than `u32::MAX` at once are forged or damaged: then it is unknown as well.
    Skipped,
    /// This subscriber asked for [the newest message only](crate::SubscribeOptions::latest_only), and skipped those
    /// before it. Nothing was lost.
    Conflated,
    /// The subscription begins here: it was made [without waiting](crate::SubscribeOptions::without_waiting). What was
    /// posted before may be missing.
    Subscribed,
}

impl GapCause {
    /// The cause in one word, for programs: `overflow`, `link-lost`, `dropped`, `skipped`, `conflated`, `subscribed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::LinkLost => "link-lost",
            Self::Dropped => "dropped",
            Self::Skipped => "skipped",
            Self::Conflated => "conflated",
            Self::Subscribed => "subscribed",
        }
    }
}

impl Gap {
    pub(crate) const fn new(missed: Option<u64>, cause: GapCause) -> Self {
        Self { missed, cause }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missed {
            _ if self.cause == GapCause::Subscribed => {}
            Some(skipped) if self.cause == GapCause::Conflated => {
                write!(f, "{skipped} older messages were skipped: ")?;
            }
            Some(1) => f.write_str("1 message is missing: ")?,
            Some(missed) => write!(f, "{missed} messages are missing: ")?,
            None => f.write_str("messages may be missing: ")?,
        }
        f.write_str(match self.cause {
            GapCause::Overflow => "this subscriber was too slow",
            GapCause::LinkLost => "the link to the backend was lost and is back",
            GapCause::Dropped => "the backend dropped messages",
            GapCause::Skipped => "lost on the way, as far as is known",
            GapCause::Conflated => "this subscriber reads the newest only",
            GapCause::Subscribed => "the subscription begins here",
        })
    }
}

/// What a typed stream yields in the place of a message. The stream lives on after each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// Messages may be missing here.
    Gap(Gap),
    /// A message of another type. It can still be read through [`Message`].
    WrongType {
        /// The type this stream is for.
        expected: &'static str,
        /// The message.
        message: Message,
    },
    /// Not a message, or one whose payload does not decode.
    Malformed(Malformed),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(gap) => gap.fmt(f),
            Self::WrongType { expected, message } => {
                match message.type_name() {
                    Some(found) => write!(f, "a message of type {}", shown(found))?,
                    None => f.write_str("a message without a type")?,
                }
                write!(f, " on a stream of `{expected}`")
            }
            Self::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

/// A streaming method that fails by it tells its client nothing of it: see [`Failure`].
impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::internal(error)
    }
}

/// Why a subscription or a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Its session was closed or dropped.
    SessionClosed,
    /// The broker was closed, or drained to the end.
    BrokerClosed,
    /// Its listener was removed.
    Removed,
    /// The backend refused the channel, now or at a reconnect: a permission is missing.
    Refused(Error),
    /// The authentication of its session was revoked, on whatever server.
    AuthenticationRevoked(Revoked),
    /// It is uncertain whether the authentication of its session is still valid. Sign in again.
    AuthenticationUncertain(Uncertainty),
}

impl CloseReason {
    /// Whether the user may not be served any more, not even while the session says goodbye.
    pub(crate) fn ends_authentication(&self) -> bool {
        matches!(self, Self::AuthenticationRevoked(_) | Self::AuthenticationUncertain(_))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionClosed => f.write_str("the session is closed"),
            Self::BrokerClosed => f.write_str("the broker is closed"),
            Self::Removed => f.write_str("the listener was removed"),
            Self::Refused(error) => write!(f, "the backend refused the channel: {error}"),
            Self::AuthenticationRevoked(what) => write!(f, "revoked: {what}"),
            Self::AuthenticationUncertain(why) => write!(f, "the authentication is uncertain: {why}"),
        }
    }
}
