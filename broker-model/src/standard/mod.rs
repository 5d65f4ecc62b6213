//! Types of the language that JSON has no word for.

mod big_int;
mod byte_data;
mod text;
mod time;
mod uri;
mod uuid;

pub use self::{
    big_int::BigInt,
    byte_data::ByteData,
    time::{DateTime, Milliseconds},
    uri::Uri,
    uuid::UuidValue,
};

/// A value is written as a text of JSON, and read again.
#[cfg(test)]
fn round<T: crate::Wire + PartialEq + std::fmt::Debug>(value: &T, text: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
}
