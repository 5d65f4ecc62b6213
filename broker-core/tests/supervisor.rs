//! The supervisor, under paused time, over a driver that follows the script of the test.

#![allow(clippy::unwrap_used, reason = "a test")]
mod scripted;

use std::time::Duration;

use broker_core::{Broker, ConnectionState, ErrorKind, Event, Gap, GapCause, Scope, Subscription};
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

async fn disconnected(broker: &Broker) {
    until("the link is given up", || !broker.health().is_connected()).await;
}

#[tokio::test(start_paused = true)]
async fn connect_returns_the_first_failure() {
    let driver = Scripted::default();
    driver.world().refuse_connect = Some(ErrorKind::Forbidden);
    let error = driver.connect(options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    assert_eq!((error.operation(), error.backend()), (Some("connect"), Some("scripted")));
    assert_eq!(driver.world().connects.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn connecting_to_a_silent_server_fails_within_the_limit() {
    let driver = Scripted::default();
    driver.world().hang_connect = true;
    let begun = Instant::now();
    let error = driver.connect(options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), options().connect_timeout.as_secs());
}

#[tokio::test(start_paused = true)]
async fn retries_back_off_with_jitter_and_a_bound_and_end_with_the_broker() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().refuse_connect = Some(ErrorKind::Unavailable);
    driver.lose();
    sleep(Duration::from_secs(60)).await;
    let connects = driver.world().connects.clone();
    let waits: Vec<Duration> = connects[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((10..60).contains(&waits.len()), "{} attempts in a minute", waits.len());
    // Never more than the longest, and a millisecond of the timer's.
    let most = options().backoff_max + Duration::from_millis(1);
    assert!(waits.iter().all(|wait| *wait <= most), "{waits:?}");
    let long: Vec<_> = waits.iter().filter(|wait| **wait >= options().backoff_max / 2).collect();
    assert!(long.len() > 5 && long.iter().any(|wait| *wait != long[0]), "no jitter: {waits:?}");
    assert_eq!(broker.health().failures as usize, connects.len());
    broker.close().await;
    let attempts = driver.world().connects.len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(driver.world().connects.len(), attempts);
    assert_eq!(broker.health().state, ConnectionState::Closed);
}

/// Not how the last link ended, once it is known why there is no other one.
#[tokio::test(start_paused = true)]
async fn every_call_names_the_reason_of_the_last_attempt() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().refuse_connect = Some(ErrorKind::Forbidden);
    driver.lose();
    let names = async |failures, reason| {
        until("the attempt", || broker.health().failures >= failures).await;
        let posted = broker.publish("news", "x", Scope::Global).await.unwrap_err();
        assert_eq!(posted.kind(), ErrorKind::Unavailable);
        assert!(posted.message().ends_with(reason), "{posted}");
    };
    names(1, "the test broke it").await;
    names(2, "the test refuses: Forbidden").await;
    let subscribed = broker.subscribe("news").await.unwrap_err();
    assert!(subscribed.message().ends_with("the test refuses: Forbidden"), "{subscribed}");
    driver.world().refuse_connect = Some(ErrorKind::Misconfigured);
    names(broker.health().failures + 1, "the test refuses: Misconfigured").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_echo_ends_the_link() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    driver.world().swallow = true;
    let begun = Instant::now();
    disconnected(&broker).await;
    assert!(begun.elapsed() <= options().heartbeat + options().heartbeat_timeout + Duration::from_millis(10));
    assert!(broker.health().last_error.unwrap().to_string().contains("no echo of the probe"));
    // Still swallowed: a link that opens but does not echo is not `Connected`.
    sleep(Duration::from_secs(30)).await;
    assert!(!broker.health().is_connected());
    driver.world().swallow = false;
    broker.ready().await.unwrap();
    assert_eq!(gap(&mut news).await.cause, GapCause::LinkLost);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_sent_every_heartbeat() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let before = driver.world().published.len();
    sleep(options().heartbeat * 10 + Duration::from_secs(1)).await;
    assert_eq!(driver.world().published.len() - before, 10);
    assert!(broker.health().is_connected());
}

#[tokio::test(start_paused = true)]
async fn the_gap_stands_before_the_first_message_of_the_new_link() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "one", Scope::Global).await.unwrap();
    let frame = driver.world().published.last().cloned();
    driver.world().early = frame;
    driver.lose();
    disconnected(&broker).await;
    broker.ready().await.unwrap();
    broker.publish("news", "two", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "one");
    let told = gap(&mut news).await;
    assert_eq!((told.missed, told.cause), (None, GapCause::LinkLost));
    // What was delivered before the link was up lies in the gap.
    assert_eq!(payload(&mut news).await, "two");
}

#[tokio::test(start_paused = true)]
async fn frames_of_a_dead_link_are_discarded() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "one", Scope::Global).await.unwrap();
    let late = driver.world().published.last().cloned().unwrap();
    let dead = driver.world().inboxes.last().cloned().unwrap();
    driver.lose();
    disconnected(&broker).await;
    broker.ready().await.unwrap();
    dead.deliver(late.channel.as_str(), late.frame());
    broker.publish("news", "two", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "one");
    assert_eq!(gap(&mut news).await.cause, GapCause::LinkLost);
    assert_eq!(payload(&mut news).await, "two");
}

#[tokio::test(start_paused = true)]
async fn messages_dropped_by_the_client_are_a_gap_on_every_channel() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut both = [broker.subscribe("a").await.unwrap(), broker.subscribe("b").await.unwrap()];
    let inbox = driver.world().inboxes.last().cloned().unwrap();
    inbox.gap();
    for subscription in &mut both {
        assert_eq!(gap(subscription).await.cause, GapCause::Dropped);
    }
    assert!(broker.health().is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_publish_interrupts_sent_posts_and_fails_the_rest() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().hang_publish = true;
    let first = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish("news", "sent", Scope::Global).await }
    });
    until("the first probe, then ours", || driver.world().published.len() == 2).await;
    let second = timeout(Duration::from_secs(600), broker.publish("news", "queued", Scope::Global));
    let second = second.await.expect("an outcome").unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Unavailable);
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
    let third = timeout(Duration::ZERO, broker.publish("news", "late", Scope::Global)).await;
    assert_eq!(third.expect("at once").unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_post_without_room_in_time_is_overloaded_and_others_go_out() {
    let driver = Scripted::default();
    let mut options = options();
    options.outbox_bytes = 1_000_000;
    let broker = driver.connect(options).await.unwrap();
    driver.world().slow_publish = Duration::from_millis(1500);
    let post = || {
        let broker = broker.clone();
        tokio::spawn(async move { broker.publish("news", vec![0; 400_000], Scope::Global).await })
    };
    // Room for two, a batch every 1.5 s, and patience for 2 s: the first four go out.
    let posts: Vec<_> = (0..6).map(|_| post()).collect();
    let mut outcomes = Vec::new();
    for post in posts {
        outcomes.push(post.await.unwrap().map(drop).map_err(|error| error.kind()));
    }
    assert_eq!(
        outcomes,
        [Ok(()), Ok(()), Ok(()), Ok(()), Err(ErrorKind::Overloaded), Err(ErrorKind::Overloaded)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_outcomes_ends_the_link() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().miscount = true;
    let error = broker.publish("news", "x", Scope::Global).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    driver.world().miscount = false;
    disconnected(&broker).await;
    broker.ready().await.unwrap();
    broker.publish("news", "x", Scope::Global).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_refused_channel_of_thousands_is_found() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut all = Vec::new();
    for n in 0..3000 {
        all.push(broker.subscribe(format!("c{n}")).await.unwrap());
    }
    driver.world().forbidden.insert("c1234".to_owned());
    driver.world().subscribe_calls = 0;
    driver.lose();
    disconnected(&broker).await;
    broker.ready().await.unwrap();
    let calls = driver.world().subscribe_calls;
    assert!(calls < 40, "{calls} calls to find one name");
    assert_eq!(driver.world().subscribed.len(), 3001); // 2,999, the probe's own and that of the digests
    for (n, subscription) in all.iter_mut().enumerate() {
        match n {
            1234 => assert!(next(subscription).await.is_none()),
            _ => assert_eq!(gap(subscription).await.cause, GapCause::LinkLost),
        }
    }
    let reason = all[1234].close_reason().unwrap().to_string();
    assert!(reason.contains("refused") && reason.contains("c1234"), "{reason}");
    let error = broker.subscribe("c1234").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn the_last_subscriber_unsubscribes_after_the_delay() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let news = broker.subscribe("news").await.unwrap();
    let calls = driver.world().subscribe_calls;
    drop(news);
    sleep(Duration::from_millis(900)).await;
    let news = broker.subscribe("news").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(driver.world().subscribed.contains("news"));
    assert_eq!(driver.world().subscribe_calls, calls, "the reload was seen at the backend");
    drop(news);
    sleep(Duration::from_millis(900)).await;
    assert!(driver.world().subscribed.contains("news"));
    sleep(Duration::from_millis(200)).await;
    assert!(!driver.world().subscribed.contains("news"));
}

/// A backend that queues for a link may deliver late what it queued before: with a hole behind it.
#[tokio::test(start_paused = true)]
async fn a_resubscribed_channel_does_not_begin_with_old_frames() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    drop(broker.subscribe("news").await.unwrap());
    driver.world().swallow = true;
    until("the channel to be left", || !driver.world().subscribed.contains("news")).await;
    let other = broker.clone();
    let again = tokio::spawn(async move { other.subscribe("news").await.unwrap() });
    sleep(Duration::from_millis(100)).await;
    assert!(!driver.world().subscribed.contains("news"), "subscribed while a rest is under way");
    driver.world().swallow = false;
    let inbox = driver.world().inboxes.last().unwrap().clone();
    let sweep = driver.world().published.last().unwrap().clone();
    inbox.deliver("news", b"a rest"[..].into());
    inbox.deliver(sweep.channel.as_str(), sweep.frame());
    let mut again = again.await.unwrap();
    broker.publish("news", "new", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut again).await, "new");
}

#[tokio::test(start_paused = true)]
async fn subscribing_without_a_link_waits_then_fails_or_succeeds() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().refuse_connect = Some(ErrorKind::Unavailable);
    driver.lose();
    disconnected(&broker).await;
    let error = broker.subscribe("news").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.subscribe("news").await }
    });
    sleep(Duration::from_secs(1)).await;
    driver.world().refuse_connect = None;
    let mut news = waiting.await.unwrap().unwrap();
    broker.ready().await.unwrap();
    broker.publish("news", "hello", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_link() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let news = broker.subscribe("news").await.unwrap();
    drop(broker);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(driver.world().closes, 0, "a subscription keeps its broker");
    drop(news);
    until("the link is closed", || driver.world().closes == 1).await;
}

/// Whoever sees the gap asks for the present state, by a post.
#[tokio::test(start_paused = true)]
async fn a_post_in_answer_to_a_gap_goes_out() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "one", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "one");
    // The next link delivers at once, and takes its time before it answers an own post.
    let frame = driver.world().published.last().cloned();
    driver.world().early = frame;
    driver.world().slow_publish = Duration::from_millis(500);
    driver.lose();
    assert_eq!(gap(&mut news).await.cause, GapCause::LinkLost);
    assert!(broker.health().is_connected());
    broker.publish("news", "who has the state?", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "who has the state?");
}

/// So it is for whoever has waited for a subscription.
#[tokio::test(start_paused = true)]
async fn a_post_behind_a_subscription_that_waited_goes_out() {
    let driver = Scripted::default();
    driver.world().slow_publish = Duration::from_millis(500);
    let broker = Broker::start(std::sync::Arc::new(driver.clone()), options()).unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "at once", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "at once");
}

#[tokio::test(start_paused = true)]
async fn a_link_lost_before_it_is_up_is_part_of_the_gap() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "one", Scope::Global).await.unwrap();
    // The second link delivers a message, and dies before it has confirmed the channel.
    let frame = driver.world().published.last().cloned();
    driver.world().early = frame;
    driver.world().hang_subscribe = true;
    driver.lose();
    disconnected(&broker).await;
    until("the second link has delivered", || driver.world().early.is_none()).await;
    driver.world().hang_subscribe = false;
    driver.lose();
    broker.ready().await.unwrap();
    broker.publish("news", "two", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "one");
    assert_eq!(gap(&mut news).await.cause, GapCause::LinkLost);
    assert_eq!(payload(&mut news).await, "two");
}

#[tokio::test(start_paused = true)]
async fn a_late_gap_of_a_dead_link_is_discarded() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let dead = driver.world().inboxes.last().cloned().unwrap();
    driver.lose();
    disconnected(&broker).await;
    broker.ready().await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    dead.gap();
    broker.publish("news", "one", Scope::Global).await.unwrap();
    assert_eq!(payload(&mut news).await, "one");
}
