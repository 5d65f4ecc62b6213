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
/// A value that is nested 128 deep or deeper can be posted, but not be read.
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

/// How deep a payload may be nested, as in JSON: by far more would overflow the stack of a task, and end the process.
#[cfg(feature = "msgpack")]
const MAX_DEPTH: usize = 128;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A bit of everything that serde knows.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        number: u64,
        signed: i64,
        fraction: f64,
        text: String,
        bytes: Vec<u8>,
        map: BTreeMap<String, Option<i32>>,
        choices: Vec<Choice>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        New(char),
        Tuple(bool, i8),
        Struct { x: Option<String> },
    }

    impl Model for Everything {
        const NAME: &'static str = "Everything";
    }

    /// As deep as a payload makes it.
    #[derive(Debug, Serialize, Deserialize)]
    struct Tree {
        children: Vec<Tree>,
    }

    impl Model for Tree {
        const NAME: &'static str = "Tree";
    }

    fn codecs() -> impl Iterator<Item = Codec> {
        [Codec::Json, Codec::MsgPack].into_iter().filter(|codec| codec.is_available())
    }

    fn choice() -> impl Strategy<Value = Choice> {
        prop_oneof![
            Just(Choice::Unit),
            any::<char>().prop_map(Choice::New),
            any::<(bool, i8)>().prop_map(|(yes, number)| Choice::Tuple(yes, number)),
            any::<Option<String>>().prop_map(|x| Choice::Struct { x }),
        ]
    }

    fn everything() -> impl Strategy<Value = Everything> {
        let finite = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
        let map = prop::collection::btree_map(any::<String>(), any::<Option<i32>>(), 0..4);
        let choices = prop::collection::vec(choice(), 0..4);
        (any::<(u64, i64, String, Vec<u8>)>(), finite, map, choices).prop_map(
            |((number, signed, text, bytes), fraction, map, choices)| Everything {
                number,
                signed,
                fraction,
                text,
                bytes,
                map,
                choices,
            },
        )
    }

    /// What a thread of tokio has, also in a build without optimisation.
    #[test]
    fn no_depth_of_nesting_overflows_the_stack() {
        let deep = |open: &[u8]| open.repeat(100_000);
        let json = deep(br#"{"children":["#);
        let msgpack = deep(b"\x81\xA8children\x91");
        let read = move || {
            assert!(Codec::Json.decode::<Tree>(&json).is_err());
            assert!(Codec::MsgPack.decode::<Tree>(&msgpack).is_err());
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(read).unwrap();
        thread.join().unwrap();
    }

    proptest! {
        #[test]
        fn a_value_is_on_every_node_what_it_was_here(value in everything()) {
            for codec in codecs() {
                let payload = codec.encode(&value).unwrap();
                prop_assert_eq!(codec.decode::<Everything>(&payload), Ok(value.clone()), "{:?}", codec);
            }
        }

        #[test]
        fn a_payload_that_is_cut_or_spoilt_is_told_and_never_panics(
            value in everything(), cut: prop::sample::Index, spoilt: prop::sample::Index, byte: u8,
        ) {
            for codec in codecs() {
                let mut payload = codec.encode(&value).unwrap().to_vec();
                let short = &payload[..cut.index(payload.len())];
                prop_assert!(codec.decode::<Everything>(short).is_err(), "{:?}", codec);
                let spoilt = spoilt.index(payload.len());
                payload[spoilt] = byte;
                let _ = codec.decode::<Everything>(&payload);
            }
        }
    }
}
