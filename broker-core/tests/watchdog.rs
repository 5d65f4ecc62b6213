//! How posts end whose writer does not run, while their own threads do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "this test needs less of it than others")]
mod scripted;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use broker_core::{Broker, Error, ErrorKind, Event, Scope};
use bytes::Bytes;
use futures_util::future::join_all;
use scripted::{
    Scripted, options,
    steps::{LIMIT, within},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::sleep,
};

/// Two of them are nearly all that the outbox takes.
const LARGE: usize = 450_000;

fn post(broker: &Broker) -> impl Future<Output = Result<(), Error>> + Send + use<> {
    let broker = broker.clone();
    async move { broker.publish("news", vec![0; LARGE], Scope::Global).await.map(drop) }
}

fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn assert_interrupted(outcome: Result<(), Error>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(error.to_string().contains("blocked or not driven"), "{error}");
}

/// One of the broker's two worker threads is blocked, with the writer in it; its posts are waited for by the other, by a
/// thread within the runtime that is no worker, and in another runtime.
#[test]
fn a_blocked_writer_interrupts_posts_and_goes_on_afterwards() {
    let (own, other) = (two_workers(), two_workers());
    let driver = Scripted::default();
    let mut options = options();
    options.outbox_bytes = 1_000_000;
    options.publish_timeout = Duration::from_millis(300);
    let broker = own.block_on(driver.connect(options)).unwrap();
    let mut reader = own.block_on(broker.subscribe("news")).unwrap();
    let news = broker.channel::<Bytes>("news").unwrap();
    let (release, blocked) = mpsc::channel::<()>();
    driver.world().block_publish = Some(blocked);

    let under_way = own.spawn(post(&broker));
    let begun = Instant::now();
    while driver.world().block_publish.is_some() {
        assert!(begun.elapsed() < LIMIT, "the first is not under way");
        thread::yield_now();
    }
    let queued = own.spawn(post(&broker));
    let sent = own.block_on(news.send_post("sent", Scope::Global)).unwrap();
    let elsewhere = other.spawn(async move { news.publish("elsewhere", Scope::Global).await.map(drop) });
    own.block_on(async {
        assert_interrupted(within("the post that was sent", sent).await.map(drop));
        let waiting = [under_way, queued, elsewhere];
        for outcome in within("the posts", join_all(waiting)).await {
            assert_interrupted(outcome.unwrap());
        }
    });

    drop(release);
    // What was queued goes out, the room is free again, and new posts have their own outcomes.
    own.block_on(async {
        for _ in 0..3 {
            within("a post", post(&broker)).await.unwrap();
        }
    });
    own.block_on(async {
        for _ in 0..7 {
            assert!(matches!(within("a message", reader.next()).await, Some(Event::Message(_))));
        }
        within("close", broker.close()).await;
    });
}

/// Whatever the watchdog looks at, and whenever: a batch that takes nearly as long as it may is no reason to end it.
#[tokio::test(start_paused = true)]
async fn a_slow_writer_is_not_taken_for_one_that_has_stopped() {
    let driver = Scripted::default();
    let mut options = options();
    options.heartbeat_timeout = LIMIT;
    let slow = options.publish_timeout - Duration::from_millis(1);
    let broker = driver.connect(options).await.unwrap();
    driver.world().slow_publish = slow;
    for number in 0..20 {
        let waiting = tokio::spawn({
            let broker = broker.clone();
            async move { broker.publish("news", "x", Scope::Global).await }
        });
        yield_now().await;
        within("a post behind another", broker.publish("news", "y", Scope::Global)).await.unwrap();
        within("a post", waiting).await.unwrap().unwrap();
        sleep(slow * number / 7).await;
    }
    assert!(broker.health().is_connected());
}
