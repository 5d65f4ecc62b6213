//! TypeScript: what the types of the standard library of Serverpod are there, as JSON has them.

use ts_rs::{Config, TS};

use crate::{BigInt, ByteData, DateTime, Milliseconds, Uri, UuidValue};

macro_rules! written_as {
    ($($text:literal: $($type:ty),+;)+) => {$($(
        impl TS for $type {
            type WithoutGenerics = Self;
            type OptionInnerType = Self;

            fn name(_: &Config) -> String {
                $text.to_owned()
            }

            fn inline(config: &Config) -> String {
                Self::name(config)
            }
        }
    )+)+};
}

written_as! {
    "string": BigInt, ByteData, DateTime, Uri, UuidValue;
    "number": Milliseconds;
}
