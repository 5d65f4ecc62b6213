//! Wire: a type whose values all travel under one name, and the names that Serverpod's clients know.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, Hash},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::Model;

/// A type that has one name on the wire to a client, and that serde writes as JSON.
///
/// | type | name |
/// |---|---|
/// | a [`Model`] | [`Model::NAME`] |
/// | `i8` to `i64`, `u8` to `u32` | `int` |
/// | `f32`, `f64` | `double`, and reads an `int`, too; JSON has no NaN and no infinity, and `null` is written for them |
/// | `bool`, `String` | `bool`, `String` |
/// | `Vec<T>` | `List<T>` |
/// | `BTreeSet<T>`, `HashSet<T>` | `Set<T>` |
/// | `BTreeMap<String, T>`, `HashMap<String, T>` | `Map<String,T>` |
/// | `Option<T>` | `null` for `None`, else that of `T`; `T?` within another type |
/// | [`DateTime`](crate::DateTime), [`Milliseconds`](crate::Milliseconds) | `DateTime`, `Duration` |
/// | [`ByteData`](crate::ByteData), [`UuidValue`](crate::UuidValue), [`Uri`](crate::Uri), [`BigInt`](crate::BigInt) | their own |
///
/// The names are those of Serverpod's generated code, so that its clients read the values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no name on the wire to a client",
    note = "derive `Model` for a type of yours"
)]
pub trait Wire: Serialize + DeserializeOwned + Send + 'static {
    /// The name of the type.
    fn type_name() -> Cow<'static, str>;

    /// The name under which this value travels.
    fn class_name(&self) -> Cow<'static, str> {
        Self::type_name()
    }

    /// Whether a value of that name is one of this type. A `?` at the end does not count.
    fn accepts(class_name: &str) -> bool {
        plain(class_name) == plain(&Self::type_name())
    }
}

/// A name without the mark that a value may be missing.
fn plain(name: &str) -> &str {
    name.strip_suffix('?').unwrap_or(name)
}

impl<T: Model> Wire for T {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed(T::NAME)
    }
}

macro_rules! named {
    ($($name:literal: $($type:ty),+;)+) => {$($(
        impl Wire for $type {
            fn type_name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    )+)+};
}

named! {
    "int": i8, i16, i32, i64, u8, u16, u32;
    "bool": bool;
    "String": String;
}

macro_rules! fractions {
    ($($type:ty),+) => {$(
        impl Wire for $type {
            fn type_name() -> Cow<'static, str> {
                Cow::Borrowed("double")
            }

            /// A whole number is one, too: clients whose language does not tell the two apart send it as an `int`.
            fn accepts(class_name: &str) -> bool {
                matches!(plain(class_name), "double" | "int")
            }
        }
    )+};
}

fractions!(f32, f64);

impl<T: Wire> Wire for Option<T> {
    fn type_name() -> Cow<'static, str> {
        let inner = T::type_name();
        if inner.ends_with('?') { inner } else { Cow::Owned(format!("{inner}?")) }
    }

    fn class_name(&self) -> Cow<'static, str> {
        match self {
            None => Cow::Borrowed("null"),
            // A collection keeps the mark: so Serverpod's generated code names it.
            Some(value) if T::type_name().ends_with('>') => Cow::Owned(format!("{}?", value.class_name())),
            Some(value) => value.class_name(),
        }
    }

    fn accepts(class_name: &str) -> bool {
        class_name == "null" || T::accepts(class_name)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("List<{}>", T::type_name()))
    }
}

impl<T: Wire + Ord> Wire for BTreeSet<T> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("Set<{}>", T::type_name()))
    }
}

impl<T: Wire + Eq + Hash, S: BuildHasher + Default + Send + 'static> Wire for HashSet<T, S> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("Set<{}>", T::type_name()))
    }
}

impl<T: Wire> Wire for BTreeMap<String, T> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("Map<String,{}>", T::type_name()))
    }
}

impl<T: Wire, S: BuildHasher + Default + Send + 'static> Wire for HashMap<String, T, S> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("Map<String,{}>", T::type_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_generated_code() {
        assert_eq!(<Vec<i64>>::type_name(), "List<int>");
        assert_eq!(<Vec<Option<i64>>>::type_name(), "List<int?>");
        assert_eq!(<BTreeMap<String, Vec<f64>>>::type_name(), "Map<String,List<double>>");
        assert_eq!(<BTreeSet<String>>::type_name(), "Set<String>");
    }

    #[test]
    fn what_may_be_missing_travels_as_null_or_as_what_it_is() {
        assert_eq!(None::<i64>.class_name(), "null");
        assert_eq!(Some(7_i64).class_name(), "int");
        assert_eq!(Some(vec![7_i64]).class_name(), "List<int>?");
        assert!(<Option<Vec<i64>>>::accepts("List<int>"));
        assert!(<Option<Vec<i64>>>::accepts("List<int>?"));
        assert!(<Option<Vec<i64>>>::accepts("null"));
        assert!(!<Vec<i64>>::accepts("null"));
        assert!(!i64::accepts("double"));
        assert!(f64::accepts("int") && Option::<f32>::accepts("int") && !f64::accepts("String"));
    }
}
