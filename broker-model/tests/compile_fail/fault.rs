//! Faults whose names or data would not be where they are looked for.
use broker_macros::Fault;

#[derive(Debug, serde::Serialize, serde::Deserialize, Fault)]
struct Generic<T>(T);

#[derive(Debug, serde::Serialize, serde::Deserialize, Fault)]
#[serde(tag = "kind")]
enum Tagged {
    Late,
}

#[derive(Debug, serde::Serialize, serde::Deserialize, Fault)]
#[fault(name = "Refused")]
enum Named {
    Late,
}

#[derive(Debug, serde::Serialize, serde::Deserialize, Fault)]
enum Doubled {
    #[fault(name = "Full")]
    Late,
    Full,
}

fn main() {}
