//! Codec: how a typed message is encoded.

mod check;
#[cfg(feature = "msgpack")]
mod depth;

use broker_model::Model;
use bytes::Bytes;
use serde::Deserialize;

use crate::{Error, ErrorKind, Result};
#[cfg(feature = "msgpack")]
use check::MAX_DEPTH;
use check::{Check, Format};

/// How a payload is encoded. The frame names its codec, so that two codecs can share a channel during a rollout.
/// What none of them can give back is refused when it is posted: see [`Model`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Codec {
    /// Bytes the broker does not interpret.
    Raw,
    /// JSON.
    #[default]
    Json,
    /// MessagePack with field names. Needs the feature `msgpack`.
    MsgPack,
}

impl Codec {
    pub(crate) fn from_name(name: &str) -> Result<Self> {
        match name {
            "json" => Ok(Self::Json),
            "msgpack" => Ok(Self::MsgPack),
            other => {
                let other = crate::channel::shown(other);
                Err(Error::new(ErrorKind::InvalidInput, format!("codec {other}: choose json or msgpack")))
            }
        }
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Json => 1,
            Self::MsgPack => 2,
        }
    }

    pub(crate) const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Json),
            2 => Some(Self::MsgPack),
            _ => None,
        }
    }

    /// Whether this build can encode and decode it.
    pub(crate) const fn is_available(self) -> bool {
        match self {
            Self::Raw | Self::Json => true,
            Self::MsgPack => cfg!(feature = "msgpack"),
        }
    }

    pub(crate) fn encode<T: Model>(self, value: &T) -> Result<Bytes> {
        self.check(value)?;
        match self {
            // The check has said so.
            Self::Raw => Err(refused::<T>(&RAW)),
            Self::Json => serde_json::to_vec(value).map(Bytes::from).map_err(|error| refused::<T>(&error)),
            #[cfg(feature = "msgpack")]
            Self::MsgPack => {
                rmp_serde::to_vec_named(value).map(Bytes::from).map_err(|error| refused::<T>(&error))
            }
            #[cfg(not(feature = "msgpack"))]
            Self::MsgPack => Err(refused::<T>(&NO_MSGPACK)),
        }
    }

    /// Whether a value would come back from its encoding as what it is. Encodes nothing.
    #[inline]
    pub(crate) fn check<T: Model>(self, value: &T) -> Result<()> {
        let format = match self {
            Self::Raw => return Err(refused::<T>(&RAW)),
            Self::Json => Format::Json,
            #[cfg(feature = "msgpack")]
            Self::MsgPack => Format::MsgPack,
            #[cfg(not(feature = "msgpack"))]
            Self::MsgPack => return Err(refused::<T>(&NO_MSGPACK)),
        };
        value.serialize(Check::new(format)).map_err(|refusal| refused::<T>(&refusal))
    }

    /// Decodes a payload; the error is a plain reason.
    pub(crate) fn decode<T: Model>(self, payload: &[u8]) -> Result<T, String> {
        match self {
            Self::Raw => Err("the payload is raw bytes, not an encoded value".to_owned()),
            Self::Json => serde_json::from_slice(payload).map_err(|error| error.to_string()),
            #[cfg(feature = "msgpack")]
            Self::MsgPack if depth::reaches(payload, MAX_DEPTH) => {
                Err(format!("it is nested {MAX_DEPTH} deep or deeper"))
            }
            #[cfg(feature = "msgpack")]
            Self::MsgPack => {
                let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
                deserializer.set_max_depth(MAX_DEPTH);
                T::deserialize(&mut deserializer).map_err(|error| error.to_string())
            }
            #[cfg(not(feature = "msgpack"))]
            Self::MsgPack => {
                Err("the payload is MessagePack and this build lacks the feature `msgpack`".to_owned())
            }
        }
    }
}

const RAW: &str = "the codec `raw` has no encoding for types; choose json or msgpack";
#[cfg(not(feature = "msgpack"))]
const NO_MSGPACK: &str = "this build lacks the feature `msgpack`";

#[cold]
fn refused<T: Model>(why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Codec, format!("a value of type `{}` cannot be encoded: {why}", T::NAME))
}

#[cfg(test)]
mod tests;
