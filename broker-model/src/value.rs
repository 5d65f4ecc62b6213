//! Value: what one item of a stream to or from a client may be.

use std::{borrow::Cow, error::Error, fmt};

use serde::{Serialize, de::DeserializeOwned};

use crate::Wire;

/// An item of a stream to or from a client: a [`Wire`] type, or an enum whose variants each hold one.
///
/// ```
/// use broker_model::Value;
///
/// let mut json = Vec::new();
/// vec![1_i64, 2].encode(&mut json).unwrap();
/// assert_eq!(json, b"[1,2]");
/// assert_eq!(<Vec<i64>>::decode("List<int>", "[1,2]").unwrap(), [1, 2]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a stream to a client",
    note = "derive `Model` for a type of yours, or `Choice` for an enum of several"
)]
pub trait Value: Sized + Send + 'static {
    /// The name under which this value travels.
    fn class_name(&self) -> Cow<'static, str>;

    /// Appends the value as JSON.
    ///
    /// # Errors
    /// What serde says of a value that JSON cannot write. What was appended by then stays.
    fn encode(&self, json: &mut Vec<u8>) -> Result<(), serde_json::Error>;

    /// Reads a value that travelled under a name.
    ///
    /// # Errors
    /// [`Unreadable`] for a name that is not one of this type, or a text that does not fit.
    fn decode(class_name: &str, json: &str) -> Result<Self, Unreadable>;
}

impl<T: Wire> Value for T {
    fn class_name(&self) -> Cow<'static, str> {
        Wire::class_name(self)
    }

    fn encode(&self, json: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        write(self, json)
    }

    fn decode(class_name: &str, json: &str) -> Result<Self, Unreadable> {
        if T::accepts(class_name) { read(json) } else { Err(Unreadable::class(class_name)) }
    }
}

/// Appends a value as JSON.
///
/// # Errors
/// What serde says.
pub fn write<T: Serialize>(value: &T, json: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(json, value)
}

/// Reads a value from JSON.
///
/// # Errors
/// [`Unreadable`], with what serde says.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Unreadable> {
    serde_json::from_str(json).map_err(|error| Unreadable::new(&error.to_string()))
}

/// Why a value could not be read: it is of another type, or does not fit this one. The text is short and on one line,
/// but may show a part of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(Box<str>);

impl Unreadable {
    /// The most characters of a name that are shown.
    const SHOWN: usize = 80;
    /// The most characters of a reason.
    const LONGEST: usize = 200;

    /// A reason. What comes from outside may be in it.
    pub(crate) fn new(reason: &str) -> Self {
        let shown = reason.chars().take(Self::LONGEST).map(|c| if c.is_control() { ' ' } else { c });
        Self(shown.collect::<String>().into())
    }

    /// A value of a name that is not expected.
    #[must_use]
    pub fn class(name: &str) -> Self {
        let short: String = name.chars().take(Self::SHOWN).collect();
        Self(format!("a value of class {short:?} is not expected here").into())
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unreadable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_name_is_not_read() {
        assert_eq!(i64::decode("int", "7"), Ok(7));
        let error = i64::decode("String", "7").unwrap_err();
        assert_eq!(error.to_string(), "a value of class \"String\" is not expected here");
        assert!(i64::decode("int", "7.5").is_err());
        assert!(i64::decode("int", "7 8").is_err());
    }

    #[test]
    fn an_error_is_short_and_on_one_line() {
        let long = "x\n".repeat(10_000);
        let errors = [Unreadable::class(&long), Unreadable::new(&long)];
        let json = serde_json::to_string(&long).unwrap();
        for error in errors.into_iter().chain(i64::decode("int", &json).err()) {
            let text = error.to_string();
            assert!(text.len() < 300 && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn what_is_nested_deep_is_an_error() {
        let json = "[".repeat(100_000);
        assert!(read::<serde_json::Value>(&json).is_err());
    }
}
