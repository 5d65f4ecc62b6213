//! Why: what an `x1` client learns about the end of a call, and when it may call again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a call ended, and whether to call again. A client acts on [`again`](Self::again) alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// What happened.
    #[serde(rename = "c")]
    pub cause: Cause,
    /// Whether a new call can succeed.
    pub again: Again,
}

impl Why {
    /// A cause, with what a client usually does about it.
    #[must_use]
    pub const fn new(cause: Cause) -> Self {
        let again = match cause {
            Cause::Revoked | Cause::Expired | Cause::Doubt | Cause::Identity => Again::SignIn,
            Cause::Deadline | Cause::Limit | Cause::Internal | Cause::Other => Again::Never,
            Cause::Overloaded | Cause::Draining | Cause::Gone | Cause::Gap => Again::Now,
        };
        Self { cause, again }
    }
}

/// What ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Cause {
    /// The authentication was revoked.
    Revoked,
    /// The authentication was valid until now.
    Expired,
    /// It is uncertain whether the authentication is still valid.
    Doubt,
    /// The socket has new credentials, of another user or without a scope that the call requires.
    Identity,
    /// The time that the call was given is over.
    Deadline,
    /// The client has exceeded a limit.
    Limit,
    /// The method failed.
    Internal,
    /// The server has too many calls.
    Overloaded,
    /// The server is going to stop.
    Draining,
    /// A parked call was not resumed in time.
    Gone,
    /// Messages may be missing, and the method cannot say which.
    Gap,
    /// A cause of a later version.
    #[serde(other)]
    Other,
}

impl Cause {
    /// The word on the wire, and the label of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Doubt => "doubt",
            Self::Identity => "identity",
            Self::Deadline => "deadline",
            Self::Limit => "limit",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Gone => "gone",
            Self::Gap => "gap",
            Self::Other => "other",
        }
    }
}

/// When a new call can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Again {
    /// At once.
    Now,
    /// After that time; milliseconds on the wire.
    After(Duration),
    /// With new credentials.
    SignIn,
    /// Not as it was.
    Never,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Milliseconds(u32),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Now,
    SignIn,
    #[serde(other)]
    Never,
}

impl Serialize for Again {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self {
            Self::Now => Written::Word(Word::Now),
            Self::SignIn => Written::Word(Word::SignIn),
            Self::Never => Written::Word(Word::Never),
            Self::After(time) => Written::Milliseconds(u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Again {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Milliseconds(time) => Self::After(Duration::from_millis(time.into())),
            Written::Word(Word::Now) => Self::Now,
            Written::Word(Word::SignIn) => Self::SignIn,
            Written::Word(Word::Never) => Self::Never,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_words_or_milliseconds() {
        let revoked = Why::new(Cause::Revoked);
        assert_eq!(serde_json::to_string(&revoked).unwrap(), r#"{"c":"revoked","again":"signin"}"#);
        let later = Why { cause: Cause::Overloaded, again: Again::After(Duration::from_millis(250)) };
        assert_eq!(serde_json::to_string(&later).unwrap(), r#"{"c":"overloaded","again":250}"#);
        assert_eq!(serde_json::from_str::<Why>(r#"{"c":"overloaded","again":250}"#).unwrap(), later);
    }

    #[test]
    fn words_of_a_later_version_are_no_error() {
        let later: Why = serde_json::from_str(r#"{"c":"eclipse","again":"whenever"}"#).unwrap();
        assert_eq!(later, Why { cause: Cause::Other, again: Again::Never });
    }
}
