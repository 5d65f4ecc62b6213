//! The types that cases post.

use broker_macros::Model;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Model)]
pub(super) struct Greeting {
    pub(super) text: String,
    pub(super) number: u64,
}

impl Greeting {
    pub(super) fn new(number: u64) -> Self {
        Self { text: format!("greeting {number}"), number }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Model)]
pub(super) struct Farewell {
    pub(super) reason: String,
}

/// Cannot be encoded, so it gets nowhere that takes an encoding.
#[derive(Debug, Deserialize, Model)]
pub(super) struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("this type is never encoded"))
    }
}

/// Has something that is never encoded.
#[derive(Debug, Serialize, Deserialize, Model)]
pub(super) struct Tagged {
    pub(super) number: u64,
    #[serde(skip)]
    pub(super) tag: u64,
}
