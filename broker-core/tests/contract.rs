//! What a link may say beyond frames: gaps of a part, channels that lapse, several paths, several batches at once.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{num::NonZero, time::Duration};

use broker_core::{
    Broker, ChannelName, Error, ErrorKind, Event, Gap, GapCause, OrderGuarantee, Raw, Scope, Subscription,
    driver::probe_channel,
};
use scripted::{Scripted, options, steps::until};
use tokio::time::timeout;

mod scripted;

/// In paused time, so that nothing hangs.
const LIMIT: Duration = Duration::from_secs(600);

fn name(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

async fn connected() -> (Scripted, Broker) {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    (driver, broker)
}

async fn next(subscription: &mut Subscription) -> Event {
    timeout(LIMIT, subscription.next()).await.expect("an event").expect("no end")
}

async fn text(subscription: &mut Subscription) -> String {
    match next(subscription).await {
        Event::Message(message) => String::from_utf8(message.payload().unwrap().into()).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn dropped(subscription: &mut Subscription) {
    let event = next(subscription).await;
    assert!(matches!(event, Event::Gap(Gap { cause: GapCause::Dropped, missed: None, .. })), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gap_on_some_channels_is_delivered_on_these_only() {
    let (driver, broker) = connected().await;
    let (mut hit, mut spared) =
        (broker.subscribe("hit").await.unwrap(), broker.subscribe("spared").await.unwrap());
    driver.inbox().gap_on(&[name("hit"), name("nobody.listens")]);
    for (subscription, channel) in [(&mut hit, "hit"), (&mut spared, "spared")] {
        broker.publish(channel, "after", Scope::Global).await.unwrap();
        if channel == "hit" {
            dropped(subscription).await;
        }
        assert_eq!(text(subscription).await, "after");
    }
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_one_node_is_delivered_on_every_channel() {
    let (driver, broker) = connected().await;
    let (mut one, mut two) = (broker.subscribe("one").await.unwrap(), broker.subscribe("two").await.unwrap());
    driver.inbox().gap_from(broker.node_id());
    dropped(&mut one).await;
    dropped(&mut two).await;
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_channel_is_resubscribed_with_a_gap() {
    let (driver, broker) = connected().await;
    let (mut lapsed, mut kept) =
        (broker.subscribe("lapsed").await.unwrap(), broker.subscribe("kept").await.unwrap());
    broker.publish("lapsed", "before", Scope::Global).await.unwrap();
    assert_eq!(text(&mut lapsed).await, "before");
    driver.world().subscribed.remove("lapsed");
    broker.publish("lapsed", "lost", Scope::Global).await.unwrap();
    driver.inbox().unsubscribed(&[name("lapsed"), name("never.wanted")]);
    dropped(&mut lapsed).await;
    assert!(driver.world().subscribed.contains("lapsed"));
    broker.publish("lapsed", "after", Scope::Global).await.unwrap();
    broker.publish("kept", "all the while", Scope::Global).await.unwrap();
    assert_eq!(text(&mut lapsed).await, "after");
    assert_eq!(text(&mut kept).await, "all the while");
    assert_eq!(broker.health().links, 1);
    broker.close().await;
}

/// What the new subscription delivers before it is confirmed comes after what was lost, also without a frame.
#[tokio::test(start_paused = true)]
async fn a_gap_stands_before_a_payload_without_a_frame() {
    let driver = Scripted::default();
    let broker = driver.connect(options().accept_raw("raw", Raw::Bytes)).await.unwrap();
    let mut raw = broker.subscribe("raw").await.unwrap();
    broker.post_raw("raw", "21.5").await.unwrap();
    assert_eq!(text(&mut raw).await, "21.5");
    let bare = driver.world().published.last().cloned();
    driver.world().early = bare;
    driver.inbox().unsubscribed(&[name("raw")]);
    dropped(&mut raw).await;
    assert_eq!(text(&mut raw).await, "21.5");
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_channel_is_subscribed_when_it_can_be_and_not_before() {
    let (driver, broker) = connected().await;
    let mut suspended = broker.subscribe("suspended").await.unwrap();
    let times =
        |driver: &Scripted, wanted: &str| driver.world().asked.iter().filter(|name| *name == wanted).count();
    driver.world().subscribed.remove("suspended");
    driver.inbox().suspended(&[name("suspended")]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(times(&driver, "suspended"), 1, "nobody asks for it");
    assert_eq!(broker.health().links, 1);
    driver.inbox().unsubscribed(&[name("suspended"), name("never.wanted")]);
    let event = next(&mut suspended).await;
    assert!(matches!(event, Event::Gap(Gap { cause: GapCause::LinkLost, missed: None, .. })), "{event:?}");
    broker.publish("suspended", "after", Scope::Global).await.unwrap();
    assert_eq!(text(&mut suspended).await, "after");
    assert_eq!((times(&driver, "suspended"), times(&driver, "never.wanted")), (2, 0));
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_subscribes_a_suspended_channel_waits_for_it() {
    let (driver, broker) = connected().await;
    driver.world().suspending.insert("shut".to_owned());
    let (opening, inbox) = (broker.subscribe("shut"), driver.inbox());
    tokio::pin!(opening);
    assert!(timeout(Duration::from_secs(1), &mut opening).await.is_err(), "it is not subscribed yet");
    let _another = broker.subscribe("another").await.unwrap();
    driver.world().suspending.clear();
    inbox.unsubscribed(&[name("shut")]);
    let mut shut = opening.await.unwrap();
    broker.publish("shut", "open", Scope::Global).await.unwrap();
    assert_eq!(text(&mut shut).await, "open");
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_out_of_reach_is_shown_until_it_is_back() {
    let (driver, broker) = connected().await;
    let mut changes = broker.health_changes();
    assert!(changes.next().await.unwrap().degraded.is_none());
    for why in ["one master is away", "another is away"] {
        driver.inbox().degraded(Some(Error::new(ErrorKind::Unavailable, why)));
        let shown = || broker.health().degraded.is_some_and(|error| error.message() == why);
        until("the part is shown", shown).await;
    }
    let health = changes.next().await.unwrap();
    assert!(health.is_connected() && health.degraded.is_some(), "{health:?}");
    driver.inbox().degraded(None);
    assert!(changes.next().await.unwrap().degraded.is_none());
    // It says nothing of the next link.
    driver.inbox().degraded(Some(Error::new(ErrorKind::Unavailable, "one master is away")));
    driver.inbox().lost(Error::new(ErrorKind::Unavailable, "all are away"));
    until("the next link", || broker.health().links == 2).await;
    assert!(broker.health().degraded.is_none());
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_without_its_probe_channel_is_given_up() {
    let (driver, broker) = connected().await;
    let mut health = broker.health_changes();
    let own = driver.world().subscribed.iter().find(|name| name.starts_with("$node.")).cloned().unwrap();
    let own =
        driver.world().published.iter().find(|out| out.channel.as_str() == own).unwrap().channel.clone();
    driver.inbox().unsubscribed(&[own]);
    while broker.health().links < 2 {
        health.next().await.unwrap();
    }
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_of_two_shards_is_given_up_when_one_dies() {
    let driver = Scripted::default();
    driver.world().shards = 2;
    let broker = driver.connect(options()).await.unwrap();
    let probes = |driver: &Scripted| -> Vec<String> {
        driver.world().subscribed.iter().filter(|name| name.starts_with("$node.")).cloned().collect()
    };
    let own = name_of_probe(&broker);
    assert_eq!(probes(&driver), [format!("{own}.0"), format!("{own}.1")]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(broker.health().links, 1, "both shards answer");
    driver.world().dead.insert(format!("{own}.1"));
    let mut health = broker.health_changes();
    let given_up = async {
        while broker.health().is_connected() {
            health.next().await.unwrap();
        }
    };
    timeout(LIMIT, given_up).await.expect("the link to be given up");
    let error = broker.health().last_error.unwrap();
    assert!(error.message().contains(&format!("{own}.1")), "{error}");
    driver.world().dead.clear();
    broker.ready().await.unwrap();
    broker.close().await;
}

fn name_of_probe(broker: &Broker) -> String {
    format!("$node.{}", broker.node_id())
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_every_shard() {
    let driver = Scripted::default();
    driver.world().shards = 3;
    let broker = driver.connect(options()).await.unwrap();
    broker.drain().await;
    let own = name_of_probe(&broker);
    for shard in 0..3 {
        let channel = format!("{own}.{shard}");
        // One echo to come up, and two barriers.
        let posts = driver.world().published.iter().filter(|out| out.channel.as_str() == channel).count();
        assert!(posts >= 3, "{channel}: {posts}");
    }
}

#[tokio::test(start_paused = true)]
async fn batches_fill_the_publish_window_in_order() {
    for (window, most) in [(None, 1), (NonZero::new(4), 4)] {
        let driver = Scripted::default();
        driver.world().window = window;
        let broker = driver.connect(options()).await.unwrap();
        let mut all = broker.subscribe("all").await.unwrap();
        driver.world().slow_publish = Duration::from_millis(100);
        driver.world().echo_first = true;
        let mut posts = tokio::task::JoinSet::new();
        for number in 0..12 {
            let poster = broker.clone();
            posts.spawn(async move { poster.publish("all", number.to_string(), Scope::Global).await });
            // One after the other, so that each is a batch of its own.
            while driver.world().published.iter().filter(|out| out.channel.as_str() == "all").count()
                <= number
                && driver.world().under_way < most
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        while let Some(outcome) = posts.join_next().await {
            outcome.unwrap().unwrap();
        }
        assert_eq!(driver.world().most_under_way, most, "window {window:?}");
        for number in 0..12 {
            assert_eq!(text(&mut all).await, number.to_string());
        }
        broker.close().await;
    }
}

/// Several batches are under way when the first of them turns out to be refused.
#[tokio::test(start_paused = true)]
async fn refused_posts_leave_no_gap_also_with_several_batches_under_way() {
    let driver = Scripted::default();
    driver.world().window = NonZero::new(4);
    let broker = driver.connect(options()).await.unwrap();
    let mut all = broker.subscribe("all").await.unwrap();
    broker.publish("all", "first", Scope::Global).await.unwrap();
    driver.world().read_only.insert("all".to_owned());
    driver.world().slow_publish = Duration::from_millis(100);
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..3 {
        for _ in 0..2 {
            let poster = broker.clone();
            posts.spawn(async move { poster.publish("all", "refused", Scope::Global).await });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(outcome) = posts.join_next().await {
        assert_eq!(outcome.unwrap().unwrap_err().kind(), ErrorKind::Forbidden);
    }
    assert_eq!(driver.world().most_under_way, 3);
    driver.world().read_only.clear();
    broker.publish("all", "last", Scope::Global).await.unwrap();
    for expected in ["first", "last"] {
        assert_eq!(text(&mut all).await, expected);
    }
    broker.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_receives_the_node_and_the_prefix() {
    let driver = Scripted::default();
    let mut options = options();
    options.prefix = "shop".to_owned();
    let broker = driver.connect(options).await.unwrap();
    let context = driver.world().contexts[0].clone();
    assert_eq!((context.node_id, &*context.prefix), (broker.node_id(), "shop"));
    let own = ChannelName::new("own").unwrap();
    assert_eq!(probe_channel(&own, 7).as_str(), "own.7");
    broker.close().await;
}

/// A name may lead to another kind of server after a fail-over.
#[tokio::test(start_paused = true)]
async fn the_capabilities_are_those_of_the_last_link() {
    let (driver, broker) = connected().await;
    let ordering = || broker.capabilities().unwrap().ordering;
    assert_eq!(ordering(), OrderGuarantee::PerChannel);
    driver.world().ordering = Some(OrderGuarantee::PerPublisher);
    assert_eq!(ordering(), OrderGuarantee::PerChannel);
    let mut changes = broker.health_changes();
    driver.lose();
    let second = async { while changes.next().await.unwrap().links < 2 {} };
    timeout(LIMIT, second).await.expect("a second link");
    assert_eq!(ordering(), OrderGuarantee::PerPublisher);
    broker.close().await;
}

/// A slow server: an outcome takes longer than the time between two digests.
#[tokio::test(start_paused = true)]
async fn digests_end_when_nothing_is_posted_also_with_several_batches_under_way() {
    for window in [1, 4] {
        let driver = Scripted::default();
        driver.world().window = NonZero::new(window);
        driver.world().slow_publish = Duration::from_millis(1500);
        let mut options = options();
        options.digest_interval = Duration::from_secs(1);
        let broker = driver.connect(options).await.unwrap();
        broker.publish("news", "post", Scope::Global).await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let digests = driver.world().digests.len();
        // The first one of all, that of the post, and an empty one; and what was asked for when nothing was subscribed.
        assert!((2..=4).contains(&digests), "window {window}: {digests} digests");
        broker.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_miscounts_is_broken_before_it_is_up() {
    let driver = Scripted::default();
    driver.world().miscount = true;
    let error = driver.connect(options()).await.unwrap_err();
    assert!(error.message().contains("number of outcomes"), "{error}");
}
