//! ByteData: bytes, as text in base64.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::Wire;

/// Bytes, as Serverpod's `ByteData`: text in base64 with `decode('` before it and `', 'base64')` behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ByteData(pub Bytes);

const BEFORE: &str = "decode('";
const BEHIND: &str = "', 'base64')";

impl Wire for ByteData {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("ByteData")
    }
}

impl Serialize for ByteData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{BEFORE}{}{BEHIND}", STANDARD.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for ByteData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let base64 = text.strip_prefix(BEFORE).and_then(|text| text.strip_suffix(BEHIND));
        let base64 = base64.ok_or_else(|| D::Error::custom("bytes are decode('…', 'base64')"))?;
        STANDARD.decode(base64).map(Bytes::from).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standard::round;

    #[test]
    fn cl_41_bytes_come_back() {
        round(&ByteData(Bytes::from_static(b"\0\xff")), r#""decode('AP8=', 'base64')""#);
        round(&ByteData::default(), r#""decode('', 'base64')""#);
    }

    #[test]
    fn other_texts_are_no_bytes() {
        for text in ["AP8=", "decode('AP8=', 'hex')", "decode('AP8', 'base64')", "decode('", ""] {
            assert!(serde_json::from_value::<ByteData>(text.into()).is_err(), "{text}");
        }
    }
}
