//! Steps of the tests about sets of channels.

#![allow(dead_code, reason = "not every test takes each")]

use std::time::Duration;

use broker_core::{
    Broker, ChannelName, ChannelSet, ErrorKind, Gap, GapCause, Scope, SetEvent, SubscribeOptions,
};
use futures_util::FutureExt;
use tokio::time::timeout;

/// What a set has yielded, in short.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Text(String, String),
    Gap(String, Option<u64>, GapCause),
    Refused(String, ErrorKind),
}

pub(crate) fn seen((channel, event): (ChannelName, SetEvent)) -> Seen {
    let channel = channel.as_str().to_owned();
    match event {
        SetEvent::Message(message) => {
            Seen::Text(channel, String::from_utf8(message.payload().unwrap().to_vec()).unwrap())
        }
        SetEvent::Gap(Gap { missed, cause, .. }) => Seen::Gap(channel, missed, cause),
        SetEvent::Refused(error) => Seen::Refused(channel, error.kind()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn next(set: &mut ChannelSet) -> Option<Seen> {
    timeout(Duration::from_secs(3600), set.next()).await.expect("an event").map(seen)
}

/// What is there now.
pub(crate) fn now(set: &mut ChannelSet) -> Option<Seen> {
    set.next().now_or_never().flatten().map(seen)
}

pub(crate) async fn post(broker: &Broker, channel: &str, text: &str) {
    broker.publish(channel, text.to_owned(), Scope::Local).await.unwrap();
}

pub(crate) fn text(channel: &str, text: &str) -> Option<Seen> {
    Some(Seen::Text(channel.into(), text.into()))
}

pub(crate) fn of(capacity: usize) -> SubscribeOptions {
    SubscribeOptions::new().capacity(capacity)
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("c.{n}")).collect()
}
