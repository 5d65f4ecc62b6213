//! Model and Codec: what a typed message is called on the wire, and how it is encoded.

mod check;
#[cfg(feature = "msgpack")]
mod depth;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};
#[cfg(feature = "msgpack")]
use check::MAX_DEPTH;
use check::{Check, Format};

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
///
/// # What cannot be posted
///
/// A value that would not be read as what it was is refused by every way to post it, in every scope, with
/// [`ErrorKind::Codec`]:
///
/// - NaN and infinities in JSON;
/// - `Some(None)` and `Some(())`, which are written as `None` is; in JSON also `Some` of a unit struct. This holds for
///   a type that tells them apart by a `deserialize_with` of its own, too: let its `serialize_with` write the inner
///   `None` without the `Some` around it, as `serde_with::rust::double_option` does;
/// - what is nested 128 deep or deeper;
/// - maps in JSON whose keys are no strings, numbers, booleans or unit variants.
///
/// For that [`Serialize`] is called on the value once more than it is encoded: once for a local post. It cannot find out
/// what an implementation leaves out, or writes in another way than its [`Deserialize`] reads it. Nor can it find what
/// serde itself does not read behind an internal tag (`#[serde(tag = "…")]`), `untagged` or `flatten`: integers of 128
/// bits; in JSON maps whose keys are numbers or booleans; and a map with a key that is also a field's name or the tag.
/// Receivers then get an error item in the place of such a value.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{ErrorKind, Model, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Reading { value: f64 }
///
/// let session = broker::connect("memory:").await?.session();
/// let refused = session.post_message("readings", Reading { value: f64::NAN }, Scope::Local).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Codec);
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Model`: it has no name on the wire",
    note = "derive it: `#[derive(serde::Serialize, serde::Deserialize, broker::Model)]`",
    note = "bytes and text are posted by `Session::post` or `Broker::publish`"
)]
pub trait Model: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire: 1 to 255 bytes.
    const NAME: &'static str;
}

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
