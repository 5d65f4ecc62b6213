//! UuidValue: the text of a UUID.

use std::str::FromStr;

use super::text::checked_text;
use crate::Unreadable;

/// A UUID, as Serverpod's `UuidValue`: its text, in lower case.
///
/// ```
/// use broker_model::UuidValue;
///
/// let id: UuidValue = "6B1C0F0E-8F0A-4A8E-9A50-2F0C9F5F0A11".parse().unwrap();
/// assert_eq!(id.as_str(), "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11");
/// assert!("6b1c0f0e".parse::<UuidValue>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UuidValue(Box<str>);

impl UuidValue {
    /// Its text: 32 digits in five groups.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UuidValue {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let fits = |(place, byte): (usize, u8)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        if text.len() == 36 && text.bytes().enumerate().all(fits) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(Unreadable::new("a UUID is as 6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11"))
        }
    }
}

checked_text!(UuidValue);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Wire, standard::round};

    #[test]
    fn cl_43_a_uuid_comes_back() {
        let id: UuidValue = "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11".parse().unwrap();
        round(&id, r#""6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11""#);
        assert_eq!(UuidValue::type_name(), "UuidValue");
    }

    #[test]
    fn other_texts_are_no_uuid() {
        for text in [
            "",
            "6b1c0f0e8f0a4a8e9a502f0c9f5f0a11",
            "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a1g",
            "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a1ü",
            "{6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a1",
        ] {
            assert!(text.parse::<UuidValue>().is_err(), "{text}");
        }
    }
}
