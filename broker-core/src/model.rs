//! Model and Codec: what a typed message is called on the wire, and how it is encoded.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};

/// A type that can be posted: it has a name on the wire, and serde encodes it.
///
/// Usually derived; the name is the type's own unless `#[model(name = "…")]` says otherwise. The name is
/// the contract between nodes: keep it when the type is renamed or moved.
///
/// ```
/// use broker::Model;
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// #[model(name = "pixel-added")]
/// struct PixelAdded { index: u32, colour: u8 }
///
/// assert_eq!(PixelAdded::NAME, "pixel-added");
/// ```
pub trait Model: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire: 1 to 255 bytes.
    const NAME: &'static str;
}

/// How a payload is encoded. The frame names its codec, so that two codecs can share a channel during a rollout.
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
        let failed = |why: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Codec, format!("a value of type `{}` cannot be encoded: {why}", T::NAME))
        };
        match self {
            Self::Raw => Err(failed(&"the codec `raw` has no encoding for types; choose json or msgpack")),
            Self::Json => serde_json::to_vec(value).map(Bytes::from).map_err(|error| failed(&error)),
            #[cfg(feature = "msgpack")]
            Self::MsgPack => rmp_serde::to_vec_named(value).map(Bytes::from).map_err(|error| failed(&error)),
            #[cfg(not(feature = "msgpack"))]
            Self::MsgPack => Err(failed(&"this build lacks the feature `msgpack`")),
        }
    }

    /// Decodes a payload; the error is a plain reason.
    pub(crate) fn decode<T: Model>(self, payload: &[u8]) -> Result<T, String> {
        match self {
            Self::Raw => Err("the payload is raw bytes, not an encoded value".to_owned()),
            Self::Json => serde_json::from_slice(payload).map_err(|error| error.to_string()),
            #[cfg(feature = "msgpack")]
            Self::MsgPack => rmp_serde::from_slice(payload).map_err(|error| error.to_string()),
            #[cfg(not(feature = "msgpack"))]
            Self::MsgPack => {
                Err("the payload is MessagePack and this build lacks the feature `msgpack`".to_owned())
            }
        }
    }
}
