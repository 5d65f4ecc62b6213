//! Cases about subscribing: from when on, until when, and what the server knows of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use broker_core::{Broker, ErrorKind, Received, Scope};
use futures_util::future::{join_all, poll_immediate, try_join_all};
use tokio::sync::mpsc;

use super::models::Greeting;
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{collect, fence, next_item, next_message, text, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(subscribed_means_subscribed, [1]),
    case!(every_subscribing_call_returns_subscribed, [1]),
    case!(subscribing_under_load_leaves_no_hole, [1, 4]),
    case!(many_may_subscribe_to_one_channel_at_once, [1, 2]),
    case!(the_last_subscriber_unsubscribes_at_the_server, [12]),
    case!(a_reload_does_not_unsubscribe, [12]),
    case!(resubscribing_while_unsubscribing_loses_nothing, [1]).needs(&[Need::PostsInTurn]),
    case!(ten_thousand_subscriptions_leave_the_table_empty, [12]),
    case!(a_dropped_subscribe_call_leaves_nothing, [12]),
    case!(subscribing_waits_for_the_server_and_no_longer_than_the_limit, [1, 11]).needs(&[Need::Server]),
];

/// A thousand fresh channels, each with a post from another node right after: none is missed.
async fn subscribed_means_subscribed(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    for n in 0..1000 {
        let channel = format!("fresh.{n}");
        let mut subscription = here.subscribe(&channel).await?;
        there.publish(&channel, format!("first {n}"), Scope::Global).await?;
        assert_eq!(text(&next_message(&mut subscription).await?)?, format!("first {n}"));
        fence(&there, &mut subscription).await?;
    }
    Ok(())
}

async fn every_subscribing_call_returns_subscribed(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (session, poster) = (here.session(), there.session());
    for n in 0..50 {
        let channel = format!("fresh.{n}");
        let (received, mut calls) = mpsc::unbounded_channel();
        let listener = move |greeting: Received<Greeting>| {
            let sent = received.send(greeting.number);
            async move { assert!(sent.is_ok()) }
        };
        session.add_listener(&channel, listener).await?;
        poster.post_message(&channel, Greeting::new(n), Scope::Global).await?;
        assert_eq!(within("the listener's call", calls.recv()).await?, Some(n));

        let channel = format!("stream.{n}");
        let mut stream = session.create_stream::<Greeting>(&channel).await?;
        poster.post_message(&channel, Greeting::new(n), Scope::Global).await?;
        assert_eq!(next_item(&mut stream).await??.number, n);

        let channel = format!("untyped.{n}");
        let mut untyped = session.subscribe(&channel).await?;
        poster.post(&channel, "post", Scope::Global).await?;
        assert_eq!(collect(&mut untyped, 1).await?, ["post"]);
    }
    Ok(())
}

/// Posts numbers, three at a time, until it is told to stop; `begun` is the last one whose post has begun.
async fn storm(
    broker: Broker,
    begun: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Result<(), broker_core::Error> {
    while !stop.load(Ordering::SeqCst) {
        let posts = (0..3).map(|_| {
            let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
            broker.publish("storm", number.to_string(), Scope::Global)
        });
        try_join_all(posts).await?;
    }
    Ok(())
}

async fn subscribing_under_load_leaves_no_hole(h: &dyn Harness) -> Outcome {
    let here = h.node_with(|options| options.queue_capacity = 1 << 20).await?;
    let there = h.node().await?;
    let (begun, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let storm = tokio::spawn(storm(there.broker.clone(), Arc::clone(&begun), Arc::clone(&stop)));
    for round in 0..40 {
        let mut subscription = here.subscribe("storm").await?;
        let subscribed_at = begun.load(Ordering::SeqCst);
        let numbers = collect(&mut subscription, 100).await?;
        let numbers: Vec<u64> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
        // What began after the call had returned is received; from the first one on, every one is.
        assert!(numbers[0] <= subscribed_at + 1, "round {round}: {} after {subscribed_at}", numbers[0]);
        let expected: Vec<u64> = (numbers[0]..).take(100).collect();
        assert_eq!(numbers, expected, "round {round}");
        drop(subscription);
        if round % 2 == 0 {
            // Every other round begins without any subscription at the server.
            until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
        }
    }
    stop.store(true, Ordering::SeqCst);
    within("the storm's end", storm).await???;
    Ok(())
}

async fn many_may_subscribe_to_one_channel_at_once(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let joining = (0..200).map(|_| {
        let broker = here.broker.clone();
        tokio::spawn(async move { broker.subscribe("crowd").await })
    });
    let mut crowd = Vec::new();
    for subscription in join_all(joining).await {
        crowd.push(subscription??);
    }
    for n in 0..20 {
        there.publish("crowd", format!("post {n}"), Scope::Global).await?;
    }
    let expected: Vec<String> = (0..20).map(|n| format!("post {n}")).collect();
    for subscription in &mut crowd {
        assert_eq!(collect(subscription, 20).await?, expected);
    }
    there.publish("crowd", "the end", Scope::Global).await?;
    for subscription in &mut crowd {
        assert_eq!(collect(subscription, 1).await?, ["the end"]);
    }
    Ok(())
}

async fn the_last_subscriber_unsubscribes_at_the_server(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    let (first, mut second) = (node.subscribe("room").await?, node.subscribe("room").await?);
    let wire = h.subscribed_channels().await?;
    assert!(wire.len() == 1 && wire[0].ends_with("room"), "{wire:?}");
    let elsewhere = other.subscribe("room").await?;
    let (lobby, far_lobby) = (node.subscribe("lobby").await?, other.subscribe("lobby").await?);
    drop((first, lobby, elsewhere, far_lobby));
    // Each node's lobby was left after its room: when it is gone, the room was looked at too.
    until_is("the server to forget the lobby", wire, || h.subscribed_channels()).await?;
    fence(&other, &mut second).await?;
    drop(second);
    until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
    Ok(())
}

/// With a delay of an hour nothing may be unsubscribed, whatever leaves and comes back.
async fn a_reload_does_not_unsubscribe(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.unsubscribe_delay = Duration::from_secs(3600)).await?;
    let mut other = node.subscribe("other").await?;
    for _ in 0..50 {
        drop(node.subscribe("page").await?);
        // Two round trips: time enough to unsubscribe, had anybody wanted to.
        fence(&node, &mut other).await?;
        assert_eq!(h.subscribed_channels().await?.len(), 2);
    }
    Ok(())
}

/// Nothing but the last leaving and the next coming, with the shortest of delays.
async fn resubscribing_while_unsubscribing_loses_nothing(h: &dyn Harness) -> Outcome {
    let there = h.node().await?;
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        let here = h.node_with(|options| options.unsubscribe_delay = delay).await?;
        for n in 0..400 {
            // After the last one has left: at once, or a little later.
            for _ in 0..n % 4 {
                tokio::task::yield_now().await;
            }
            let mut subscription = here.subscribe("page").await?;
            there.publish("page", format!("post {n}"), Scope::Global).await?;
            assert_eq!(collect(&mut subscription, 1).await?, [format!("post {n}")]);
        }
    }
    Ok(())
}

async fn ten_thousand_subscriptions_leave_the_table_empty(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let rounds = (0..10).map(|task| {
        let broker = node.broker.clone();
        tokio::spawn(async move {
            for round in 0..1000 {
                // Some are their own, some are shared by all tasks.
                let name =
                    if round % 3 == 0 { format!("shared.{round}") } else { format!("{task}.{}", round % 50) };
                drop(broker.subscribe(name).await?);
            }
            Ok::<_, broker_core::Error>(())
        })
    });
    for done in within("ten thousand rounds", join_all(rounds)).await? {
        done??;
    }
    until_is("the table to be empty", Vec::new(), || h.subscribed_channels()).await?;
    let mut after = node.subscribe("shared.0").await?;
    fence(&node, &mut after).await?;
    Ok(())
}

async fn a_dropped_subscribe_call_leaves_nothing(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut steady = node.subscribe("steady").await?;
    for n in 0..200 {
        let mut call = Box::pin(node.subscribe(format!("dropped.{}", n % 20)));
        // Dropped sooner or later on its way.
        for _ in 0..n % 5 {
            if poll_immediate(&mut call).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    until_is("the dropped ones to leave", 1, || async {
        h.subscribed_channels().await.map(|names| names.len())
    })
    .await?;
    fence(&node, &mut steady).await?;
    let again = (0..20).map(|n| node.subscribe(format!("dropped.{n}")));
    for mut subscription in within("all of them again", try_join_all(again)).await?? {
        fence(&node, &mut subscription).await?;
    }
    Ok(())
}

async fn subscribing_waits_for_the_server_and_no_longer_than_the_limit(h: &dyn Harness) -> Outcome {
    let long_limits = h.node().await?;
    let hasty = h.node_with(|options| options.subscribe_timeout = crate::wait::SHORT).await?;
    for node in [&long_limits, &hasty] {
        node.line.cut();
    }
    let error = within("the limit", hasty.subscribe("room")).await?.err();
    let Some(error) = error else { return Err("subscribed without a link".into()) };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.channel().map(|name| name.as_str()), Some("room"), "{error}");
    assert_eq!(error.backend(), Some(h.backend().name), "{error}");

    let mut waiting = Box::pin(long_limits.subscribe("room"));
    assert!(poll_immediate(&mut waiting).await.is_none());
    long_limits.line.heal();
    let mut room = within("the subscription", waiting).await??;
    // Channels are confirmed a moment before posts are taken again.
    within("the link", long_limits.ready()).await??;
    long_limits.publish("room", "here", Scope::Global).await?;
    // A link was lost while it waited; whether the gap of that stands in its past or here does not matter.
    let first = crate::wait::next_event(&mut room).await?;
    let message = match first {
        broker_core::Event::Gap(_) => next_message(&mut room).await?,
        broker_core::Event::Message(message) => message,
        other => return Err(format!("{other:?}").into()),
    };
    assert_eq!(text(&message)?, "here");
    Ok(())
}
