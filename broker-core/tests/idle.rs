//! How often a heartbeat is posted to a server that closes idle connections. The time is paused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "this test needs less of it than others")]
mod scripted;

use std::time::Duration;

use scripted::{Scripted, options};
use tokio::time::sleep;

/// How many heartbeats are posted in a minute, with one every five seconds in the options.
async fn heartbeats(idle_limit: Option<Duration>) -> usize {
    let driver = Scripted::default();
    driver.world().idle_limit = idle_limit;
    let broker = driver.connect(options()).await.unwrap();
    let before = driver.world().published.len();
    sleep(Duration::from_secs(60)).await;
    let posted = driver.world().published.len() - before;
    assert!(broker.health().is_connected());
    broker.close().await;
    posted
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_posted_twice_within_the_idle_limit() {
    assert!((11..=12).contains(&heartbeats(None).await));
    assert!((11..=12).contains(&heartbeats(Some(Duration::from_secs(6))).await));
    assert!((23..=24).contains(&heartbeats(Some(Duration::from_secs(5))).await));
    assert!((119..=120).contains(&heartbeats(Some(Duration::from_secs(1))).await));
}
