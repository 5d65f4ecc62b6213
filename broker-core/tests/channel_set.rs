//! Sets of channels: what they yield, in which order, within which bound, and how they end.

#![allow(clippy::unwrap_used, reason = "a test")]
#[allow(dead_code, reason = "this test needs less of it than others")]
mod scripted;

use std::time::Duration;

use broker_core::{Broker, CloseReason, ErrorKind, GapCause, Post, Scope, SubscribeOptions};
use futures_util::FutureExt;
use scripted::{
    Scripted, options,
    sets::{Seen, names, next, now, of, post, text},
    steps::{until, within},
};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn a_thousand_channels_join_in_one_batch_and_one_wait() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let session = broker.session();
    let mut set = session.channel_set();
    let before = driver.world().subscribe_calls;
    set.join_all(names(1000)).await.unwrap();
    assert_eq!(driver.world().subscribe_calls, before + 1);
    assert_eq!(set.len(), 1000);
    post(&broker, "c.999", "hello").await;
    assert_eq!(next(&mut set).await, text("c.999", "hello"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_adds_none_of_the_channels() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().forbidden.insert("c.7".to_owned());
    let session = broker.session();
    let mut set = session.channel_set();
    set.join("c.3").await.unwrap();
    let error = set.join_all(names(20)).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Forbidden, Some("join_all")));
    assert_eq!(error.channel().map(|name| name.as_str()), Some("c.7"));
    assert_eq!(set.channels().iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["c.3"]);
    until("the others are left", || {
        driver.world().subscribed.iter().filter(|n| n.starts_with("c.")).count() == 1
    })
    .await;
    post(&broker, "c.4", "nobody").await;
    post(&broker, "c.3", "hello").await;
    assert_eq!(next(&mut set).await, text("c.3", "hello"));
    let error = set.join("not legal").await.unwrap_err();
    assert_eq!((error.kind(), set.len()), (ErrorKind::InvalidInput, 1));
}

#[tokio::test(start_paused = true)]
async fn all_channels_wait_within_one_limit_and_a_dropped_call_adds_none() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().hang_subscribe = true;
    let session = broker.session();
    let limit = Duration::from_millis(500);
    let mut set = session.channel_set_with(SubscribeOptions::new().timeout(limit)).unwrap();
    let begun = Instant::now();
    let error = set.join_all(names(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.channel().is_some_and(|name| name.as_str().starts_with("c.")), "{error}");
    assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 2, "{:?}", begun.elapsed());
    assert!(set.is_empty());
    assert!(timeout(limit / 5, set.join_all(names(50))).await.is_err());
    assert!(set.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_refused_later_leaves_with_the_reason() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let session = broker.session();
    let mut set = session.channel_set();
    set.join_all(names(3)).await.unwrap();
    post(&broker, "c.1", "before").await;
    driver.world().forbidden.insert("c.1".to_owned());
    driver.lose();
    until("the next link", || broker.health().links == 2).await;
    assert_eq!(next(&mut set).await, text("c.1", "before"));
    let mut rest: Vec<_> = vec![next(&mut set).await.unwrap(), next(&mut set).await.unwrap()];
    rest.push(next(&mut set).await.unwrap());
    for expected in [
        Seen::Refused("c.1".into(), ErrorKind::Forbidden),
        Seen::Gap("c.0".into(), None, GapCause::LinkLost),
        Seen::Gap("c.2".into(), None, GapCause::LinkLost),
    ] {
        assert!(rest.contains(&expected), "{expected:?} in {rest:?}");
    }
    assert!(!set.contains("c.1") && set.contains("c.2"));
    post(&broker, "c.2", "after").await;
    assert_eq!(next(&mut set).await, text("c.2", "after"));
}

#[tokio::test(start_paused = true)]
async fn without_waiting_each_channel_says_when_it_begins() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().forbidden.insert("c.1".to_owned());
    let session = broker.session();
    let mut set = session.channel_set_with(SubscribeOptions::new().without_waiting()).unwrap();
    set.join_all(names(3)).now_or_never().expect("the call waits").unwrap();
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(next(&mut set).await.unwrap());
    }
    for expected in [
        Seen::Gap("c.0".into(), None, GapCause::Subscribed),
        Seen::Refused("c.1".into(), ErrorKind::Forbidden),
        Seen::Gap("c.2".into(), None, GapCause::Subscribed),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    post(&broker, "c.0", "hello").await;
    assert_eq!(next(&mut set).await, text("c.0", "hello"));
}

#[tokio::test]
async fn of_the_newest_only_one_message_of_each_channel_waits() {
    let broker = Broker::local();
    let session = broker.session();
    let mut set = session.channel_set_with(SubscribeOptions::new().latest_only()).unwrap();
    set.join_all(["a", "b"]).await.unwrap();
    for n in 0..100 {
        post(&broker, "a", &n.to_string()).await;
    }
    post(&broker, "b", "only").await;
    assert_eq!(now(&mut set), Some(Seen::Gap("a".into(), Some(99), GapCause::Conflated)));
    post(&broker, "a", "later").await;
    assert_eq!(now(&mut set), text("a", "99"));
    let rest = [now(&mut set), now(&mut set)];
    assert!(rest.contains(&text("a", "later")) && rest.contains(&text("b", "only")), "{rest:?}");
    assert_eq!(now(&mut set), None);
}

/// Neither the capacity nor the bytes make a loss of what is only skipped.
#[tokio::test]
async fn of_the_newest_nothing_overflows() {
    let mut limited = options();
    limited.queue_bytes = 1000;
    let broker = Scripted::default().connect(limited).await.unwrap();
    let session = broker.session();
    let mut set = session.channel_set_with(of(1).latest_only()).unwrap();
    set.join_all(["a", "b"]).await.unwrap();
    for n in 0..5 {
        post(&broker, "a", &n.to_string()).await;
    }
    let long = "x".repeat(600);
    for text in ["1", &long] {
        post(&broker, "b", text).await;
    }
    assert_eq!(now(&mut set), Some(Seen::Gap("a".into(), Some(4), GapCause::Conflated)));
    assert_eq!(now(&mut set), text("a", "4"));
    assert_eq!(now(&mut set), Some(Seen::Gap("b".into(), Some(1), GapCause::Conflated)));
    assert_eq!(now(&mut set), text("b", &long));
    assert_eq!(now(&mut set), None);
}

#[tokio::test]
async fn a_set_ends_with_its_session_and_yields_nothing_more() {
    let broker = Broker::local();
    let session = broker.session();
    let mut set = session.channel_set();
    set.join_all(["a", "b"]).await.unwrap();
    post(&broker, "a", "1").await;
    let mut empty = session.channel_set();
    let waiting = tokio::spawn(async move { (empty.next().await.is_none(), empty) });
    tokio::task::yield_now().await;
    session.close();
    assert!(within("the end", set.next()).await.is_none());
    assert_eq!(set.close_reason(), Some(&CloseReason::SessionClosed));
    let (ended, mut empty) = within("the end of the empty one", waiting).await.unwrap();
    assert!(ended);
    assert_eq!(empty.join("c").await.unwrap_err().kind(), ErrorKind::Closed);
    let mut late = session.channel_set();
    assert!(within("the end", late.next()).await.is_none());
    assert_eq!(late.close_reason(), Some(&CloseReason::SessionClosed));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_until_the_set_has_yielded_everything() {
    for options_of_set in [SubscribeOptions::new(), of(2), SubscribeOptions::new().latest_only()] {
        let driver = Scripted::default();
        let broker = driver.connect(options()).await.unwrap();
        let session = broker.session();
        let mut set = session.channel_set_with(options_of_set.clone()).unwrap();
        set.join_all(["a", "b"]).await.unwrap();
        for n in 0..4 {
            post(&broker, ["a", "b"][n % 2], &n.to_string()).await;
        }
        let draining = tokio::spawn({
            let broker = broker.clone();
            async move { broker.drain().await }
        });
        // Two gaps and two messages, unless all four were kept.
        for n in 0..4 {
            sleep(Duration::from_millis(100)).await;
            assert!(!draining.is_finished(), "after {n} of {options_of_set:?}");
            assert!(next(&mut set).await.is_some());
        }
        assert_eq!(next(&mut set).await, None);
        assert_eq!(set.close_reason(), Some(&CloseReason::BrokerClosed));
        let begun = Instant::now();
        draining.await.unwrap();
        assert!(begun.elapsed() < options().drain_timeout, "{options_of_set:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_nothing_that_was_read_left_closed_or_dropped() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let session = broker.session();
    let (other, third) = (broker.session(), broker.session());
    let (mut read, mut left, mut closed, mut dropped, idle) = (
        session.channel_set(),
        session.channel_set(),
        other.channel_set(),
        third.channel_set(),
        session.channel_set(),
    );
    for set in [&mut read, &mut left, &mut closed, &mut dropped] {
        set.join_all(["a", "b"]).await.unwrap();
    }
    for n in 0..40 {
        post(&broker, ["a", "b"][n % 2], &n.to_string()).await;
    }
    for _ in 0..40 {
        assert!(next(&mut read).await.is_some());
    }
    assert!(next(&mut left).await.is_some());
    assert!(left.leave("a") && left.leave("b") && !left.leave("a"));
    other.close();
    drop(dropped);
    let begun = Instant::now();
    broker.drain().await;
    assert!(begun.elapsed() < options().drain_timeout, "it waited for somebody");
    drop((read, left, closed, idle));
}

#[tokio::test]
async fn a_channel_that_has_left_yields_nothing_more_and_may_come_back() {
    let broker = Broker::local();
    let session = broker.session();
    let mut set = session.channel_set_with(of(4)).unwrap();
    set.join_all(["a", "b"]).await.unwrap();
    for n in 0..6 {
        post(&broker, "a", &n.to_string()).await; // two are lost
    }
    post(&broker, "b", "1").await; // and a third
    assert!(set.leave("a"));
    post(&broker, "a", "away").await;
    assert_eq!(now(&mut set), text("b", "1"));
    assert_eq!(now(&mut set), None);
    set.join("a").await.unwrap();
    set.join("a").await.unwrap();
    post(&broker, "a", "back").await;
    assert_eq!(now(&mut set), text("a", "back"));
    assert_eq!(now(&mut set), None);
}

/// They count for nothing: neither for the bound, nor for a drain.
#[tokio::test(start_paused = true)]
async fn messages_that_exclude_the_session_are_passed_over() {
    for options_of_set in [of(2), SubscribeOptions::new().latest_only()] {
        let driver = Scripted::default();
        let broker = driver.connect(options()).await.unwrap();
        let session = broker.session();
        let mut set = session.channel_set_with(options_of_set).unwrap();
        set.join_all(["a", "b"]).await.unwrap();
        post(&broker, "a", "theirs").await;
        for channel in ["a", "a", "b"] {
            session.post(channel, Post::new("own").excluding_me(), Scope::Local).await.unwrap();
        }
        assert_eq!(next(&mut set).await, text("a", "theirs"));
        assert_eq!(now(&mut set), None);
        session.post("b", Post::new("own").excluding_me(), Scope::Local).await.unwrap();
        if now(&mut set).is_none() {
            let begun = Instant::now();
            broker.drain().await;
            assert!(begun.elapsed() < options().drain_timeout, "it waited for a message that is passed over");
        }
    }
}

#[tokio::test]
async fn a_set_waits_for_no_more_bytes_than_a_channel() {
    let mut limited = options();
    limited.queue_bytes = 1000;
    let broker = Scripted::default().connect(limited).await.unwrap();
    let session = broker.session();
    let mut set = session.channel_set();
    set.join_all(["a", "b"]).await.unwrap();
    let long = "x".repeat(400);
    for channel in ["a", "b", "a", "b"] {
        post(&broker, channel, &long).await;
    }
    let mut gaps = [now(&mut set).unwrap(), now(&mut set).unwrap()];
    gaps.sort_by_key(|gap| format!("{gap:?}"));
    let lost = |channel: &str| Seen::Gap(channel.into(), Some(1), GapCause::Overflow);
    assert_eq!(gaps, [lost("a"), lost("b")]);
    assert_eq!((now(&mut set), now(&mut set)), (text("a", &long), text("b", &long)));
    assert_eq!(now(&mut set), None);
}

#[tokio::test]
async fn notices_take_no_room_of_messages() {
    let broker = Broker::local();
    let session = broker.session();
    let mut set = session.channel_set_with(of(2).without_waiting()).unwrap();
    set.join_all(names(10)).await.unwrap();
    for n in 0..3 {
        post(&broker, "c.0", &n.to_string()).await;
    }
    let mut found = Vec::new();
    while let Some(event) = now(&mut set) {
        found.push(event);
    }
    for n in 0..10 {
        let begun = Seen::Gap(format!("c.{n}"), None, GapCause::Subscribed);
        assert_eq!(found.iter().filter(|event| **event == begun).count(), 1, "c.{n}: {found:?}");
    }
    // One message too many: what was dropped is yielded behind the beginning, and before the rest.
    found.retain(|event| !matches!(event, Seen::Gap(_, _, GapCause::Subscribed)));
    let lost = Seen::Gap("c.0".into(), Some(1), GapCause::Overflow);
    assert_eq!(found, [lost, text("c.0", "1").unwrap(), text("c.0", "2").unwrap()]);
}

/// A link that is lost is a gap in every channel; what was received before it stays.
#[tokio::test(start_paused = true)]
async fn the_gaps_of_a_lost_link_push_out_no_message() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let session = broker.session();
    let mut set = session.channel_set_with(of(2)).unwrap();
    set.join_all(names(10)).await.unwrap();
    post(&broker, "c.3", "1").await;
    post(&broker, "c.4", "2").await;
    for links in 2..4 {
        driver.lose();
        until("the next link", || broker.health().links == links && broker.health().is_connected()).await;
        sleep(Duration::from_secs(1)).await;
    }
    let mut found = Vec::new();
    while let Some(event) = now(&mut set) {
        found.push(event);
    }
    for n in 0..10 {
        let channel = format!("c.{n}");
        let of_it =
            |seen: &&Seen| matches!(seen, Seen::Gap(name, None, GapCause::LinkLost) if *name == channel);
        assert!(found.iter().filter(of_it).count() >= 1, "{channel}: {found:?}");
    }
    assert!(found.contains(&Seen::Text("c.3".into(), "1".into())), "{found:?}");
    assert!(found.contains(&Seen::Text("c.4".into(), "2".into())), "{found:?}");
}
