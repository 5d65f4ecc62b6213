//! Value: any item of a stream, by its class and its JSON.

use std::borrow::Cow;

use broker_model::{Unreadable, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A value of whatever class.
#[derive(Clone, Debug)]
pub(super) struct AnyValue {
    pub(super) class_name: Box<str>,
    pub(super) json: Box<str>,
}

impl Value for AnyValue {
    fn class_name(&self) -> Cow<'static, str> {
        self.class_name.to_string().into()
    }

    fn encode(&self, json: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        json.extend_from_slice(self.json.as_bytes());
        Ok(())
    }

    fn decode(class_name: &str, json: &str) -> Result<Self, Unreadable> {
        Ok(Self { class_name: class_name.into(), json: json.into() })
    }
}

/// An object that says its class, as it travels.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(rename = "className")]
    class_name: Box<str>,
    data: Box<RawValue>,
}

impl AnyValue {
    /// Reads a value that was typed. `class` is what its objects and lists are.
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub(super) fn typed(text: &str, class: Option<&str>) -> Result<Self, String> {
        let raw =
            serde_json::from_str::<&RawValue>(text).map_err(|error| format!("not JSON: {error}"))?.get();
        let class_name = match raw.as_bytes() {
            [b'"', ..] => "String",
            [b't' | b'f', ..] => "bool",
            [b'n', ..] => "null",
            [b'{' | b'[', ..] => match (serde_json::from_str::<Named>(raw), class) {
                (Ok(Named { class_name, data }), _) => {
                    return Ok(Self { class_name, json: data.get().into() });
                }
                (Err(_), Some(class)) => class,
                (Err(_), None) => {
                    return Err(r#"an object or a list needs a class: give --class, or write {"className":…,"data":…}"#
                        .to_owned());
                }
            },
            number if number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => "double",
            _ => "int",
        };
        Ok(Self { class_name: class_name.into(), json: raw.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_its_class_unless_it_is_an_object_or_a_list() {
        for (text, class, json) in [
            ("7", "int", "7"),
            (" -7.0 ", "double", "-7.0"),
            ("1e3", "double", "1e3"),
            ("\"a\"", "String", "\"a\""),
            ("true", "bool", "true"),
            ("null", "null", "null"),
            (r#"{"className":"Other","data":{"a":1}}"#, "Other", r#"{"a":1}"#),
            (r#"{"a":1}"#, "Say", r#"{"a":1}"#),
            ("[1]", "Say", "[1]"),
        ] {
            let value = AnyValue::typed(text, Some("Say")).expect(text);
            assert_eq!((&*value.class_name, &*value.json), (class, json), "{text}");
        }
        for (text, part) in [("{}", "--class"), ("[", "not JSON"), ("1 2", "not JSON"), ("", "not JSON")] {
            let error = AnyValue::typed(text, None).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
