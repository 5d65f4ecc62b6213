//! Revocation, under paused time, over a driver that follows the script of the test: what the log, the announcement and the
//! lease do when they work, and when they do not.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "the driver has knobs for other tests, too")]
mod scripted;
mod signing_in;

use std::time::{Duration, Instant};

use broker_core::{Broker, ErrorKind, FailMode, Identity, Revocation, RevocationOutcome, Scope, Uncertainty};
use bytes::Bytes;
use scripted::{Scripted, options};
use signing_in::{sign_in, uncertainty, until, with_log};
use tokio::time::sleep;

/// Where the announcements stand among what was published.
fn announcements(driver: &Scripted) -> Vec<usize> {
    let world = driver.world();
    let announcement = |(place, out): (usize, &broker_core::driver::Outgoing)| {
        (out.channel.as_str() == "$revocations").then_some(place)
    };
    world.published.iter().enumerate().filter_map(announcement).collect()
}

#[tokio::test(start_paused = true)]
async fn anonymous_sessions_need_no_log() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    drop(broker.session());
    sleep(Duration::from_secs(3600)).await;
    let asked = driver.world().asked.clone();
    assert_eq!(asked, [&format!("$node.{}", broker.node_id()), "$digests"]);
    assert!(broker.health().is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_new_link_reads_the_log_before_anything_is_subscribed_and_again_after() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    let _ada = sign_in(&broker).await;
    let _news = broker.subscribe("news").await.unwrap();
    driver.world().asked.clear();
    driver.lose();
    until("another link", || broker.health().links == 2).await;
    let node = format!("$node.{}", broker.node_id());
    assert_eq!(driver.world().asked[..6], ["read", &node, "$digests", "$revocations", "news", "read"]);
}

#[tokio::test(start_paused = true)]
async fn the_log_is_polled() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    let _ada = sign_in(&broker).await;
    driver.world().asked.clear();
    sleep(options().revocation_poll * 100).await;
    let reads = driver.world().asked.len();
    assert!((80..=125).contains(&reads), "{reads}");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_without_a_log_is_announced() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let ada = sign_in(&broker).await;
    assert_eq!(broker.revoke(Revocation::user("ada")).await.unwrap(), RevocationOutcome::Announced);
    assert!(ada.is_closed());
    assert!(!announcements(&driver).is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_log_a_disconnect_closes_identified_sessions() {
    for (keep, gap) in [(false, false), (false, true), (true, false), (true, true)] {
        let driver = Scripted::default();
        let mut options = options();
        if keep {
            options.on_unlogged_gap = FailMode::Open;
        }
        let broker = driver.connect(options).await.unwrap();
        let (ada, anonymous) = (sign_in(&broker).await, broker.session());
        if gap {
            driver.world().inboxes.last().unwrap().gap();
        } else {
            driver.lose();
            until("another link", || broker.health().links == 2).await;
        }
        assert_eq!(ada.is_closed(), !keep, "gap: {gap}");
        if !keep {
            assert_eq!(uncertainty(&ada).await, Uncertainty::Unlogged);
        }
        assert!(!anonymous.is_closed());
        assert!(!sign_in(&broker).await.is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_log_error_fails_at_once() {
    for kind in [ErrorKind::Forbidden, ErrorKind::Misconfigured] {
        let driver = with_log();
        driver.world().log.as_mut().unwrap().refuse_append = Some(kind);
        let broker = driver.connect(options()).await.unwrap();
        let ada = sign_in(&broker).await;
        let begun = tokio::time::Instant::now();
        let error = broker.revoke(Revocation::user("ada")).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains("perhaps not on others"), "{error}");
        assert!(ada.is_closed() && !announcements(&driver).is_empty());

        driver.world().log.as_mut().unwrap().refuse_read = Some(kind);
        let fresh = driver.connect(options()).await.unwrap();
        let error = fresh.session_for(Identity::new("ada", Instant::now())).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(fresh.health().is_connected());
    }
}

#[tokio::test(start_paused = true)]
async fn without_permission_for_announcements_no_user_session_opens() {
    let driver = with_log();
    driver.world().forbidden.insert("$revocations".to_owned());
    let broker = driver.connect(options()).await.unwrap();
    let error = broker.session_for(Identity::new("ada", Instant::now())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    broker.publish("news", "life goes on", Scope::Global).await.unwrap();
    assert_eq!((broker.health().links, broker.health().is_connected()), (1, true));
    driver.world().forbidden.clear();
    sleep(options().revocation_poll * 2).await;
    assert!(!sign_in(&broker).await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_transient_log_error_is_retried() {
    let driver = with_log();
    driver.world().log.as_mut().unwrap().refuse_append = Some(ErrorKind::Unavailable);
    driver.world().log.as_mut().unwrap().refuse_read = Some(ErrorKind::Unavailable);
    let broker = driver.connect(options()).await.unwrap();
    let tried = driver.clone();
    let recover = async {
        until("some tries", || tried.world().log.as_ref().unwrap().appends > 3).await;
        let mut world = tried.world();
        let log = world.log.as_mut().unwrap();
        (log.refuse_append, log.refuse_read) = (None, None);
    };
    let (outcome, opened, ()) =
        tokio::join!(broker.revoke(Revocation::user("eve")), sign_in(&broker), recover);
    assert_eq!(outcome.unwrap(), RevocationOutcome::Logged);
    assert!(!opened.is_closed());
    assert_eq!(broker.health().links, 1);
}

#[tokio::test(start_paused = true)]
async fn an_absent_log_fails_within_the_limit() {
    let driver = with_log();
    driver.world().log.as_mut().unwrap().refuse_append = Some(ErrorKind::Unavailable);
    let broker = driver.connect(options()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = broker.revoke(Revocation::user("ada")).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), options().revoke_timeout.as_secs());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("the test refuses to append"), "{error}");
    // Nobody waits for it any more, so it is given up.
    let tries = driver.world().log.as_ref().unwrap().appends;
    sleep(Duration::from_secs(60)).await;
    assert!(driver.world().log.as_ref().unwrap().appends <= tries + 1);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_append_continues_on_the_next_link() {
    let driver = with_log();
    driver.world().log.as_mut().unwrap().hang_append = true;
    let mut options = options();
    options.revoke_timeout = Duration::from_secs(600);
    let broker = driver.connect(options).await.unwrap();
    let world = driver.clone();
    let heal = async {
        until("the link to be given up", || broker.health().failures > 0).await;
        world.world().log.as_mut().unwrap().hang_append = false;
    };
    let (outcome, ()) = tokio::join!(broker.revoke(Revocation::user("ada")), heal);
    assert_eq!(outcome.unwrap(), RevocationOutcome::Logged);
    assert_eq!(driver.world().log.as_ref().unwrap().records.len(), 1);
}

/// How long the frame of an announcement is that has no record.
const HEAD: usize = 35;

#[tokio::test(start_paused = true)]
async fn foreign_announcements_do_no_harm() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    let ada = sign_in(&broker).await;
    let inbox = driver.world().inboxes.last().cloned().unwrap();
    inbox.deliver("$revocations", Bytes::from_static(b"hello"));
    broker.publish("news", "a frame of ours", Scope::Global).await.unwrap();
    // Of another node: a frame of ours, whose payload is no record.
    let mut frame = driver.world().published.last().unwrap().frame().to_vec();
    frame[4] ^= 1;
    inbox.deliver("$revocations", frame.into());
    broker.publish("news", "and on", Scope::Global).await.unwrap();
    assert!(!ada.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_announcement_overtakes_queued_posts() {
    let driver = with_log();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().slow_publish = Duration::from_millis(10);
    // To two channels by turns, so that no two go together.
    let post = |n: usize| broker.publish(["news", "olds"][n % 2], n.to_string(), Scope::Global);
    let posts = (0..5000).map(post);
    let posts = futures_util::future::join_all(posts);
    let (revoked, _) = tokio::join!(broker.revoke(Revocation::user("ada")), posts);
    revoked.unwrap();
    let last = *announcements(&driver).last().unwrap();
    assert!(last < 3 * 1024, "{:?} of {}", announcements(&driver), driver.world().published.len());
    assert!(driver.world().published.len() > 5000);
}

#[tokio::test(start_paused = true)]
async fn the_lease_counts_from_the_last_read_that_was_complete() {
    let driver = with_log();
    let mut options = options();
    options.revocation_lease = Duration::from_secs(60);
    let broker = driver.connect(options).await.unwrap();
    let ada = sign_in(&broker).await;
    sleep(Duration::from_secs(600)).await;
    assert!(!ada.is_closed(), "it is renewed");
    // The link lives, and every echo comes back; but nobody can read the log.
    driver.world().log.as_mut().unwrap().refuse_read = Some(ErrorKind::Forbidden);
    assert_eq!(uncertainty(&ada).await, Uncertainty::LeaseExpired);
    let error = broker.session_for(Identity::new("ada", Instant::now())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    driver.world().log.as_mut().unwrap().refuse_read = None;
    sleep(Duration::from_secs(60)).await;
    assert!(!sign_in(&broker).await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn without_a_log_the_lease_counts_from_the_last_echo() {
    let driver = Scripted::default();
    let mut options = options();
    options.revocation_lease = Duration::from_secs(60);
    options.on_unlogged_gap = FailMode::Open;
    let broker = driver.connect(options).await.unwrap();
    let ada = sign_in(&broker).await;
    sleep(Duration::from_secs(600)).await;
    assert!(!ada.is_closed());
    driver.world().refuse_connect = Some(ErrorKind::Unavailable);
    driver.lose();
    assert_eq!(uncertainty(&ada).await, Uncertainty::LeaseExpired);
    driver.world().refuse_connect = None;
    until("another link", || broker.health().is_connected()).await;
    assert!(!sign_in(&broker).await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_closed_broker_refuses_revocations_at_once() {
    let driver = with_log();
    driver.world().log.as_mut().unwrap().refuse_append = Some(ErrorKind::Unavailable);
    driver.world().log.as_mut().unwrap().refuse_read = Some(ErrorKind::Unavailable);
    let broker = driver.connect(options()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let close = async {
        tokio::task::yield_now().await;
        broker.close().await;
    };
    let (revoked, opened, ()) = tokio::join!(
        broker.revoke(Revocation::user("ada")),
        broker.session_for(Identity::new("ada", Instant::now())),
        close
    );
    assert_eq!(revoked.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(broker.revoke(Revocation::user("ada")).await.unwrap_err().kind(), ErrorKind::Closed);
    let opened = broker.session_for(Identity::new("ada", Instant::now())).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Closed);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_local_broker_revokes_its_own_sessions() {
    let broker = Broker::local();
    let ada = sign_in(&broker).await;
    assert_eq!(broker.revoke(Revocation::user("ada")).await.unwrap(), RevocationOutcome::Local);
    assert!(ada.is_closed() && !sign_in(&broker).await.is_closed());
}
