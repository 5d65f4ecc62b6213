//! Frame: what the two ends say to each other.

use std::{borrow::Cow, fmt};

use crate::{
    Agreement, Authenticate, Authenticated, Bye, CallId, OpenExtra, OpenedExtra, Resume, Resumed, Why,
};

/// A frame, as it was read. It borrows from the text where that has no escapes.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// `omsc`: open a call.
    Open(Box<Open<'a>>),
    /// `omsr`: whether it was opened.
    Opened(Opened<'a>),
    /// `cmsc`: a stream of a call ends.
    Close(Close<'a>),
    /// `msm`: a value of a stream.
    Value(Item<'a>),
    /// `msse`: a fault that ends a stream.
    Fault(Item<'a>),
    /// `brm`: the other end could not read a frame; the socket closes.
    BadRequest(Cow<'a, str>),
    /// `ping`, with what the sender can do beyond the eight frames.
    Ping(Option<Agreement>),
    /// `pong`, with what both will do.
    Pong(Option<Agreement>),
    /// `flow`, of `x1`: how much of a stream was consumed.
    Flow(Flow<'a>),
    /// `gap`, of `x1`: values may be missing here.
    Gap(Gap<'a>),
    /// `auth`, of `x1`: new credentials for the calls of this socket.
    Authenticate(Authenticate),
    /// `authr`, of `x1`: whether they were accepted.
    Authenticated(Authenticated),
    /// `rsm`, of `x1`: resume calls of a socket that was lost.
    Resume(Resume),
    /// `rsr`, of `x1`: which of them go on.
    Resumed(Resumed),
    /// `bye`, of `x1`: the server is going to stop.
    Bye(Bye),
}

/// The call that a frame is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `en`.
    pub endpoint: Cow<'a, str>,
    /// `m`.
    pub method: Cow<'a, str>,
    /// `cid`.
    pub call: CallId,
}

/// Open a call. `Debug` does not show the credentials.
#[derive(PartialEq)]
pub struct Open<'a> {
    /// Which.
    pub target: Target<'a>,
    /// The text of a JSON object: the arguments that are no streams.
    pub args: Cow<'a, str>,
    /// The names of the inputs that the client will send.
    pub inputs: Vec<Cow<'a, str>>,
    /// Credentials, as in the header `Authorization`.
    pub auth: Option<Cow<'a, str>>,
    /// `am`: how the client authenticates. `cookie` means by the cookies of the upgrade.
    pub auth_mode: Option<Cow<'a, str>>,
    /// `x`.
    pub extra: Option<OpenExtra>,
}

impl fmt::Debug for Open<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("target", &self.target)
            .field("args", &self.args)
            .field("inputs", &self.inputs)
            .field("auth", &self.auth.as_ref().map(|_| "…"))
            .field("auth_mode", &self.auth_mode)
            .field("extra", &self.extra)
            .finish()
    }
}

/// Whether a call was opened.
#[derive(Debug, PartialEq)]
pub struct Opened<'a> {
    /// Which.
    pub target: Target<'a>,
    /// Whether, and if not, why.
    pub result: OpenResult,
    /// `x`.
    pub extra: Option<OpenedExtra>,
}

/// The outcome of an open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenResult {
    /// The call is open.
    Success,
    /// There is no such streaming method.
    EndpointNotFound,
    /// The credentials are missing, or are none.
    AuthenticationFailed,
    /// The user lacks a scope.
    AuthorizationDeclined,
    /// The arguments do not fit.
    InvalidArguments,
}

impl OpenResult {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Success,
        Self::EndpointNotFound,
        Self::AuthenticationFailed,
        Self::AuthorizationDeclined,
        Self::InvalidArguments,
    ];

    /// The outcome of a word; `None` for a word that is none.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|result| result.as_str() == word)
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::EndpointNotFound => "endpointNotFound",
            Self::AuthenticationFailed => "authenticationFailed",
            Self::AuthorizationDeclined => "authorizationDeclined",
            Self::InvalidArguments => "invalidArguments",
        }
    }
}

/// A stream of a call ends.
#[derive(Debug, PartialEq)]
pub struct Close<'a> {
    /// Which call.
    pub target: Target<'a>,
    /// Which input; `None` is the stream that the method returns.
    pub parameter: Option<Cow<'a, str>>,
    /// How.
    pub reason: CloseReason,
    /// Why, between two ends of `x1`.
    pub why: Option<Why>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It is complete, or is not wanted any more.
    Done,
    /// It failed.
    Error,
}

impl CloseReason {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Error => "error",
        }
    }
}

/// A value or a fault of a stream.
#[derive(Debug, PartialEq)]
pub struct Item<'a> {
    /// Which call.
    pub target: Target<'a>,
    /// Which input; `None` is the stream that the method returns.
    pub parameter: Option<Cow<'a, str>>,
    /// The name of its type.
    pub class_name: Cow<'a, str>,
    /// Itself, as JSON.
    pub json: &'a str,
    /// `k`: the position from which a method can go on, between two ends of `x1`.
    pub cursor: Option<Cow<'a, str>>,
}

/// How much of a stream the receiver's application has consumed.
#[derive(Debug, PartialEq)]
pub struct Flow<'a> {
    /// Which call.
    pub call: CallId,
    /// Which input; `None` is the stream that the method returns.
    pub parameter: Option<Cow<'a, str>>,
    /// Frames of that stream since the call was opened.
    pub got: u64,
}

/// Values of the method's stream may be missing here.
#[derive(Debug, PartialEq)]
pub struct Gap<'a> {
    /// Which call.
    pub target: Target<'a>,
    /// How many; `None` if that is not known.
    pub missed: Option<u64>,
    /// The cause, as the broker names it.
    pub cause: Cow<'a, str>,
}
