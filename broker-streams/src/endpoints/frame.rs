//! Frame: the texts of a connection, read and written.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The answer to a ping.
pub(super) const PONG: &str = r#"{"command":"pong"}"#;

/// What a client has sent.
// Not `Debug`: it may have a key.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) enum Frame<'a> {
    Ping,
    /// New credentials; `None` to sign out.
    Authenticate(Option<String>),
    /// A command that means nothing to a server.
    Other,
    Message {
        endpoint: Cow<'a, str>,
        class_name: Cow<'a, str>,
        json: &'a str,
    },
}

/// A text that is no frame.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) struct BadFrame;

/// Members of an object, and those of objects within it. An array is none, though serde would read a struct from one.
#[derive(Default)]
struct Members<'a> {
    command: Option<&'a RawValue>,
    args: Option<&'a RawValue>,
    endpoint: Option<&'a RawValue>,
    object: Option<&'a RawValue>,
    class_name: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let member = match &*name {
                        "command" => &mut members.command,
                        "args" => &mut members.args,
                        "endpoint" => &mut members.endpoint,
                        "object" => &mut members.object,
                        "className" => &mut members.class_name,
                        "data" => &mut members.data,
                        "key" => &mut members.key,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *member = Some(map.next_value()?);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

fn object(text: &str) -> Result<Members<'_>, BadFrame> {
    serde_json::from_str(text).map_err(|_| BadFrame)
}

fn string(member: Option<&RawValue>) -> Result<Cow<'_, str>, BadFrame> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let text = serde_json::from_str::<Text<'_>>(member.ok_or(BadFrame)?.get());
    text.map(|Text(text)| text).map_err(|_| BadFrame)
}

impl<'a> Frame<'a> {
    /// Reads a frame. A member that is not known is ignored.
    ///
    /// # Errors
    /// [`BadFrame`], for a text that is no JSON, or lacks what such a frame has.
    pub(super) fn read(text: &'a str) -> Result<Self, BadFrame> {
        let frame = object(text)?;
        if frame.command.is_some() {
            return command(&string(frame.command)?, frame.args);
        }
        let endpoint = string(frame.endpoint)?;
        let object = object(frame.object.ok_or(BadFrame)?.get())?;
        let (class_name, data) = (string(object.class_name)?, object.data.ok_or(BadFrame)?);
        Ok(Frame::Message { endpoint, class_name, json: data.get() })
    }
}

fn command(command: &str, args: Option<&RawValue>) -> Result<Frame<'static>, BadFrame> {
    let args = object(args.ok_or(BadFrame)?.get())?;
    match command {
        "ping" => Ok(Frame::Ping),
        "auth" => {
            let key = args.key.filter(|key| key.get() != "null");
            let key = key.map(|key| string(Some(key))).transpose()?;
            Ok(Frame::Authenticate(key.map(Cow::into_owned)))
        }
        _ => Ok(Frame::Other),
    }
}

/// How every message of an endpoint begins.
pub(super) fn before(endpoint: &str) -> Box<str> {
    format!(r#"{{"endpoint":{},"object":{{"className":"#, serde_json::Value::from(endpoint)).into()
}

/// The text of a message. `json` appends the value.
///
/// # Errors
/// That of `json`.
pub(super) fn write<E>(
    before: &str,
    class_name: &str,
    json: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut text = Vec::with_capacity(before.len() + class_name.len() + 128);
    text.extend_from_slice(before.as_bytes());
    text.extend_from_slice(serde_json::Value::from(class_name).to_string().as_bytes());
    text.extend_from_slice(br#","data":"#);
    json(&mut text)?;
    text.extend_from_slice(b"}}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_read() {
        assert_eq!(Frame::read(r#"{"command":"ping","args":{}}"#), Ok(Frame::Ping));
        assert_eq!(Frame::read(r#"{"args":{"x":1},"command":"later"}"#), Ok(Frame::Other));
        let auth = |key: Option<&str>| Ok(Frame::Authenticate(key.map(str::to_owned)));
        assert_eq!(Frame::read(r#"{"command":"auth","args":{"key":"1:a\"b"}}"#), auth(Some("1:a\"b")));
        assert_eq!(Frame::read(r#"{"command":"auth","args":{"key":null}}"#), auth(None));
        assert_eq!(Frame::read(r#"{"command":"auth","args":{}}"#), auth(None));
        let message = Frame::Message {
            endpoint: "module.chat".into(),
            class_name: "Said".into(),
            json: r#"{"text": "}}"}"#,
        };
        let text =
            r#"{"endpoint":"module.chat","more":[],"object":{"className":"Said","data":{"text": "}}"}}}"#;
        assert_eq!(Frame::read(text), Ok(message));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "7",
            "{}",
            r#"["ping",{}]"#,
            r#"{"command":"ping"}"#,
            r#"{"command":"ping","args":null}"#,
            r#"{"command":7,"args":{}}"#,
            r#"{"command":"auth","args":{"key":7}}"#,
            r#"{"command":"auth","args":["a"]}"#,
            r#"{"endpoint":"chat"}"#,
            r#"{"endpoint":"chat","object":["Said",{}]}"#,
            r#"{"endpoint":"chat","object":{"className":"Said"}}"#,
            r#"{"endpoint":"chat","object":{"className":1,"data":1}}"#,
            r#"{"endpoint":7,"object":{"className":"int","data":1}}"#,
            r#"{"endpoint":"chat","object":{"className":"int","data":1}} more"#,
            &deep,
        ] {
            assert_eq!(Frame::read(text), Err(BadFrame), "{text:.80}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", near in r#"\{"(command|endpoint|args|object)":("[a-z]*"|\{"(key|className|data)":.{0,9}\}|.{0,9}),?.*\}"#) {
            let _ = (Frame::read(&text), Frame::read(&near));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (endpoint, class_name) in [("chat", "Said"), ("a\"b", "List<\"\\>")] {
            let text = write(&before(endpoint), class_name, |json| {
                json.extend_from_slice(b"[1]");
                Ok::<_, ()>(())
            });
            let text = String::from_utf8(text.unwrap()).unwrap();
            let message =
                Frame::Message { endpoint: endpoint.into(), class_name: class_name.into(), json: "[1]" };
            assert_eq!(Frame::read(&text), Ok(message));
        }
    }
}
