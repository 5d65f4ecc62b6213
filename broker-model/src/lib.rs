//! What travels between servers and clients: the names of types, and how values and faults are written.
//!
//! - A [`Model`] is a type of yours with a name: what is posted to a channel, or sent in a stream to a client.
//! - A [`Wire`] type has one name: every model, and the types of the language ([`i64`] is `int`, a [`Vec`] is a `List`).
//! - A [`Value`] is what one item of a stream may be: a [`Wire`] type, or an enum of several (`#[derive(Choice)]`).
//! - A [`Fault`] is an error that travels to the client as what it is; every other error is a [`Failure`] without a text.
//!
//! All are usually derived, by macros of `broker-macros`, which the crates export that export these traits.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod failure;
mod fault;
mod fault_data;
mod model;
mod standard;
#[cfg(feature = "typescript")]
mod typescript;
mod value;
mod wire;

pub use crate::{
    failure::Failure,
    fault::Fault,
    model::Model,
    standard::{BigInt, ByteData, DateTime, Milliseconds, Uri, UuidValue},
    value::{Unreadable, Value},
    wire::Wire,
};

/// What the code of derived implementations calls. Not for use by hand; it changes without notice.
#[doc(hidden)]
pub mod derived {
    pub use crate::{
        fault_data::{read, read_variant, write, write_variant},
        value::{read as read_value, write as write_value},
    };

    /// What serde says of data that JSON cannot write.
    pub use serde_json::Error as JsonError;
}
