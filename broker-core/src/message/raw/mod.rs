//! Raw: what programs that are no nodes put on a channel, and how it is read and written.

pub(crate) mod envelope;

use std::collections::BTreeMap;

use broker_model::Model;
use bytes::Bytes;
use serde::Deserialize;

use super::Codec;
use crate::{Error, ErrorKind, Result, wire::limits::MAX_FRAME};

/// How the payloads of plain programs are read, on the channels for which [`Options::accept_raw`](crate::Options::accept_raw)
/// declares it: programs that are no nodes, and publish without a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Raw {
    /// Bytes that nobody interprets: for [`subscribe`](crate::Broker::subscribe), which yields them as they are.
    Bytes,
    /// JSON, of whatever type the reader asks for. What is not, or does not fit, is
    /// [`Malformed`](crate::StreamError::Malformed) for who reads values; who reads messages gets the bytes.
    Json,
    /// The envelope that Serverpod's servers publish, `{"className":…,"data":…}`: the class is the name of the type.
    Serverpod,
}

/// A payload that was read: the name of its type, its codec, and the value's bytes.
pub(crate) type ReadRaw = (Option<Box<str>>, Codec, Bytes);

impl Raw {
    /// A value in this form, for [`Broker::post_raw`](crate::Broker::post_raw).
    ///
    /// ```
    /// # fn main() -> Result<(), broker::Error> {
    /// use broker::{Model, Raw};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct Tick { n: u64 }
    ///
    /// assert_eq!(Raw::Json.encode(&Tick { n: 7 })?, r#"{"n":7}"#);
    /// let envelope = r#"{"className":"Tick","data":{"__className__":"Tick","n":7}}"#;
    /// assert_eq!(Raw::Serverpod.encode(&Tick { n: 7 })?, envelope);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] when the value cannot be encoded as JSON, and for [`Raw::Bytes`], which has no encoding.
    pub fn encode<T: Model>(self, value: &T) -> Result<Bytes> {
        match self {
            Self::Bytes => Codec::Raw.encode(value),
            Self::Json => Codec::Json.encode(value),
            Self::Serverpod => Ok(envelope::write(T::NAME, &Codec::Json.encode(value)?)),
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "bytes" => Some(Self::Bytes),
            "json" => Some(Self::Json),
            "serverpod" => Some(Self::Serverpod),
            _ => None,
        }
    }

    /// Reads what may be anybody's. JSON is not checked here: who asks for a value decodes it, once for all, and that tells.
    pub(crate) fn read(self, payload: &Bytes) -> Result<ReadRaw, &'static str> {
        if payload.len() > MAX_FRAME {
            return Err("longer than any frame");
        }
        match self {
            Self::Bytes => Ok((None, Codec::Raw, payload.clone())),
            Self::Json => Ok((None, Codec::Json, payload.clone())),
            Self::Serverpod => {
                let (class, data) = envelope::read(payload).ok_or(envelope::NONE)?;
                Ok((Some(class.into()), Codec::Json, payload.slice_ref(data.as_bytes())))
            }
        }
    }
}

/// Which channels are read so, by how their names begin. The longest beginning counts.
pub(crate) fn form_of(forms: &BTreeMap<String, Raw>, channel: &str) -> Option<Raw> {
    let fitting = forms.iter().filter(|(start, _)| channel.starts_with(start.as_str()));
    fitting.max_by_key(|(start, _)| start.len()).map(|(_, form)| *form)
}

/// As written in a URL: `json:orders.,bytes:sensors.`.
pub(crate) fn forms(text: &str) -> Result<BTreeMap<String, Raw>> {
    let entries = text.split(',').filter(|entry| !entry.is_empty()).map(|entry| {
        let form =
            entry.split_once(':').and_then(|(form, start)| Some((start.to_owned(), Raw::from_name(form)?)));
        form.ok_or_else(|| {
            let shown = crate::channel::shown(entry);
            let message = format!(
                "option raw = {shown}: must be bytes, json or serverpod, a colon, and how the names begin"
            );
            Error::new(ErrorKind::InvalidInput, message)
        })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts() {
        let forms = forms("json:orders.,bytes:orders.raw.,serverpod:").unwrap();
        for (channel, form) in [
            ("orders.1", Raw::Json),
            ("orders.raw.1", Raw::Bytes),
            ("orders", Raw::Serverpod),
            ("news", Raw::Serverpod),
        ] {
            assert_eq!(form_of(&forms, channel), Some(form), "{channel}");
        }
        assert_eq!(form_of(&super::forms("json:orders.").unwrap(), "news"), None);
        for wrong in ["json", "xml:orders.", ":", "orders.:json"] {
            let error = super::forms(wrong).unwrap_err();
            assert!(error.message().contains("option raw"), "{error}");
        }
    }

    #[test]
    fn what_is_longer_than_any_frame_is_refused() {
        let long = Bytes::from(vec![b' '; MAX_FRAME + 1]);
        for form in [Raw::Bytes, Raw::Json, Raw::Serverpod] {
            assert_eq!(form.read(&long), Err("longer than any frame"));
        }
        assert!(Raw::Json.read(&long.slice(1..)).is_ok());
    }
}
