//! Steps that several of these tests take.

#![allow(dead_code, reason = "not every test takes each")]

use std::time::Duration;

use broker_core::{Event, Model, Subscription};
use tokio::time::{sleep, timeout};

/// Far longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Note(pub(crate) String);

impl Model for Note {
    const NAME: &'static str = "Note";
}

pub(crate) fn note() -> Note {
    Note("hello".to_owned())
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// Under paused time this takes none.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool + Sync) {
    let waited = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(600), waited).await.expect(what);
}

/// The next event; under paused time an hour passes at once when nothing comes.
pub(crate) async fn next(subscription: &mut Subscription) -> Option<Event> {
    timeout(Duration::from_secs(3600), subscription.next()).await.expect("an event")
}

pub(crate) async fn payload(subscription: &mut Subscription) -> String {
    match next(subscription).await {
        Some(Event::Message(message)) => String::from_utf8(message.payload().unwrap().to_vec()).unwrap(),
        other => panic!("not a message: {other:?}"),
    }
}
