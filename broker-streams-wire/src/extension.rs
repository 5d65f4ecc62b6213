//! The extension `x1`: what its frames and members hold.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{CallId, OpenResult};

/// What an end can do beyond the eight frames, in a `ping`; what both will do, in the `pong`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The version of the extension: 1.
    pub x: u32,
    /// How many frames of a stream may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// How many bytes of a stream may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
    /// How long a call waits for a lost client, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park: Option<u32>,
}

/// `x` of an open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenExtra {
    /// How many frames of the method's stream may be under way.
    #[serde(default, rename = "w", skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// The time that the call is given, in milliseconds.
    #[serde(default, rename = "d", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u32>,
    /// W3C trace context.
    #[serde(default, rename = "tp", skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The position from which the method is to go on.
    #[serde(default, rename = "k", skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Whether the client would resume the call.
    #[serde(default, rename = "r", skip_serializing_if = "std::ops::Not::not")]
    pub resumable: bool,
}

/// `x` of the answer to an open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedExtra {
    /// How many frames of each input may be under way.
    #[serde(default, rename = "w", skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, u32>,
    /// The token by which the call is resumed.
    #[serde(default, rename = "t", skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// The secret by which a call is resumed. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A secret that a client shows to be let in. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credential(pub String);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// New credentials for the calls of this socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authenticate {
    /// As in the header `Authorization`.
    pub auth: Credential,
}

/// Whether they were accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authenticated {
    /// Whether.
    pub res: OpenResult,
    /// Until when they are valid, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// Resume calls of a socket that was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Which.
    pub calls: Vec<ResumeCall>,
    /// As in the header `Authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Credential>,
}

/// One call that the client would resume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeCall {
    /// Which.
    pub cid: CallId,
    /// The token of its last answer.
    pub t: Token,
    /// Frames of the method's stream, under the empty name, that the client has received.
    #[serde(default)]
    pub got: BTreeMap<String, u64>,
}

/// Which calls go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// One answer for each that was asked for.
    pub calls: Vec<ResumedCall>,
}

/// Whether one call goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedCall {
    /// Which.
    pub cid: CallId,
    /// Whether it goes on; if not, open it anew.
    pub ok: bool,
    /// The token for the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<Token>,
    /// Frames of each input that the server has received; -1 for one that it does not want any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub got: BTreeMap<String, i64>,
}

/// The server is going to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// In how many milliseconds.
    pub within: u32,
    /// A client waits a random time of at most so many milliseconds before it connects elsewhere.
    pub spread: u32,
}

impl Serialize for CallId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("a call's id is the text of a UUID"))
    }
}

impl Serialize for OpenResult {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for OpenResult {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::of(&text).ok_or_else(|| serde::de::Error::custom("no such outcome of an open"))
    }
}
