//! Check: whether a value comes back from its encoding as what it was. A serializer that writes nothing.
//!
//! Where a value holds nothing that could be refused, the compiler makes nothing of it: that is why a local post,
//! which is never encoded, can afford it. So every method here is small and inlined.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// A payload that is nested as deep is refused: by far more would overflow the stack of a task, and end the process. It is
/// the limit of JSON's decoder.
pub(super) const MAX_DEPTH: usize = 128;

/// What a value is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    #[cfg(feature = "msgpack")]
    MsgPack,
}

/// Why a value is refused, and in which field.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Reason>);

#[derive(Debug)]
struct Reason {
    why: Why,
    field: Option<&'static str>,
}

#[derive(Debug)]
enum Why {
    NotFinite,
    TooDeep,
    Lost,
    Key,
    /// What the type itself has against it.
    Own(String),
}

/// See the module. Copied for each value within the value.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    format: Format,
    /// How many values are around this one.
    depth: usize,
    place: Place,
}

/// Where a value stands, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Plain,
    /// In a `Some`, which is not written.
    Some,
    /// Before the colon, where JSON has only strings.
    Key,
}

/// The parts of a value.
pub(crate) struct Parts(Check);

impl Check {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, depth: 0, place: Place::Plain }
    }

    #[inline]
    fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// For what stands in a value of several parts.
    #[inline]
    fn parts(self) -> Result<Parts, Refusal> {
        self.no_key()?;
        // Both decoders count down from the limit, and fail at zero.
        if self.depth + 1 >= MAX_DEPTH {
            return Err(Why::TooDeep.into());
        }
        Ok(Parts(Self { depth: self.depth + 1, place: Place::Plain, ..self }))
    }

    #[inline]
    fn no_key(self) -> Result<(), Refusal> {
        if self.place == Place::Key { Err(Why::Key.into()) } else { Ok(()) }
    }

    #[inline]
    fn float(self, is_finite: bool) -> Result<(), Refusal> {
        if self.is_json() && !is_finite { Err(Why::NotFinite.into()) } else { Ok(()) }
    }

    /// What is written as `None` is.
    #[inline]
    fn null(self) -> Result<(), Refusal> {
        self.no_key()?;
        if self.place == Place::Some { Err(Why::Lost.into()) } else { Ok(()) }
    }
}

impl From<Why> for Refusal {
    #[cold]
    fn from(why: Why) -> Self {
        Self(Box::new(Reason { why, field: None }))
    }
}

impl Refusal {
    /// The innermost field names it.
    #[cold]
    fn of_field(mut self, name: &'static str) -> Self {
        self.0.field.get_or_insert(name);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = self.0.field {
            write!(f, "in field `{field}`: ")?;
        }
        match &self.0.why {
            Why::NotFinite => f.write_str(
                "JSON has no NaN and no infinity; make it an Option, or choose the codec msgpack on every node",
            ),
            Why::TooDeep => write!(f, "it is nested {MAX_DEPTH} deep or deeper; post its parts"),
            Why::Lost => f.write_str(
                "Some(None) and Some(()) are written as None is, and would be read as that; make it an enum",
            ),
            Why::Key => f.write_str(
                "JSON has only strings as the keys of a map; make it a list of pairs, or choose the codec msgpack",
            ),
            Why::Own(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    #[cold]
    fn custom<T: fmt::Display>(why: T) -> Self {
        Why::Own(why.to_string()).into()
    }
}

/// What can be written anywhere.
macro_rules! fine {
    ($($method:ident: $type:ty),*) => {$(
        #[inline]
        fn $method(self, _: $type) -> Result<(), Refusal> {
            Ok(())
        }
    )*};
}

impl Serializer for Check {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    fine! {
        serialize_bool: bool, serialize_char: char, serialize_str: &str,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Refusal> {
        self.float(value.is_finite())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Refusal> {
        self.float(value.is_finite())
    }

    #[inline]
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Refusal> {
        // A list of numbers in JSON.
        if self.is_json() { self.parts().map(drop) } else { Ok(()) }
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Refusal> {
        self.null()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        let place = if self.place == Place::Key { Place::Key } else { Place::Some };
        value.serialize(Self { place, ..self })
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Refusal> {
        self.null()
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refusal> {
        // An empty array in MessagePack.
        if self.is_json() { self.null() } else { self.parts().map(drop) }
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Refusal> {
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        value.serialize(self.parts()?.0)
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Refusal> {
        self.parts()
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Parts, Refusal> {
        self.parts()
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts, Refusal> {
        self.parts()
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, Refusal> {
        // The variant's name is around the tuple.
        self.parts()?.0.parts()
    }

    #[inline]
    fn serialize_map(self, _: Option<usize>) -> Result<Parts, Refusal> {
        self.parts()
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts, Refusal> {
        self.parts()
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, Refusal> {
        self.parts()?.0.parts()
    }

    /// What is written by its `Display` is text, which may fail.
    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        struct Nowhere;
        impl fmt::Write for Nowhere {
            fn write_str(&mut self, _: &str) -> fmt::Result {
                Ok(())
            }
        }
        fmt::write(&mut Nowhere, format_args!("{value}")).map_err(ser::Error::custom)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.is_json()
    }
}

impl Parts {
    #[inline]
    fn part<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Refusal> {
        value.serialize(self.0)
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(&self, name: &'static str, value: &T) -> Result<(), Refusal> {
        self.part(value).map_err(|refusal| refusal.of_field(name))
    }
}

/// The traits of values whose parts have no name.
macro_rules! parts {
    ($($trait:ident: $method:ident),*) => {$(
        impl ser::$trait for Parts {
            type Ok = ();
            type Error = Refusal;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
                self.part(value)
            }

            #[inline]
            fn end(self) -> Result<(), Refusal> {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq: serialize_element, SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field
}

/// The traits of values whose parts have names.
macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Parts {
            type Ok = ();
            type Error = Refusal;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Refusal> {
                self.field(name, value)
            }

            #[inline]
            fn end(self) -> Result<(), Refusal> {
                Ok(())
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant }

impl ser::SerializeMap for Parts {
    type Ok = ();
    type Error = Refusal;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refusal> {
        let place = if self.0.is_json() { Place::Key } else { Place::Plain };
        key.serialize(Check { place, ..self.0 })
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.part(value)
    }

    #[inline]
    fn end(self) -> Result<(), Refusal> {
        Ok(())
    }
}
