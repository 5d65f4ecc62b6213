//! Subscriptions with options of their own: how long they wait, when they begin, and what their readers receive.

#![allow(clippy::unwrap_used, reason = "a test")]
#[allow(dead_code, reason = "this test needs less of it than others")]
mod scripted;

use std::time::Duration;

use broker_core::{
    Broker, CloseReason, ErrorKind, Event, Gap, GapCause, Post, Scope, SubscribeOptions, Subscription,
};
use bytes::Bytes;
use futures_util::FutureExt;
use scripted::{
    Scripted, options,
    steps::{next, payload, until},
};
use tokio::time::{Instant, sleep, timeout};

async fn gap(subscription: &mut Subscription) -> Gap {
    match next(subscription).await {
        Some(Event::Gap(gap)) => gap,
        other => panic!("not a gap: {other:?}"),
    }
}

async fn post(broker: &Broker, text: &str) {
    broker.publish("news", text.to_owned(), Scope::Local).await.unwrap();
}

fn without_waiting() -> SubscribeOptions {
    SubscribeOptions::new().without_waiting()
}

fn live() -> (Option<u64>, GapCause) {
    (None, GapCause::Subscribed)
}

fn said(gap: Gap) -> (Option<u64>, GapCause) {
    (gap.missed, gap.cause)
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_as_long_as_it_says() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().hang_subscribe = true;
    for limit in [Duration::from_millis(70), Duration::from_millis(700)] {
        let begun = Instant::now();
        let error = broker.subscribe_with("news", SubscribeOptions::new().timeout(limit)).await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Timeout, Some("subscribe_with")));
        assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 2, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn options_out_of_bounds_are_refused_with_their_bounds() {
    let (broker, session) = (Broker::local(), Broker::local().session());
    let longest = Duration::from_secs(86_401);
    for bad in [
        SubscribeOptions::new().capacity(0),
        SubscribeOptions::new().capacity((1 << 24) + 1),
        SubscribeOptions::new().capacity(usize::MAX),
    ] {
        for error in
            [broker.subscribe_with("c", bad.clone()).await, session.subscribe_with("c", bad.clone()).await]
        {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains("between 1 and 16777216"), "{error}");
        }
    }
    for bad in [Duration::ZERO, longest] {
        let error = broker.subscribe_with("c", SubscribeOptions::new().timeout(bad)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("between 1ms and 24h"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_waiting_a_stream_begins_with_the_confirmation() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.lose();
    driver.world().refuse_connect = Some(ErrorKind::Unavailable);
    until("the link is gone", || !broker.health().is_connected()).await;
    let mut news = broker.subscribe_with("news", without_waiting()).now_or_never().unwrap().unwrap();
    post(&broker, "before").await;
    // Far longer than any limit.
    assert!(timeout(Duration::from_secs(7200), news.next()).await.is_err(), "it is not subscribed");
    driver.world().refuse_connect = None;
    broker.ready().await.unwrap();
    post(&broker, "after").await;
    assert_eq!(said(gap(&mut news).await), live());
    assert_eq!(payload(&mut news).await, "after");
}

/// One that nobody polls begins at the confirmation, too, not when it is polled.
#[tokio::test(start_paused = true)]
async fn what_is_posted_after_the_confirmation_waits_for_a_reader_that_comes_later() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe_with("news", without_waiting()).await.unwrap();
    until("it is subscribed", || driver.world().subscribed.contains("news")).await;
    sleep(Duration::from_secs(1)).await;
    post(&broker, "one").await;
    post(&broker, "two").await;
    assert_eq!(said(gap(&mut news).await), live());
    assert_eq!((payload(&mut news).await, payload(&mut news).await), ("one".into(), "two".into()));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_subscribed_already_is_live_at_once() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut steady = broker.subscribe("news").await.unwrap();
    let mut news = broker.subscribe_with("news", without_waiting()).await.unwrap();
    post(&broker, "first").await;
    assert_eq!(said(news.next().now_or_never().map(as_gap).unwrap()), live());
    assert_eq!((payload(&mut news).await, payload(&mut steady).await), ("first".into(), "first".into()));
    let mut local = Broker::local().subscribe_with("news", without_waiting()).await.unwrap();
    assert_eq!(said(local.next().now_or_never().map(as_gap).unwrap()), live());
}

fn as_gap(event: Option<Event>) -> Gap {
    match event {
        Some(Event::Gap(gap)) => gap,
        other => panic!("not a gap: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_a_stream_that_did_not_wait() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().forbidden.insert("news".to_owned());
    let mut news = broker.subscribe_with("news", without_waiting()).await.unwrap();
    assert!(next(&mut news).await.is_none());
    match news.close_reason() {
        Some(CloseReason::Refused(error)) => assert_eq!(error.kind(), ErrorKind::Forbidden),
        other => panic!("{other:?}"),
    }
}

/// Also where nobody has confirmed it yet.
#[tokio::test(start_paused = true)]
async fn a_stream_that_has_not_begun_ends_with_its_session_and_holds_up_no_drain() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().hang_subscribe = true;
    let session = broker.session();
    let mut news = session.subscribe_with("news", without_waiting()).await.unwrap();
    let mut other = broker.subscribe_with("news", without_waiting()).await.unwrap();
    let ending = tokio::spawn(async move { (news.next().await.is_none(), news) });
    sleep(Duration::from_secs(1)).await;
    session.close();
    let (ended, news) = ending.await.unwrap();
    assert!(ended);
    assert_eq!(news.close_reason(), Some(&CloseReason::SessionClosed));
    let begun = Instant::now();
    broker.drain().await;
    assert!(begun.elapsed() < options().drain_timeout, "the drain waited for a stream that has not begun");
    assert!(next(&mut other).await.is_none());
}

/// Its session is closed between the request and the confirmation, and nobody polls it.
#[tokio::test(start_paused = true)]
async fn a_closed_stream_that_is_confirmed_afterwards_holds_up_no_drain() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.lose();
    driver.world().refuse_connect = Some(ErrorKind::Unavailable);
    until("the link is gone", || !broker.health().is_connected()).await;
    let session = broker.session();
    let news = session.subscribe_with("news", without_waiting()).await.unwrap();
    session.close();
    driver.world().refuse_connect = None;
    broker.ready().await.unwrap();
    post(&broker, "unread").await;
    let begun = Instant::now();
    broker.drain().await;
    assert!(begun.elapsed() < options().drain_timeout, "the drain waited for a closed stream");
    drop(news);
}

/// The gap and the message behind it are taken together, and a drain waits for both.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_newest_message() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let latest = SubscribeOptions::new().latest_only();
    let mut news = broker.subscribe_with("news", latest).await.unwrap();
    for text in ["1", "2", "3"] {
        post(&broker, text).await;
    }
    assert_eq!(said(gap(&mut news).await), (Some(2), GapCause::Conflated));
    let draining = tokio::spawn({
        let broker = broker.clone();
        async move { broker.drain().await }
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!draining.is_finished());
    assert_eq!(payload(&mut news).await, "3");
    assert!(next(&mut news).await.is_none());
    draining.await.unwrap();
}

/// What a session has posted for others is not the newest message for its own reader.
#[tokio::test]
async fn the_newest_message_is_one_that_the_reader_receives() {
    let broker = Broker::local();
    let session = broker.session();
    let mut newest = session.subscribe_with("news", SubscribeOptions::new().latest_only()).await.unwrap();
    let own = || session.post("news", Post::new("own").excluding_me(), Scope::Local);
    post(&broker, "1").await;
    own().await.unwrap();
    post(&broker, "2").await;
    own().await.unwrap();
    assert_eq!(said(gap(&mut newest).await), (Some(1), GapCause::Conflated));
    assert_eq!(payload(&mut newest).await, "2");
    assert!(newest.next().now_or_never().is_none());
}

/// A frame that says it is the one with this number of its node.
fn frame(origin: u64, epoch: u32, sequence: u64) -> Bytes {
    let mut frame = vec![0xB5, 1, 0, 1];
    frame.extend(origin.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend(epoch.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0]);
    frame.push(b'x');
    frame.into()
}

/// Nobody posts that many: such a number is as good as none.
#[tokio::test(start_paused = true)]
async fn a_forged_number_hides_no_loss() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut latest = broker.subscribe_with("news", SubscribeOptions::new().latest_only()).await.unwrap();
    let inbox = driver.inbox();
    for epoch in 1..4 {
        inbox.deliver("news", frame(7, epoch, 1));
        assert!(matches!(next(&mut latest).await, Some(Event::Message(_))));
        inbox.deliver("news", frame(7, epoch, 1 << 40));
        assert_eq!(said(gap(&mut latest).await), (None, GapCause::Skipped));
        assert!(matches!(next(&mut latest).await, Some(Event::Message(_))));
    }
    // Of an honest node five are lost, and then it posts twenty.
    inbox.deliver("news", frame(8, 1, 1));
    (7..27).for_each(|sequence| inbox.deliver("news", frame(8, 1, sequence)));
    assert_eq!(said(gap(&mut latest).await), (Some(5), GapCause::Skipped));
    assert_eq!(said(gap(&mut latest).await), (Some(20), GapCause::Conflated));
    assert!(matches!(next(&mut latest).await, Some(Event::Message(_))));
    assert!(latest.next().now_or_never().is_none());
}

/// As docs/posting.md and docs/readers.md say: until they are read past, they are like other entries of the queue.
#[tokio::test(start_paused = true)]
async fn what_a_lagging_reader_would_pass_over_counts_in_its_gap() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let session = broker.session();
    let mut news = session.subscribe_with("news", SubscribeOptions::new().capacity(4)).await.unwrap();
    let mut newest = session.subscribe_with("price", SubscribeOptions::new().latest_only()).await.unwrap();
    post(&broker, "first").await;
    for _ in 0..10 {
        session.post("news", Post::new("own").excluding_me(), Scope::Local).await.unwrap();
    }
    post(&broker, "last").await;
    assert_eq!(said(gap(&mut news).await), (Some(8), GapCause::Overflow));
    assert_eq!(payload(&mut news).await, "last");
    assert!(news.next().now_or_never().is_none());
    broker.publish("price", "7", Scope::Local).await.unwrap();
    (0..16).for_each(|_| driver.inbox().deliver("price", Bytes::from_static(b"foreign")));
    assert_eq!(said(gap(&mut newest).await), (Some(1), GapCause::Overflow));
    for _ in 0..16 {
        assert!(matches!(next(&mut newest).await, Some(Event::Malformed(_))));
    }
    assert!(newest.next().now_or_never().is_none());
}
