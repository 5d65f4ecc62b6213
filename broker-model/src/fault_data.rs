//! The data of faults as JSON, without the tags by which serde tells an enum's variants apart.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, IgnoredAny, IntoDeserializer, VariantAccess, Visitor,
        value::U32Deserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::de::StrRead;

use crate::Unreadable;

/// Writes the data of a struct. One without members is an empty object.
///
/// # Errors
/// What serde says.
pub fn write<T: Serialize>(fault: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(fault).map(object)
}

/// Reads the data of a struct.
///
/// # Errors
/// [`Unreadable`], with what serde says.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Unreadable> {
    or_missing(json, crate::value::read)
}

/// Writes the data of an enum's variant, without the tag that serde puts around it.
///
/// # Errors
/// What serde says.
pub fn write_variant<T: Serialize>(fault: &T) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(fault)?;
    Ok(object(untagged(&json).unwrap_or("null").to_owned()))
}

/// Reads the data of an enum's variant, the one at this place among all.
///
/// # Errors
/// [`Unreadable`], with what serde says.
pub fn read_variant<T: DeserializeOwned>(place: u32, json: &str) -> Result<T, Unreadable> {
    or_missing(json, |json| {
        T::deserialize(Variant { place, json }).map_err(|error| Unreadable::new(&error.to_string()))
    })
}

/// The data of what has none are an empty object, for that is what Serverpod's clients read.
fn object(json: String) -> String {
    if json == "null" { "{}".to_owned() } else { json }
}

/// An empty object may stand for data that are missing.
fn or_missing<T>(json: &str, read: impl Fn(&str) -> Result<T, Unreadable>) -> Result<T, Unreadable> {
    let result = read(json);
    if result.is_err() && json.trim() == "{}" { read("null").or(result) } else { result }
}

/// What stands behind the tag. `None` for a variant without data, of which there is only the tag.
fn untagged(json: &str) -> Option<&str> {
    let inside = json.strip_prefix('{')?.strip_suffix('}')?;
    let mut parts = serde_json::Deserializer::from_str(inside).into_iter::<IgnoredAny>();
    parts.next()?.ok()?;
    inside.get(parts.byte_offset()..)?.strip_prefix(':')
}

/// An enum as its implementation of serde expects it: a variant by its place, whatever serde calls it, and its data.
struct Variant<'de> {
    place: u32,
    json: &'de str,
}

impl<'de> Deserializer<'de> for Variant<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = serde_json::Error;
    type Variant = Data<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Data<'de>), Self::Error> {
        let place: U32Deserializer<Self::Error> = self.place.into_deserializer();
        Ok((seed.deserialize(place)?, Data(self.json)))
    }
}

/// The data of a variant.
struct Data<'de>(&'de str);

impl<'de> Data<'de> {
    /// Reads all of the data.
    fn read<T>(
        self,
        read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'de>>) -> Result<T, serde_json::Error>,
    ) -> Result<T, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(self.0);
        let value = read(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }
}

impl<'de> VariantAccess<'de> for Data<'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        self.read(|data| IgnoredAny::deserialize(data).map(drop))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Self::Error> {
        self.read(|data| seed.deserialize(data))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.read(|data| data.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.read(|data| data.deserialize_map(visitor))
    }
}
