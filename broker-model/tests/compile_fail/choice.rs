//! An enum with a variant that holds what has no name on the wire, and one that holds nothing.
use broker_macros::Choice;

#[derive(serde::Serialize, serde::Deserialize)]
struct Nameless;

#[derive(Choice)]
enum Picture {
    Whole(Nameless),
}

#[derive(Choice)]
enum Empty {
    Nothing,
}

fn main() {}
