//! Envelope: what Serverpod's servers publish, `{"className":…,"data":…}`. The class of a module begins with its name.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a payload is refused that is none.
pub(crate) const NONE: &str = "not an envelope of Serverpod: a JSON object with `className` and `data`";

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "className", borrow)]
    class: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The class and the JSON of the value.
pub(crate) fn read(payload: &[u8]) -> Option<(Cow<'_, str>, &str)> {
    let Envelope { class, data } = serde_json::from_slice(payload).ok()?;
    // The bounds of a type's name in a frame.
    (1..=255).contains(&class.len()).then_some((class, data.get()))
}

/// The envelope of a value that is JSON already. Since Serverpod 3 an object names its class itself, first; older servers
/// pass over that.
pub(crate) fn write(class: &str, data: &[u8]) -> Bytes {
    const OWN: &[u8] = b"\"__className__\":";
    let class = serde_json::Value::from(class).to_string();
    let mut envelope = BytesMut::with_capacity(2 * class.len() + data.len() + 48);
    envelope.put_slice(b"{\"className\":");
    envelope.put_slice(class.as_bytes());
    envelope.put_slice(b",\"data\":");
    match data {
        [b'{', rest @ ..] if !rest.starts_with(OWN) => {
            envelope.put_slice(b"{");
            envelope.put_slice(OWN);
            envelope.put_slice(class.as_bytes());
            envelope.put_slice(if rest.trim_ascii_start() == b"}" { b"" } else { b"," });
            envelope.put_slice(rest);
        }
        data => envelope.put_slice(data),
    }
    envelope.put_slice(b"}");
    envelope.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_serverpods() {
        let update = r#"{"className":"ImageUpdate","data":{"__className__":"ImageUpdate","pixelIndex":17,"colorIndex":3}}"#;
        let (class, data) = read(update.as_bytes()).unwrap();
        assert_eq!(
            (&*class, data),
            ("ImageUpdate", r#"{"__className__":"ImageUpdate","pixelIndex":17,"colorIndex":3}"#)
        );
        assert_eq!(write(&class, data.as_bytes()), update);
        assert_eq!(write("ImageUpdate", br#"{"pixelIndex":17,"colorIndex":3}"#), update);
        assert!(read(&write("chat.Left", b"{ }")).is_some());
        assert_eq!(write("int", b"7"), r#"{"className":"int","data":7}"#);
        assert_eq!(
            write("chat.Left", b"{}"),
            r#"{"className":"chat.Left","data":{"__className__":"chat.Left"}}"#
        );
    }

    #[test]
    fn what_is_no_envelope_is_not_read() {
        for text in [
            "",
            "hello",
            "{}",
            "[]",
            r#"{"className":"A"}"#,
            r#"{"data":{}}"#,
            r#"{"className":"","data":{}}"#,
            r#"{"className":7,"data":{}}"#,
            r#"{"className":"A","data":{}} x"#,
            r#"{"className":"A","data":{"#,
            r#"{"class":"A","data":{}}"#,
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read(b"{\"className\":\"A\",\"data\":\"\xFF\"}"), None);
        // In another order, with more around it, and deeper than a value may be: that is for the decoder to say.
        let deep = format!(
            r#"{{ "data": {}1{}, "more": 1, "className": "A" }}"#,
            "[".repeat(9000),
            "]".repeat(9000)
        );
        assert_eq!(read(deep.as_bytes()).unwrap().0, "A");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>, text in ".{0,60}") {
            let _ = read(&bytes);
            let _ = read(format!(r#"{{"className":{text},"data":{text}}}"#).as_bytes());
            let written = write(&text, b"{}");
            prop_assert_eq!(read(&written).map(|(class, _)| class.into_owned()), Some(text).filter(|text| (1..=255).contains(&text.len())));
        }
    }
}
