//! Steps that cases of several subjects take: post, receive, lose a link and get it back.
//!
//! Each ends with an error that says what was expected and what came.

#![expect(clippy::missing_errors_doc, reason = "the page of the module says it")]

pub mod revocation;
pub mod sets;

use std::{sync::Arc, time::Duration};

use broker_core::{
    Broker, Event, Gap, GapCause, Options, Scope, Session, StreamError, StreamItem, Subscription,
};
use broker_macros::Model;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::wait::{SHORT, next_gap, next_message, text, until, within};

/// What the typed posts of these cases carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Model)]
pub struct Count {
    /// Which post it is.
    pub n: u64,
}

/// Posts text for everyone.
pub async fn post(node: &Broker, channel: &str, text: impl Into<String>) -> Result<(), String> {
    node.publish(channel, text.into(), Scope::Global).await.map(drop).map_err(|error| error.to_string())
}

/// Posts a count for everyone.
pub async fn count(node: &Broker, channel: &str, n: u64) -> Result<(), String> {
    let posted = node.session().post_message(channel, Count { n }, Scope::Global).await;
    posted.map(drop).map_err(|error| error.to_string())
}

/// The next event is this text.
pub async fn receives(subscription: &mut Subscription, expected: &str) -> Result<(), String> {
    let found = text(&next_message(subscription).await?)?;
    if found == expected { Ok(()) } else { Err(format!("expected `{expected}`, received `{found}`")) }
}

/// Nothing more has arrived at any of these subscriptions of one channel, nor will: as
/// [`fence`](crate::wait::fence), for several.
pub async fn receive_nothing_more(
    publisher: &Broker,
    subscriptions: &mut [&mut Subscription],
) -> Result<(), String> {
    let channel = subscriptions.first().map(|subscription| subscription.channel().clone());
    let channel = channel.ok_or("no subscription")?;
    post(publisher, channel.as_str(), "nothing more").await?;
    for subscription in subscriptions {
        receives(subscription, "nothing more").await?;
    }
    Ok(())
}

/// The next event is the gap of a lost link, and nothing before it.
pub async fn receives_link_loss(subscription: &mut Subscription) -> Result<(), String> {
    lost_link(&next_gap(subscription).await?)
}

/// This gap is that of a lost link.
pub fn lost_link(gap: &Gap) -> Result<(), String> {
    match gap {
        Gap { missed: None, cause: GapCause::LinkLost, .. } => Ok(()),
        other => Err(format!("expected the gap of a lost link, got {other:?}")),
    }
}

/// Nothing but a missing echo tells that a link is dead, and that soon.
pub fn quick_detection(options: &mut Options) {
    options.heartbeat_timeout = SHORT;
    options.connect_timeout = SHORT;
    options.publish_timeout = Duration::from_secs(60);
}

/// Waits until a node has noticed that its link is gone.
pub async fn wait_for_disconnect(node: &Broker) -> Result<(), String> {
    until("the loss to be noticed", || !node.health().is_connected()).await
}

/// Waits until a node is connected through its `links`-th link, or a later one.
pub async fn wait_for_link(node: &Broker, links: u64) -> Result<(), String> {
    let connected = || {
        let health = node.health();
        health.is_connected() && health.links >= links
    };
    until(&format!("link {links}"), connected).await.map_err(|error| format!("{error}: {:?}", node.health()))
}

/// The next event is a gap of this size and cause.
pub async fn receives_gap(
    subscription: &mut Subscription,
    missed: Option<u64>,
    cause: GapCause,
) -> Result<(), String> {
    match next_gap(subscription).await? {
        Gap { missed: found, cause: why, .. } if found == missed && why == cause => Ok(()),
        other => Err(format!("expected {missed:?} {cause:?}, got {other:?}")),
    }
}

/// Posts the numbers on `news`, one by one; a quick subscriber misses none, and proves that all have arrived.
pub async fn posted(
    publisher: &Broker,
    quick: &mut Subscription,
    numbers: std::ops::Range<usize>,
) -> Result<(), String> {
    for n in numbers {
        post(publisher, "news", n.to_string()).await?;
        receives(quick, &n.to_string()).await?;
    }
    Ok(())
}

/// Posts until one post is received, for nodes whose links may break in between. Returns how many gaps stood
/// before it.
pub async fn receives_again(publisher: &Broker, subscription: &mut Subscription) -> Result<usize, String> {
    let channel = subscription.channel().clone();
    let receiving = async {
        let mut gaps = 0;
        while let Some(event) = subscription.next().await {
            match event {
                Event::Message(message) if text(&message)? == "is anybody there" => return Ok(gaps),
                // A post that was interrupted may be one that nobody received.
                Event::Gap(Gap { cause: GapCause::Skipped, .. }) => {}
                Event::Gap(gap) => {
                    lost_link(&gap)?;
                    gaps += 1;
                }
                other => return Err(format!("unexpected on `{}`: {other:?}", subscription.channel())),
            }
        }
        Err(format!("ended: {:?}", subscription.close_reason()))
    };
    let calling = async {
        loop {
            // It may be down, and so may the other: then once more.
            let _ = post(publisher, channel.as_str(), "is anybody there").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("to receive again", async {
        tokio::select! {
            received = receiving => received,
            () = calling => Ok(0),
        }
    })
    .await?
}

/// A listener that passes on what it is called with. The receiver ends when the listener is gone.
pub async fn listener(
    session: &Session,
    channel: &str,
) -> Result<UnboundedReceiver<StreamItem<Count>>, String> {
    let (received, receiving) = unbounded_channel();
    let received = Arc::new(received);
    let function = move |item: StreamItem<Count>| {
        let received = Arc::clone(&received);
        async move { drop(received.send(item)) }
    };
    session.add_listener(channel, function).await.map_err(|error| error.to_string())?;
    Ok(receiving)
}

/// The next call of a listener.
pub async fn next_call<T: Send>(calls: &mut UnboundedReceiver<T>) -> Result<T, String> {
    within("a call of the listener", calls.recv()).await?.ok_or_else(|| "the listener is gone".to_owned())
}

/// The next call of a listener is with this count.
pub async fn called_with(calls: &mut UnboundedReceiver<StreamItem<Count>>, n: u64) -> Result<(), String> {
    match next_call(calls).await? {
        Ok(count) if count.n == n => Ok(()),
        other => Err(format!("expected a call with {n}, got {other:?}")),
    }
}

/// The next call of a listener is with the gap of a lost link.
pub async fn called_with_link_loss(calls: &mut UnboundedReceiver<StreamItem<Count>>) -> Result<(), String> {
    match next_call(calls).await? {
        Err(StreamError::Gap(gap)) => lost_link(&gap),
        other => Err(format!("expected a call with a gap, got {other:?}")),
    }
}

/// The listener is gone without another call.
pub async fn no_more_calls<T: std::fmt::Debug + Send>(
    calls: &mut UnboundedReceiver<T>,
) -> Result<(), String> {
    match within("the end of the listener", calls.recv()).await? {
        None => Ok(()),
        Some(call) => Err(format!("a call after the end: {call:?}")),
    }
}

/// How many tasks this case has alive, those of its nodes and lines included.
pub fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
