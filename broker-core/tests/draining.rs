//! What a drain finishes and whom it waits for.

#![allow(clippy::unwrap_used, reason = "a test")]
mod scripted;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use broker_core::{ConnectionState, ErrorKind, Model, Scope, StreamItem};
use futures_util::FutureExt;
use scripted::{
    Scripted, options,
    steps::{Note, next, note, payload, until, within},
};
use tokio::{runtime::Builder, sync::Notify, time::timeout};

/// Under paused time: whatever waits for its limit would take all of it.
#[tokio::test(start_paused = true)]
async fn drain_does_not_wait_for_empty_streams() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let session = broker.session();
    let (mut read, _idle, closed) = (
        broker.subscribe("a").await.unwrap(),
        broker.subscribe("a").await.unwrap(),
        session.subscribe("b").await.unwrap(),
    );
    let mut idle = broker.subscribe("idle").await.unwrap();
    assert!(timeout(Duration::from_secs(1), idle.next()).await.is_err());
    let mut none = broker.subscribe("none").await.unwrap();
    assert!(none.next().now_or_never().is_none());
    drop(_idle);
    for n in 0..3 {
        broker.publish("a", format!("{n}"), Scope::Global).await.unwrap();
        broker.publish("b", format!("{n}"), Scope::Global).await.unwrap();
    }
    for _ in 0..3 {
        assert!(read.next().await.is_some());
    }
    session.close(); // with three unread messages on its stream
    let begun = tokio::time::Instant::now();
    broker.drain().await;
    assert!(begun.elapsed() < options().drain_timeout, "it waited for somebody");
    assert_eq!(broker.health().state, ConnectionState::Closed);
    drop((read, closed, idle, none));
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_unread_messages_and_running_calls() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let session = broker.session();
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (reach, wait) = (Arc::clone(&reached), Arc::clone(&go_on));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let finished = Arc::clone(&done);
    let listener = move |_: StreamItem<Note>| {
        let (reach, wait, finished) = (Arc::clone(&reach), Arc::clone(&wait), Arc::clone(&finished));
        async move {
            reach.notify_one();
            wait.notified().await;
            finished.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    };
    session.add_listener("notes", listener).await.unwrap();
    session.post_message("notes", note(), Scope::Global).await.unwrap();
    reached.notified().await;
    let mut news = broker.subscribe("news").await.unwrap();
    for n in 0..20 {
        broker.publish("news", format!("{n}"), Scope::Global).await.unwrap();
    }
    assert!(news.next().await.is_some()); // more than one was taken, and one is yielded
    let draining = tokio::spawn({
        let broker = broker.clone();
        async move { broker.drain().await }
    });
    for _ in 0..19 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!draining.is_finished(), "somebody has not read all");
        assert!(news.next().await.is_some());
    }
    // All is read and the stream is held; the listener is in its call.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!draining.is_finished(), "a listener is in its call");
    go_on.notify_one();
    draining.await.unwrap();
    assert!(done.load(std::sync::atomic::Ordering::SeqCst));
}

/// A post that was accepted before the end, and put where everybody has read to the end.
#[tokio::test]
async fn a_local_post_beside_a_drain_is_delivered_or_an_error() {
    struct Slow;
    impl serde::Serialize for Slow {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            tokio::task::block_in_place(|| thread::sleep(Duration::from_millis(200)));
            to.serialize_unit()
        }
    }
    impl<'de> serde::Deserialize<'de> for Slow {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            <()>::deserialize(from).map(|()| Self)
        }
    }
    impl Model for Slow {
        const NAME: &'static str = "Slow";
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let inside = runtime.spawn(async {
        let broker = Scripted::default().connect(options()).await.unwrap();
        let mut news = broker.subscribe("news").await.unwrap();
        let reading = tokio::spawn(async move {
            let mut count = 0;
            while news.next().await.is_some() {
                count += 1;
            }
            count
        });
        let session = broker.session();
        let posting = tokio::spawn(async move { session.post_message("news", Slow, Scope::Local).await });
        while broker.drain().now_or_never().is_none() && broker.health().state != ConnectionState::Closed {
            tokio::task::yield_now().await;
        }
        broker.close().await;
        (posting.await.unwrap(), reading.await.unwrap())
    });
    let (posted, read) = within("the drain", inside).await.unwrap();
    assert!(posted.is_err() || read == 1, "said to be posted, and nobody has read it");
    runtime.shutdown_background();
}

#[tokio::test(start_paused = true)]
async fn a_draining_broker_refuses_new_work() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "unread", Scope::Global).await.unwrap();
    let draining = tokio::spawn({
        let broker = broker.clone();
        async move { broker.drain().await }
    });
    let mut changes = broker.health_changes();
    within("the state", async {
        while changes.next().await.is_some_and(|health| health.state != ConnectionState::Draining) {}
    })
    .await;
    driver.lose(); // a link that comes or goes does not end it
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(broker.health().state, ConnectionState::Draining);
    let error = broker.ready().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Closed && error.message().contains("drained"), "{error}");
    let error = broker.publish("news", "x", Scope::Global).await.unwrap_err();
    assert!(error.message().contains("drained"), "{error}");
    assert!(news.next().await.is_some());
    draining.await.unwrap();
    assert_eq!(broker.health().state, ConnectionState::Closed);
}

/// Nobody has been given it yet, and nobody will be: it waits for a backend that does not answer.
#[tokio::test(start_paused = true)]
async fn drain_does_not_wait_for_a_subscription_that_has_not_begun() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().hang_subscribe = true;
    let (session, other) = (broker.session(), broker.clone());
    let listening =
        tokio::spawn(async move { session.add_listener("a", |_: StreamItem<Note>| async {}).await });
    let subscribing = tokio::spawn(async move { other.subscribe("b").await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begun = tokio::time::Instant::now();
    broker.drain().await;
    assert!(begun.elapsed() < options().drain_timeout);
    assert!(listening.await.unwrap().is_err() && subscribing.await.unwrap().is_err());
}

/// A stream takes several entries at once; what it has not yielded is unread all the same.
#[tokio::test(start_paused = true)]
async fn drain_waits_for_messages_a_stream_has_taken() {
    let broker = Scripted::default().connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    for n in 0..3 {
        broker.publish("news", format!("{n}"), Scope::Global).await.unwrap();
    }
    assert!(news.next().await.is_some());
    let draining = tokio::spawn(async move { broker.drain().await });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!draining.is_finished(), "an entry is unread");
        assert!(news.next().await.is_some());
    }
    draining.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drain_without_a_link_lets_listeners_read_their_queues() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "read me", Scope::Global).await.unwrap();
    driver.world().hang_publish = true;
    let begun = Instant::now();
    let drained = tokio::spawn({
        let broker = broker.clone();
        async move { broker.drain().await }
    });
    until("probe, post and barrier are sent", || driver.world().published.len() == 3).await;
    driver.lose();
    assert_eq!(payload(&mut news).await, "read me");
    assert!(next(&mut news).await.is_none());
    drained.await.unwrap();
    assert!(begun.elapsed() < options().drain_timeout);
}

#[tokio::test(start_paused = true)]
async fn drain_reports_the_outcome_of_every_accepted_post() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    // Echoes come at once, outcomes only later: an echo must not end the drain before they are told.
    driver.world().echo_first = true;
    driver.world().slow_publish = Duration::from_millis(500);
    let post = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish("news", "accepted", Scope::Global).await }
    });
    until("the post is under way", || driver.world().published.len() == 2).await;
    broker.drain().await;
    post.await.unwrap().unwrap();
    // And one that shares its batch with the barrier.
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().echo_first = true;
    driver.world().slow_publish = Duration::from_millis(500);
    let (posted, ()) = tokio::join!(broker.publish("news", "accepted", Scope::Global), broker.drain());
    posted.unwrap();
}
