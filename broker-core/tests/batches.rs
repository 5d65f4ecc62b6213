//! Batches: which posts go to the backend together.

#![allow(clippy::unwrap_used, reason = "a test")]
mod scripted;

use std::time::Duration;

use broker_core::Scope;
use scripted::{Scripted, options};
use tokio::task::JoinSet;

const CALLERS: usize = 64;
const ROUNDS: usize = 10;

/// On a worker that, as all do, runs at once whatever a task has just woken: the first caller would wake the writer, and it
/// would send that post alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_that_post_again_share_the_next_batch() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().slow_publish = Duration::from_millis(5);
    driver.world().published.clear();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let broker = broker.clone();
        callers.spawn(async move {
            for _ in 0..ROUNDS {
                broker.publish("news", "x", Scope::Global).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    // All posts to one channel that go together are one frame. The callers begin one after the other.
    let batches = driver.world().published.len();
    assert!((ROUNDS..=ROUNDS + 3).contains(&batches), "{batches} batches");
}
