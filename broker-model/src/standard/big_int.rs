//! BigInt: a whole number of any length.

use std::str::FromStr;

use super::text::checked_text;
use crate::Unreadable;

/// A whole number of any length, as Serverpod's `BigInt`: a text of decimal digits. For arithmetic, read the text with
/// a library for such numbers.
///
/// ```
/// use broker_model::BigInt;
///
/// let number: BigInt = "-00123456789012345678901234567890".parse().unwrap();
/// assert_eq!(number.as_str(), "-123456789012345678901234567890");
/// assert_eq!(BigInt::from(7), "7".parse().unwrap());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BigInt(Box<str>);

impl BigInt {
    /// Its digits, without any that mean nothing, behind a minus if it is less than nothing.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BigInt {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Unreadable::new("a whole number is digits, behind a minus or not"));
        }
        Ok(Self(match digits.trim_start_matches('0') {
            "" => "0".into(),
            kept if digits.len() == text.len() => kept.into(),
            kept => format!("-{kept}").into(),
        }))
    }
}

macro_rules! from {
    ($($type:ty),+) => {$(
        impl From<$type> for BigInt {
            fn from(number: $type) -> Self {
                Self(number.to_string().into())
            }
        }
    )+};
}

from!(i32, i64, u64, i128, u128);

checked_text!(BigInt);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Wire, standard::round};

    #[test]
    fn cl_45_a_number_of_any_length_comes_back() {
        let digits = "9".repeat(200);
        round(&digits.parse::<BigInt>().unwrap(), &format!("\"{digits}\""));
        round(&BigInt::from(i128::MIN), r#""-170141183460469231731687303715884105728""#);
        assert_eq!(BigInt::type_name(), "BigInt");
    }

    #[test]
    fn equal_numbers_are_equal() {
        for (one, other) in [("007", "7"), ("-0", "0"), ("000", "0"), ("-010", "-10")] {
            assert_eq!(one.parse::<BigInt>().unwrap().as_str(), other, "{one}");
        }
    }

    #[test]
    fn other_texts_are_no_number() {
        for text in ["", "-", "+7", "--7", "7.0", "1e3", "0x10", " 7", "٧"] {
            assert!(text.parse::<BigInt>().is_err(), "{text}");
        }
    }
}
