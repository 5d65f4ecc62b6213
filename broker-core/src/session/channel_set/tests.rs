//! What a set does inside, where its events do not show it.

#![allow(clippy::unwrap_used, reason = "a test")]

use futures_util::FutureExt;

use super::{queue::COMPARED, *};
use crate::Scope;

async fn full(session: &Session, options: SubscribeOptions, count: usize) -> ChannelSet {
    let names: Vec<_> = (0..count).map(|n| format!("c.{n}")).collect();
    let mut set = session.channel_set_with(options).unwrap();
    set.join_all(&names).await.unwrap();
    for name in &names {
        session.broker().publish(name, "unread", Scope::Local).await.unwrap();
    }
    set
}

/// Else it would take seconds for some ten thousand channels.
#[tokio::test]
async fn a_set_that_is_dropped_does_not_search_its_queue_for_each_channel() {
    let many = SubscribeOptions::new().capacity(1000);
    for options in [SubscribeOptions::new().latest_only(), many, SubscribeOptions::new().capacity(1)] {
        let broker = Broker::local();
        let session = broker.session();
        let set = full(&session, options.clone(), 200).await;
        let queue = Arc::downgrade(&set.queue);
        COMPARED.set(0);
        drop(set);
        assert_eq!(COMPARED.get(), 0, "{options:?}");
        assert!(queue.upgrade().is_none(), "the queue and its members keep each other");
        assert!(broker.hub().channels().is_empty());
    }
}

/// One that has ended, and is kept, holds nothing any more.
#[tokio::test]
async fn a_set_that_has_ended_gives_back_what_waits() {
    for options in [SubscribeOptions::new().latest_only(), SubscribeOptions::new()] {
        let broker = Broker::local();
        let session = broker.session();
        let mut set = full(&session, options.clone(), 10).await;
        let member = set.members.lock().values().next().cloned().unwrap();
        session.close();
        assert!(set.next().await.is_none());
        broker.publish(&member.ring.channel, "late", Scope::Local).await.unwrap();
        // Its place in the set, this one, and the waker of its seat.
        assert!(Arc::strong_count(&member) <= 3, "{} of {options:?}", Arc::strong_count(&member));
        assert!(set.queue.is_empty(), "{options:?}");
    }
}

/// Whoever can write to the backend can make a channel report one gap after the other.
#[tokio::test]
async fn gaps_without_messages_are_bounded() {
    let broker = Broker::local();
    let session = broker.session();
    let mut set = session.channel_set_with(SubscribeOptions::new().capacity(3)).unwrap();
    set.join("news").await.unwrap();
    for missed in 1..=100 {
        let gap = Entry::gap(crate::Gap::new(Some(missed), crate::GapCause::Skipped));
        let mut wakes = WakeList::default();
        broker.hub().put("news", gap, crate::hub::PutBy::Link, &mut wakes);
        wakes.finish();
    }
    let (mut events, mut missing) = (0, 0);
    while let Some(Some((_, SetEvent::Gap(gap)))) = set.next().now_or_never() {
        (events, missing) = (events + 1, missing + gap.missed.unwrap());
    }
    assert_eq!((events, missing), (6, 5050), "three of its messages, two of its gaps, and what was dropped");
}
