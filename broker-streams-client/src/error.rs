//! Error: why a call failed, or what a stream lacks.

use std::{error::Error, fmt};

use broker_model::{Fault, Unreadable};
use broker_streams_wire::{Again, Cause, OpenResult};

/// Why a call failed, or what is missing from its stream.
///
/// No text of the server, and nothing of a credential, is part of what is displayed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The server did not open the call.
    Refused(OpenResult),
    /// The method failed with a fault.
    Fault(StreamFault),
    /// The server closed the call.
    Closed {
        /// Why, if the server gave a reason.
        why: Option<Cause>,
        /// When a new call can succeed. [`Again::Never`] if the server did not say.
        again: Again,
    },
    /// Values may be missing here. The stream goes on.
    Gap {
        /// How many, if that is known.
        missed: Option<u64>,
        /// The cause, as the broker names it.
        cause: Box<str>,
    },
    /// The call was lost, and a new one has begun: what the server sent in between is missing. The stream
    /// goes on.
    Restarted,
    /// This client closed the socket: by [`Client::close`](crate::Client::close), or because it was reported
    /// offline.
    SocketClosed,
    /// The socket was lost, or the server closed it.
    SocketLost,
    /// There was no connection to the server.
    ConnectFailed(Box<str>),
    /// The server did not answer in time.
    ConnectTimedOut,
    /// The server answered the upgrade, but not the opening of the call in time.
    OpenTimedOut,
    /// Nothing has arrived on the socket for a long time.
    IdleTimeout,
    /// A value does not fit the expected type. The stream goes on.
    Unreadable(Unreadable),
    /// The arguments, or a value of an input, cannot be written as JSON or are too long.
    Unwritable(Box<str>),
    /// A method that gives one value has given none.
    NoValue,
    /// The server has sent more values than this client agreed to hold.
    Overflow,
    /// This client has as many calls as it may have.
    TooManyCalls,
    /// The provider of credentials has failed, or has not answered in time.
    Credentials,
    /// The client was stopped: its runtime has ended, or there is none.
    Stopped,
}

impl CallError {
    /// Whether the stream has ended with this error. After any other error it goes on.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Gap { .. } | Self::Restarted | Self::Unreadable(_))
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(result) => write!(f, "the server did not open the call: {}", result.as_str()),
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::Closed { why: Some(why), .. } => write!(f, "the server closed the call: {}", why.as_str()),
            Self::Closed { why: None, .. } => f.write_str("the server closed the call because it failed"),
            Self::Gap { missed: Some(missed), .. } => write!(f, "{missed} values are missing here"),
            Self::Gap { missed: None, .. } => f.write_str("values may be missing here"),
            Self::Restarted => {
                f.write_str("the call was lost and a new one has begun; values may be missing here")
            }
            Self::SocketClosed => f.write_str("the client closed the socket"),
            Self::SocketLost => f.write_str("the socket was lost"),
            Self::ConnectFailed(why) => write!(f, "no connection to the server: {why}"),
            Self::ConnectTimedOut => f.write_str("the server did not answer the attempt to connect in time"),
            Self::OpenTimedOut => f.write_str("the server did not answer the opening of the call in time"),
            Self::IdleTimeout => f.write_str("nothing has arrived on the socket for a long time"),
            Self::Unreadable(why) => write!(f, "a value cannot be read: {why}"),
            Self::Unwritable(why) => write!(f, "a value cannot be sent: {why}"),
            Self::NoValue => f.write_str("the method has ended without a value"),
            Self::Overflow => f.write_str("the server has sent more values than the client agreed to hold; read faster, or raise max_buffered"),
            Self::TooManyCalls => {
                f.write_str("the client has as many calls as it may have; end some, or raise max_calls")
            }
            Self::Credentials => f.write_str("the provider of credentials failed, or did not answer in time"),
            Self::Stopped => f.write_str("the client was stopped; it needs a running tokio runtime"),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(why) => Some(why),
            _ => None,
        }
    }
}

/// A fault with which a method failed: the name of its class, and its data as JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamFault {
    class_name: Box<str>,
    json: Box<str>,
}

impl StreamFault {
    /// The longest part of a class's name that is shown.
    const SHOWN: usize = 80;

    pub(crate) fn new(class_name: &str, json: &str) -> Self {
        Self { class_name: class_name.into(), json: json.into() }
    }

    /// The name of its class.
    #[must_use]
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// Its data, as JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The fault as what it is. `None` if it is of another class.
    #[must_use]
    pub fn read<E: Fault>(&self) -> Option<Result<E, Unreadable>> {
        E::decode(&self.class_name, &self.json)
    }

    pub(crate) fn len(&self) -> usize {
        self.class_name.len() + self.json.len()
    }
}

/// Its class. The data may be private.
impl fmt::Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.class_name.chars().take(Self::SHOWN).collect();
        write!(f, "the method failed with a fault of class {short:?}")
    }
}

impl fmt::Debug for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamFault({self})")
    }
}
