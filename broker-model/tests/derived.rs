//! Derived faults and choices: under which names they travel, and that they come back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fmt};

use broker_macros::{Choice, Fault, Model};
use broker_model::{Failure, Fault, Model, Value};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize, Fault)]
#[fault(name = "NoPixel")]
struct NoSuchPixel {
    index: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Fault)]
struct Closed;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reason {
    text: String,
}

/// Serde calls the variants and members as it likes.
#[derive(Debug, PartialEq, Serialize, Deserialize, Fault)]
#[serde(rename_all = "kebab-case")]
enum Refused {
    #[fault(name = "chat.TooLate")]
    Late,
    #[serde(rename = "a \"tag\": odd", rename_all = "camelCase")]
    RoomFull {
        seats_taken: u128,
        a_seat: Option<String>,
    },
    #[serde(alias = "expelled")]
    Banned(Reason),
    Both(u8, String),
    Nothing(()),
}

macro_rules! error {
    ($($type:ty),+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "refused: {self:?}")
            }
        }

        impl std::error::Error for $type {}
    )+};
}

error!(NoSuchPixel, Closed, Refused);

/// Travels as that, and comes back.
fn round<F: Fault + PartialEq>(fault: &F, name: &str, json: &str) {
    assert_eq!(fault.class_name(), name);
    assert_eq!(fault.encode().unwrap(), json);
    assert_eq!(&F::decode(name, json).unwrap().unwrap(), fault);
    assert_eq!(F::decode("Another", json), None);
}

#[test]
fn a_struct_travels_under_its_name() {
    round(&NoSuchPixel { index: 7 }, "NoPixel", r#"{"index":7}"#);
    round(&Closed, "Closed", "{}");
    assert!(NoSuchPixel::decode("NoPixel", r#"{"index":-1}"#).unwrap().is_err());
    assert!(NoSuchPixel::decode("NoPixel", "{}").unwrap().is_err());
}

#[test]
fn each_variant_travels_under_a_name_of_its_own() {
    round(&Refused::Late, "chat.TooLate", "{}");
    let full = Refused::RoomFull { seats_taken: u128::MAX, a_seat: Some("}:{\"".to_owned()) };
    let json = format!(r#"{{"seatsTaken":{},"aSeat":"}}:{{\""}}"#, u128::MAX);
    round(&full, "RoomFull", &json);
    round(&Refused::Banned(Reason { text: "no".to_owned() }), "Banned", r#"{"text":"no"}"#);
    round(&Refused::Both(1, "two".to_owned()), "Both", r#"[1,"two"]"#);
    round(&Refused::Nothing(()), "Nothing", "{}");
}

#[test]
fn a_variant_takes_no_data_of_another_form() {
    for (name, json) in [
        ("RoomFull", "[]"),
        ("RoomFull", "{}"),
        ("RoomFull", r#"{"seatsTaken":1} 2"#),
        ("RoomFull", r#"{"seatsTaken":1"#),
        ("Banned", r#"{"Banned":{"text":"no"}}"#),
        ("Both", r#"[1]"#),
        ("Both", r#"[1,"two",3]"#),
        ("chat.TooLate", "{"),
    ] {
        assert!(Refused::decode(name, json).unwrap().is_err(), "{name}: {json}");
    }
    // What a later version has added.
    assert_eq!(Refused::decode("chat.TooLate", r#"{"by":5}"#), Some(Ok(Refused::Late)));
}

#[test]
fn a_fault_travels_and_another_error_does_not() {
    fn method(index: u32) -> Result<(), Failure> {
        if index > 9 {
            Err(NoSuchPixel { index })?;
        }
        Err(std::io::Error::other("the password is hunter2"))?;
        Ok(())
    }
    let travels = method(10).unwrap_err();
    assert_eq!(travels.fault(), Some(("NoPixel", r#"{"index":10}"#)));
    assert_eq!(travels.to_string(), "refused: NoSuchPixel { index: 10 } (NoPixel)");
    let stays = method(1).unwrap_err();
    assert_eq!(stays.fault(), None);
    assert!(stays.source().is_some() && stays.to_string().contains("hunter2"), "{stays}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Model)]
struct Pixel {
    index: u32,
}

#[derive(Debug, PartialEq, Choice)]
enum Picture {
    Pixel(Pixel),
    Board(Vec<i64>),
    Marks(BTreeSet<String>),
    Cleared(Option<bool>),
    /// Travels as the one before it, which is read.
    Again(bool),
}

#[test]
fn each_item_travels_under_the_name_of_its_type() {
    for (item, name, json) in [
        (Picture::Pixel(Pixel { index: 7 }), "Pixel", r#"{"index":7}"#),
        (Picture::Board(vec![1, 2]), "List<int>", "[1,2]"),
        (Picture::Marks(BTreeSet::from(["a".to_owned()])), "Set<String>", r#"["a"]"#),
        (Picture::Cleared(None), "null", "null"),
        (Picture::Cleared(Some(true)), "bool", "true"),
    ] {
        assert_eq!(item.class_name(), name);
        let mut written = Vec::new();
        item.encode(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), json);
        assert_eq!(Picture::decode(name, json).unwrap(), item);
    }
}

#[test]
fn the_first_variant_that_accepts_a_name_is_read() {
    assert_eq!(Picture::Again(true).class_name(), "bool");
    assert_eq!(Picture::decode("bool", "true").unwrap(), Picture::Cleared(Some(true)));
    assert!(Picture::decode("double", "1.5").is_err());
    assert!(Picture::decode("List<int>", "{}").is_err());
    assert_eq!(Pixel::NAME, "Pixel");
}
