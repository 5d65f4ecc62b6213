//! The codecs: what encodes decodes to what it was, and what does not is refused.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Serialize;

use super::*;

/// A bit of everything that serde knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    number: u64,
    signed: i64,
    fraction: f64,
    text: String,
    bytes: Vec<u8>,
    map: BTreeMap<String, Option<i32>>,
    choices: Vec<Choice>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    New(char),
    Tuple(bool, i8),
    Struct { x: Option<String> },
}

impl Model for Everything {
    const NAME: &'static str = "Everything";
}

/// Whatever serde can be given, also what an encoding has no room for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Any {
    Unit,
    Null(()),
    Number(i64),
    Wide(i128, u128),
    Fraction(f64),
    Short(f32),
    Text(String),
    List(Vec<Any>),
    Named(BTreeMap<String, Any>),
    Keyed(BTreeMap<Key, bool>),
    Pair(Box<Any>, char),
    Struct { first: Option<Box<Any>>, second: Wrapped },
    Maybe(Option<Box<Any>>),
    Twice(Option<Option<bool>>),
    MaybeNull(Option<()>),
    MaybeNothing(Option<Nothing>),
    MaybeWrapped(Option<Wrapped>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Wrapped(Option<u8>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Nothing;

/// The key of a map, each kind for itself: JSON cannot tell them apart otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Plain,
    With(u8),
}

impl Model for Any {
    const NAME: &'static str = "Any";
}

/// One of each kind of key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Keys {
    numbers: BTreeMap<i128, ()>,
    short: BTreeMap<u8, ()>,
    flags: BTreeMap<bool, ()>,
    signs: BTreeMap<char, ()>,
    wrapped: BTreeMap<Wrapped, ()>,
    maybe: BTreeMap<Option<u8>, ()>,
    twice: BTreeMap<Option<Option<u8>>, ()>,
    nothing: BTreeMap<Nothing, ()>,
    pairs: BTreeMap<(u8, u8), ()>,
    variants: BTreeMap<Key, ()>,
}

impl Model for Keys {
    const NAME: &'static str = "Keys";
}

/// As deep as a payload makes it.
#[derive(Debug, Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
}

impl Model for Tree {
    const NAME: &'static str = "Tree";
}

fn codecs() -> impl Iterator<Item = Codec> {
    [Codec::Json, Codec::MsgPack].into_iter().filter(|codec| codec.is_available())
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::Unit),
        any::<char>().prop_map(Choice::New),
        any::<(bool, i8)>().prop_map(|(yes, number)| Choice::Tuple(yes, number)),
        any::<Option<String>>().prop_map(|x| Choice::Struct { x }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    let finite = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    let map = prop::collection::btree_map(any::<String>(), any::<Option<i32>>(), 0..4);
    let choices = prop::collection::vec(choice(), 0..4);
    (any::<(u64, i64, String, Vec<u8>)>(), finite, map, choices).prop_map(
        |((number, signed, text, bytes), fraction, map, choices)| Everything {
            number,
            signed,
            fraction,
            text,
            bytes,
            map,
            choices,
        },
    )
}

fn any_value() -> impl Strategy<Value = Any> {
    let odd = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), any::<f64>()];
    let short = prop_oneof![Just(f32::NEG_INFINITY), any::<f32>()];
    let key = prop_oneof![3 => Just(Key::Plain), 1 => any::<u8>().prop_map(Key::With)];
    let wrapped = any::<Option<u8>>().prop_map(Wrapped);
    let leaf = prop_oneof![
        Just(Any::Unit),
        Just(Any::Null(())),
        any::<i64>().prop_map(Any::Number),
        any::<(i128, u128)>().prop_map(|(signed, not)| Any::Wide(signed, not)),
        odd.prop_map(Any::Fraction),
        short.prop_map(Any::Short),
        ".{0,3}".prop_map(Any::Text),
        prop::collection::btree_map(key, any::<bool>(), 0..3).prop_map(Any::Keyed),
        any::<Option<Option<bool>>>().prop_map(Any::Twice),
        any::<Option<()>>().prop_map(Any::MaybeNull),
        any::<bool>().prop_map(|some| Any::MaybeNothing(some.then_some(Nothing))),
        prop::option::of(wrapped.clone()).prop_map(Any::MaybeWrapped),
    ];
    let value = leaf.prop_recursive(6, 24, 3, move |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Any::List),
            prop::collection::btree_map(".{0,2}", inner, 0..3).prop_map(Any::Named),
            (boxed.clone(), any::<char>()).prop_map(|(value, sign)| Any::Pair(value, sign)),
            (prop::option::of(boxed.clone()), wrapped.clone())
                .prop_map(|(first, second)| Any::Struct { first, second }),
            prop::option::of(boxed).prop_map(Any::Maybe),
        ]
    });
    // Around some of them so much that they stand near the limit, on either side.
    (value, prop_oneof![4 => Just(0), 1 => 0..70_usize], any::<u8>()).prop_map(|(value, layers, kind)| {
        (0..layers).fold(value, |value, _| match kind % 4 {
            0 => Any::List(vec![value]),
            1 => Any::Maybe(Some(Box::new(value))),
            2 => Any::Pair(Box::new(value), 'x'),
            _ => Any::Named([(String::new(), value)].into()),
        })
    })
}

fn keys() -> impl Strategy<Value = Keys> {
    fn some<K: Ord + std::fmt::Debug>(
        key: impl Strategy<Value = K>,
    ) -> impl Strategy<Value = BTreeMap<K, ()>> {
        prop::option::weighted(0.2, key).prop_map(|key| key.into_iter().map(|key| (key, ())).collect())
    }
    let key = prop_oneof![Just(Key::Plain), any::<u8>().prop_map(Key::With)];
    let plain = (some(any::<i128>()), some(any::<u8>()), some(any::<bool>()), some(any::<char>()));
    let options = (
        some(any::<Option<u8>>().prop_map(Wrapped)),
        some(any::<Option<u8>>()),
        some(any::<Option<Option<u8>>>()),
    );
    let rest = (some(Just(Nothing)), some(any::<(u8, u8)>()), some(key));
    (plain, options, rest).prop_map(
        |((numbers, short, flags, signs), (wrapped, maybe, twice), (nothing, pairs, variants))| Keys {
            numbers,
            short,
            flags,
            signs,
            wrapped,
            maybe,
            twice,
            nothing,
            pairs,
            variants,
        },
    )
}

/// Encodes without asking whether it can be read.
fn encode_anyway<T: Model>(codec: Codec, value: &T) -> Option<Vec<u8>> {
    match codec {
        #[cfg(feature = "msgpack")]
        Codec::MsgPack => rmp_serde::to_vec_named(value).ok(),
        _ => serde_json::to_vec(value).ok(),
    }
}

/// Refused if, and only if, nobody could read it as what it was.
fn comes_back_or_is_refused<T: Model + std::fmt::Debug>(
    codec: Codec,
    value: &T,
) -> Result<(), TestCaseError> {
    // NaN is not equal to itself, and 0 equal to -0.
    let same = |other: &T| format!("{other:?}") == format!("{value:?}");
    let comes_back = encode_anyway(codec, value)
        .is_some_and(|payload| codec.decode::<T>(&payload).is_ok_and(|read| same(&read)));
    match codec.encode(value) {
        Ok(payload) => {
            prop_assert!(codec.decode::<T>(&payload).is_ok_and(|read| same(&read)), "{:?} lost it", codec);
            prop_assert!(codec.check(value).is_ok(), "only a local post of it is refused");
        }
        Err(error) => {
            prop_assert_eq!(error.kind(), ErrorKind::Codec);
            prop_assert!(!comes_back, "{:?} refused what comes back: {}", codec, error);
            prop_assert!(codec.check(value).is_err(), "a local post of it is not refused");
        }
    }
    Ok(())
}

#[test]
fn a_refusal_names_the_type_the_field_and_the_remedy() {
    let refusal = |value: Any| Codec::Json.encode(&value).unwrap_err().message().to_owned();
    let nested = Any::Struct { first: Some(Box::new(Any::Fraction(f64::NAN))), second: Wrapped(None) };
    let text = refusal(nested);
    assert!(text.contains("`Any`") && text.contains("in field `first`: JSON has no NaN"), "{text}");
    let text = refusal(Any::Twice(Some(None)));
    assert!(text.contains("Some(None)") && text.contains("make it an enum"), "{text}");
    let text = refusal((0..200).fold(Any::Unit, |value, _| Any::List(vec![value])));
    assert!(text.contains("nested 128 deep"), "{text}");
    let text = refusal(Any::Keyed([(Key::With(1), true)].into()));
    assert!(text.contains("list of pairs"), "{text}");
}

#[cfg(feature = "msgpack")]
#[test]
fn the_depth_of_a_payload_is_that_of_its_value() {
    use super::depth::reaches;
    // At each of the lengths from which on it is written in another way.
    for length in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        let number = i64::try_from(length).unwrap();
        let numbers = [number, -number, number << 20, -(number << 20), i64::MAX, i64::MIN];
        let mut parts: Vec<Any> = numbers.into_iter().map(Any::Number).collect();
        parts.resize(length.max(parts.len()), Any::Unit);
        parts.extend([
            Any::Text("x".repeat(length)),
            Any::Fraction(0.5),
            Any::Short(0.5),
            Any::Wide(-1, 1),
            Any::MaybeNull(None),
        ]);
        let named = (0..length).map(|n| (n.to_string(), Any::Unit)).collect();
        parts.push(Any::Named(named));
        // The variant, the list, and in it a variant and its tuple or map.
        for layers in [0, 7] {
            let value =
                (0..layers).fold(Any::List(parts.clone()), |value, _| Any::Maybe(Some(Box::new(value))));
            let payload = Codec::MsgPack.encode(&value).unwrap();
            assert!(reaches(&payload, layers + 4) && !reaches(&payload, layers + 5), "{length}, {layers}");
        }
    }
}

/// What a thread of tokio has, also in a build without optimisation.
#[test]
fn no_depth_of_nesting_overflows_the_stack() {
    let deep = |open: &[u8]| open.repeat(100_000);
    let json = deep(br#"{"children":["#);
    let msgpack = deep(b"\x81\xA8children\x91");
    let variants = deep(b"\x81\xA5Maybe");
    let read = move || {
        assert!(Codec::MsgPack.decode::<Any>(&variants).is_err());
        assert!(Codec::Json.decode::<Tree>(&json).is_err());
        assert!(Codec::MsgPack.decode::<Tree>(&msgpack).is_err());
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(read).unwrap();
    thread.join().unwrap();
}

proptest! {
    #[test]
    fn a_value_round_trips_or_is_refused(value in any_value(), keys in keys()) {
        for codec in codecs() {
            comes_back_or_is_refused(codec, &value)?;
            comes_back_or_is_refused(codec, &keys)?;
        }
    }

    #[cfg(feature = "msgpack")]
    #[test]
    fn the_depth_of_any_bytes_is_found_without_a_panic(bytes: Vec<u8>) {
        let _ = crate::message::codec::depth::reaches(&bytes, MAX_DEPTH);
    }

    #[test]
    fn a_value_is_the_same_on_every_node(value in everything()) {
        for codec in codecs() {
            let payload = codec.encode(&value).unwrap();
            prop_assert_eq!(codec.decode::<Everything>(&payload), Ok(value.clone()), "{:?}", codec);
        }
    }

    #[test]
    fn a_truncated_or_corrupt_payload_is_an_error_and_never_panics(
        value in everything(), cut: prop::sample::Index, spoilt: prop::sample::Index, byte: u8,
    ) {
        for codec in codecs() {
            let mut payload = codec.encode(&value).unwrap().to_vec();
            let short = &payload[..cut.index(payload.len())];
            prop_assert!(codec.decode::<Everything>(short).is_err(), "{:?}", codec);
            let spoilt = spoilt.index(payload.len());
            payload[spoilt] = byte;
            let _ = codec.decode::<Everything>(&payload);
        }
    }
}
