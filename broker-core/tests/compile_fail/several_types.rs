//! Enums of messages that cannot be, and what to write instead.
use broker::{Message, Messages, Model, Received};

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Said {
    text: String,
}

#[derive(Clone)]
struct NoModel;

#[derive(Messages)]
struct NoEnum(Received<Said>);

#[derive(Messages)]
enum NamedFields {
    Said { text: String },
}

#[derive(Messages)]
enum NothingHeld {
    Said,
}

#[derive(Messages)]
enum NotClone {
    Said(Said),
}

#[derive(Messages)]
enum NotAModel {
    No(NoModel),
}

#[derive(Messages)]
enum OneTypeTwice {
    Said(Received<Said>),
    Again(Received<Said>),
}

#[derive(Messages)]
enum OtherIsNoMessage {
    Said(Received<Said>),
    #[messages(other)]
    Other(String),
}

#[derive(Messages)]
enum TwoOthers {
    Said(Received<Said>),
    #[messages(other)]
    One(Message),
    #[messages(other)]
    Two(Message),
}

async fn not_derived(broker: &broker::Broker) {
    let _ = broker.create_stream_of::<Said>("room").await;
}

fn main() {}
