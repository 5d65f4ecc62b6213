//! What a node does when the revocation log has lost its past, or was never there.

#![allow(clippy::unwrap_used, reason = "a test")]
mod scripted;
mod signing_in;

use std::time::{Duration, Instant};

use broker_core::{
    ErrorKind, Identity, Revocation, RevocationOutcome, Uncertainty, driver::LogDiscontinuity,
};
use bytes::Bytes;
use scripted::{Scripted, options};
use signing_in::{sign_in, uncertainty, until, with_log};
use tokio::time::sleep;

/// How long the frame of an announcement is that has no record.
const HEAD: usize = 35;

#[tokio::test(start_paused = true)]
async fn a_log_that_loses_confirmed_records_is_detected() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    let eve = broker.session_for(Identity::new("eve", Instant::now())).await.unwrap();
    driver.world().log.as_mut().unwrap().forget = true;
    assert_eq!(broker.revoke(Revocation::user("ada")).await.unwrap(), RevocationOutcome::Logged);
    assert_eq!(uncertainty(&eve).await, Uncertainty::LogBroken(LogDiscontinuity::Forgotten));
    driver.world().log.as_mut().unwrap().forget = false;
    until("the record to be stored again", || !driver.world().log.as_ref().unwrap().records.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn own_revocations_in_the_log_are_no_break() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    let eve = broker.session_for(Identity::new("eve", Instant::now())).await.unwrap();
    for number in 0..300 {
        broker.revoke(Revocation::user(format!("user {number}"))).await.unwrap();
        tokio::task::yield_now().await;
    }
    let all = (0..300).map(|number| broker.revoke(Revocation::user(format!("other {number}"))));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    sleep(options().revocation_poll * 3).await;
    assert!(!eve.is_closed());
    assert_eq!(driver.world().log.as_ref().unwrap().records.len(), 600);
}

#[tokio::test(start_paused = true)]
async fn an_announced_log_break_stores_known_records_again() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    let eve = broker.session_for(Identity::new("eve", Instant::now())).await.unwrap();
    broker.revoke(Revocation::user("ada")).await.unwrap();
    sleep(options().revocation_poll * 2).await;
    driver.world().log.as_mut().unwrap().records.clear();
    // Of another node: a frame without a payload, whose head is 35 bytes long.
    let mut announcement = driver.world().published.last().unwrap().frame()[..35].to_vec();
    announcement[4] ^= 1;
    let inbox = driver.world().inboxes.last().cloned().unwrap();
    inbox.deliver("$revocations", announcement.into());
    until("the record to be stored again", || !driver.world().log.as_ref().unwrap().records.is_empty()).await;
    assert!(!eve.is_closed());
}

/// Announcements without a record, which ask every node to store what it has.
fn alarms(driver: &Scripted) -> usize {
    let world = driver.world();
    let empty =
        |out: &&broker_core::driver::Outgoing| out.channel.as_str() == "$revocations" && out.size() == HEAD;
    world.published.iter().filter(empty).count()
}

/// What another node has revoked, as it stands in its log.
async fn record_of_another(user: &str) -> Bytes {
    let other = with_log();
    let broker = other.connect(options()).await.unwrap();
    broker.revoke(Revocation::user(user)).await.unwrap();
    other.world().log.as_ref().unwrap().records[0].clone()
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_log_waits_for_the_records_of_others() {
    let began = Instant::now();
    let record = record_of_another("ada").await;
    let driver = with_log();
    driver.world().log.as_mut().unwrap().missing = true;
    let broker = driver.connect(options()).await.unwrap();
    let world = driver.clone();
    let remember = async {
        until("the question", || alarms(&world) == 1).await;
        // The last of those who remember takes its time.
        sleep(Duration::from_millis(1100)).await;
        world.world().log.as_mut().unwrap().records.push(record);
    };
    let since = tokio::time::Instant::now();
    let opened = broker.session_for(Identity::new("ada", began));
    let (opened, ()) = tokio::join!(opened, remember);
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Revoked);
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    // From then on nobody waits.
    let since = tokio::time::Instant::now();
    assert!(!sign_in(&broker).await.is_closed());
    assert!(since.elapsed().is_zero());
    sleep(options().revocation_poll * 10).await;
    assert_eq!(alarms(&driver), 1);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_on_a_new_log_names_the_reason() {
    let driver = with_log();
    driver.world().log.as_mut().unwrap().missing = true;
    let mut options = options();
    options.subscribe_timeout = Duration::from_millis(500);
    let broker = driver.connect(options).await.unwrap();
    let error = broker.session_for(Identity::new("ada", Instant::now())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("restored from other nodes"), "{error}");
    sleep(Duration::from_secs(2)).await;
    assert!(!sign_in(&broker).await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_link_lost_at_a_new_log_is_followed_by_the_next() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    {
        let mut world = driver.world();
        world.log.as_mut().unwrap().missing = true;
        world.hang_publish = true;
    }
    let world = driver.clone();
    let heal = async {
        until("the log to be read", || !world.world().log.as_ref().unwrap().missing).await;
        driver.lose();
        until("another link to be tried", || world.world().connects.len() > 1).await;
        let mut world = world.world();
        world.hang_publish = false;
        world.published.clear();
    };
    let (ada, ()) = tokio::join!(sign_in(&broker), heal);
    assert!(!ada.is_closed());
    assert_eq!(alarms(&driver), 1);
}

#[tokio::test(start_paused = true)]
async fn records_stored_again_are_announced_to_earlier_readers() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    broker.revoke(Revocation::user("ada")).await.unwrap();
    sleep(options().revocation_poll * 2).await;
    driver.world().log.as_mut().unwrap().records.clear();
    let mut announcement = driver.world().published.last().unwrap().frame()[..HEAD].to_vec();
    announcement[4] ^= 1;
    let inbox = driver.world().inboxes.last().cloned().unwrap();
    inbox.deliver("$revocations", announcement.into());
    until("the announcement", || alarms(&driver) == 1).await;
    assert_eq!(driver.world().log.as_ref().unwrap().records.len(), 1);
    sleep(options().revocation_poll * 10).await;
    assert_eq!(alarms(&driver), 1);
}
