//! Handles of channels and posts under way, beside what runs at the same moment, and with wakers that panic.

#![allow(clippy::unwrap_used, reason = "a test")]

mod scripted;

use std::{
    future::Future,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use broker_core::{Broker, ChannelHandle, PublishFuture, Scope};
use scripted::{
    Scripted, options,
    steps::{Note, note, until},
};
use tokio::time::sleep;

/// The waker of a program that panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        std::panic::resume_unwind(Box::new("a waker of the program panics"));
    }
}

/// Begins to wait for a future, with a waker that panics.
fn begin(future: &mut (impl Future + Unpin)) {
    let waker = Waker::from(Arc::new(Panics));
    let mut future = std::pin::Pin::new(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
}

/// A broker whose backend takes posts and does not answer.
async fn hanging() -> (Scripted, Broker, ChannelHandle<Note>) {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().hang_publish = true;
    let notes = broker.channel("notes").unwrap();
    (driver, broker, notes)
}

async fn under_way(notes: &ChannelHandle<Note>, count: usize) -> Vec<PublishFuture> {
    let mut posts = Vec::new();
    for _ in 0..count {
        posts.push(notes.send(note(), Scope::Global).await.unwrap());
    }
    sleep(Duration::from_millis(10)).await; // paused time: until the link has them
    posts
}

/// The second panic in one place would abort the process.
#[tokio::test(start_paused = true)]
async fn wakers_that_panic_when_a_link_breaks_end_nothing() {
    for count in [1, 2, 5] {
        let (driver, broker, notes) = hanging().await;
        let mut posts = under_way(&notes, count).await;
        posts.iter_mut().for_each(begin);
        driver.world().hang_publish = false;
        driver.lose();
        sleep(Duration::from_millis(1)).await;
        drop(posts);
        until("the next link", || broker.health().links > 1 && broker.health().is_connected()).await;
        notes.post_message(note(), Scope::Global).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_in_the_line_for_room_reaches_nobody_else() {
    let driver = Scripted::default();
    let mut options = options();
    options.outbox_bytes = 1_000_000;
    let broker = driver.connect(options).await.unwrap();
    driver.world().hang_publish = true;
    let news = broker.channel::<Note>("news").unwrap();
    let big = || "x".repeat(400_000);
    for _ in 0..2 {
        drop(news.send_post(big(), Scope::Global).await.unwrap());
    }
    let (first, second) = (news.clone(), news.clone());
    let first = tokio::spawn(async move { drop(first.send_post(big(), Scope::Global).await) });
    sleep(Duration::from_millis(1)).await;
    let mut second = Box::pin(async move { second.send_post(big(), Scope::Global).await });
    begin(&mut second);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    drop(second);
}

/// Which of the two finds that nobody is left is a matter of nanoseconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_left_by_its_last_subscriber_beside_its_last_handle() {
    const EACH: usize = 500;
    let driver = Scripted::default();
    let mut options = options();
    options.unsubscribe_delay = Duration::from_millis(1);
    let broker = driver.connect(options).await.unwrap();
    for round in 0..8 {
        let (mut subscriptions, mut handles) = (Vec::new(), Vec::new());
        for n in 0..EACH {
            let name = format!("{round}.{n}");
            subscriptions.push(broker.subscribe(&name).await.unwrap());
            handles.push(broker.channel::<Note>(&name).unwrap());
        }
        let (barrier, turn) = (Barrier::new(2), AtomicUsize::new(0));
        // Side by side, each a little ahead of the other from time to time.
        let in_step = |n: usize, mine: usize| {
            turn.fetch_add(1, Ordering::SeqCst);
            while turn.load(Ordering::SeqCst) < 2 * (n + 1) {
                std::hint::spin_loop();
            }
            (0..n % 40 * mine).for_each(|_| std::hint::spin_loop());
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                subscriptions.drain(..).enumerate().for_each(|(n, subscription)| {
                    in_step(n, 0);
                    drop(subscription);
                });
            });
            scope.spawn(|| {
                barrier.wait();
                handles.drain(..).enumerate().for_each(|(n, handle)| {
                    in_step(n, 4);
                    drop(handle);
                });
            });
        });
    }
    let left = || !driver.world().subscribed.iter().any(|name| !name.starts_with('$'));
    until("every channel to be unsubscribed", left).await;
}
