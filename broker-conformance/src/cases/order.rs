//! Cases about order: what one publisher posts arrives in that order, whatever happens beside it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use broker_core::{Broker, Event, GapCause, MessageId, NodeId, Received, Scope, Subscription};
use futures_util::future::{join_all, poll_immediate};
use tokio::task::JoinHandle;

use super::models::Greeting;
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{next_event, next_message, text, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(one_publisher_keeps_its_order_under_load, [3]),
    case!(busy_channels_do_not_disturb_the_order_of_another, [3, 5]),
    case!(many_publishers_each_keep_their_order, [3]),
    case!(sequence_numbers_count_the_posts_of_one_origin_on_one_channel, [3]),
    case!(a_listener_is_called_in_order_one_call_at_a_time, [3, 7]),
    case!(local_posts_keep_their_order, [3]),
    case!(order_holds_when_the_readers_link_breaks, [3, 4]).needs(&[Need::Server]),
    case!(order_holds_when_the_publishers_link_breaks, [3, 4]).needs(&[Need::Server]),
    case!(all_nodes_receive_one_order, [3]).needs(&[Need::ChannelOrder]),
];

/// Posts numbers one after another as fast as they are taken, without waiting for their outcomes. Among them are
/// posts to a channel that nobody receives, lest all that wait go together as one.
async fn flood(broker: &Broker, channel: &str, count: u64) -> Outcome {
    let mut waiting = Vec::new();
    for n in 0..count {
        for channel in [Some(channel), (n % 3 == 0).then_some("unheard")].into_iter().flatten() {
            let mut post = Box::pin(broker.publish(channel, n.to_string(), Scope::Global));
            match poll_immediate(&mut post).await {
                Some(outcome) => _ = outcome?,
                None => waiting.push(post),
            }
        }
        if waiting.len() >= 500 {
            for outcome in join_all(waiting.drain(..)).await {
                outcome?;
            }
        }
    }
    for outcome in join_all(waiting).await {
        outcome?;
    }
    Ok(())
}

fn flooding(broker: &Broker, channel: &str, count: u64) -> JoinHandle<Outcome> {
    let (broker, channel) = (broker.clone(), channel.to_owned());
    tokio::spawn(async move { flood(&broker, &channel, count).await })
}

/// Receives numbers in their order, without a hole, from 0 on.
async fn receive_in_order(subscription: &mut Subscription, count: u64) -> Outcome {
    for n in 0..count {
        let message = next_message(subscription).await.map_err(|error| format!("after {n}: {error}"))?;
        assert_eq!(text(&message)?, n.to_string());
    }
    Ok(())
}

/// So that a reader that is only slow loses nothing.
fn roomy(options: &mut broker_core::Options) {
    options.queue_capacity = 100_000;
}

async fn one_publisher_keeps_its_order_under_load(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node_with(roomy).await?, h.node_with(roomy).await?);
    let (mut near, mut far) = (here.subscribe("news").await?, there.subscribe("news").await?);
    let flood = flooding(&here, "news", 5000);
    receive_in_order(&mut near, 5000).await?;
    receive_in_order(&mut far, 5000).await?;
    within("the flood's end", flood).await???;
    Ok(())
}

async fn busy_channels_do_not_disturb_the_order_of_another(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node_with(roomy).await?, h.node_with(roomy).await?);
    let mut calm = there.subscribe("calm").await?;
    let mut busy = Vec::new();
    let mut floods = Vec::new();
    for n in 0..6 {
        let channel = format!("busy.{n}");
        busy.push(there.subscribe(&channel).await?);
        floods.push(flooding(if n % 2 == 0 { &here } else { &there }, &channel, 1000));
    }
    let flood = flooding(&here, "calm", 1000);
    receive_in_order(&mut calm, 1000).await?;
    for subscription in &mut busy {
        receive_in_order(subscription, 1000).await?;
    }
    for flood in floods.into_iter().chain([flood]) {
        within("the floods' end", flood).await???;
    }
    Ok(())
}

async fn many_publishers_each_keep_their_order(h: &dyn Harness) -> Outcome {
    let reader = h.node_with(roomy).await?;
    let mut news = reader.subscribe("news").await?;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(h.node().await?);
    }
    let floods: Vec<_> = nodes.iter().map(|node| flooding(node, "news", 500)).collect();
    let mut received: HashMap<NodeId, u64> = nodes.iter().map(|node| (node.node_id(), 0)).collect();
    for _ in 0..2000 {
        let message = next_message(&mut news).await?;
        let Some(next) = received.get_mut(&message.origin()) else { return Err("an unknown origin".into()) };
        assert_eq!((text(&message)?, message.sequence()), (next.to_string(), Some(*next + 1)));
        *next += 1;
    }
    for flood in floods {
        within("the floods' end", flood).await???;
    }
    assert!(received.values().all(|count| *count == 500), "{received:?}");
    Ok(())
}

async fn sequence_numbers_count_the_posts_of_one_origin_on_one_channel(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (mut red, mut blue) = (here.subscribe("red").await?, here.subscribe("blue").await?);
    for n in 1..=100 {
        // What is refused, local, or on another channel does not count.
        let _ = here.publish("red", vec![0; 1 << 20], Scope::Global).await;
        here.publish("red", "local", Scope::Local).await?;
        assert_eq!(next_message(&mut red).await?.sequence(), None);
        here.publish("red", "here", Scope::Global).await?;
        assert_eq!(next_message(&mut red).await?.sequence(), Some(n));
        if n % 2 == 0 {
            there.publish("red", "there", Scope::Global).await?;
            assert_eq!(next_message(&mut red).await?.sequence(), Some(n / 2));
            here.publish("blue", "here", Scope::Global).await?;
            assert_eq!(next_message(&mut blue).await?.sequence(), Some(n / 2));
        }
    }
    Ok(())
}

async fn a_listener_is_called_in_order_one_call_at_a_time(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node_with(roomy).await?, h.node().await?);
    let (session, poster) = (here.session(), there.session());
    let (sender, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let running = Arc::new(AtomicBool::new(false));
    let listener = move |greeting: Received<Greeting>| {
        let (sender, running) = (sender.clone(), Arc::clone(&running));
        async move {
            let alone = !running.swap(true, Ordering::SeqCst);
            tokio::task::yield_now().await;
            running.store(false, Ordering::SeqCst);
            // Fails once the case is over.
            let _ = sender.send((greeting.number, alone));
        }
    };
    session.add_listener("news", listener).await?;
    for n in 0..500 {
        poster.post_message("news", Greeting::new(n), Scope::Global).await?;
    }
    for n in 0..500 {
        assert_eq!(within("a call", calls.recv()).await?, Some((n, true)));
    }
    Ok(())
}

async fn local_posts_keep_their_order(h: &dyn Harness) -> Outcome {
    let node = h.node_with(roomy).await?;
    let mut news = node.subscribe("news").await?;
    let flood = flooding(&node, "news", 1000);
    for n in 0..1000 {
        node.publish("news", n.to_string(), Scope::Local).await?;
        tokio::task::yield_now().await;
    }
    let mut next = HashMap::from([(true, 0_u64), (false, 0)]);
    for _ in 0..2000 {
        let message = next_message(&mut news).await?;
        let next = next.entry(message.is_local()).or_default();
        assert_eq!(text(&message)?, next.to_string(), "local: {}", message.is_local());
        *next += 1;
    }
    within("the flood's end", flood).await???;
    Ok(())
}

/// Posts numbers until it is told to stop, and goes on when a post fails. Returns how many were taken.
fn post_until(broker: &Broker, stop: &Arc<AtomicBool>) -> JoinHandle<Result<u64, String>> {
    let (broker, stop) = (broker.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let (mut number, mut taken) = (0_u64, 0);
        while !stop.load(Ordering::SeqCst) {
            match broker.publish("news", number.to_string(), Scope::Global).await {
                Ok(_) => taken += 1,
                Err(error) if error.is_transient() => tokio::task::yield_now().await,
                Err(error) => return Err(error.to_string()),
            }
            number += 1;
        }
        Ok(taken)
    })
}

/// Receives numbers that only ever rise, over a number of broken links, until one of them is above `beyond`.
/// Returns how many were received, and how many gaps were delivered.
async fn receive_rising(
    news: &mut Subscription,
    last: &mut Option<(u64, u64)>,
    enough: usize,
) -> Outcome<u64> {
    let (mut received, mut gaps, mut holes_allowed) = (0, 0, 0_u64);
    while received < enough {
        match next_event(news).await? {
            Event::Gap(gap) => {
                assert_eq!(gap.cause, GapCause::LinkLost);
                gaps += 1;
                holes_allowed += 1;
            }
            Event::Message(message) => {
                let (number, sequence) = (text(&message)?.parse()?, message.sequence().unwrap_or_default());
                if let Some((before, sequence_before)) = *last {
                    assert!(number > before && sequence > sequence_before, "{number} after {before}");
                    let missing = sequence - sequence_before - 1;
                    assert!(missing == 0 || holes_allowed > 0, "{missing} missing, and no gap delivered");
                }
                holes_allowed = 0;
                *last = Some((number, sequence));
                received += 1;
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(gaps)
}

async fn order_holds_when_the_readers_link_breaks(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node_with(roomy).await?, h.node().await?);
    let mut news = here.subscribe("news").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let posting = post_until(&there, &stop);
    let mut last = None;
    assert_eq!(receive_rising(&mut news, &mut last, 100).await?, 0);
    for round in 1..=5 {
        here.line.cut();
        until("the loss to be noticed", || !here.health().is_connected()).await?;
        here.line.heal();
        until("the next link", || here.health().links == round + 1).await?;
        // Far enough that the gap lies behind.
        let (before, mut gaps) = (there.health().links, 0);
        while gaps == 0 {
            gaps = receive_rising(&mut news, &mut last, 100).await?;
        }
        assert_eq!((gaps, before), (1, 1), "round {round}");
    }
    stop.store(true, Ordering::SeqCst);
    within("the posts' end", posting).await???;
    Ok(())
}

async fn order_holds_when_the_publishers_link_breaks(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node_with(roomy).await?, h.node().await?);
    let mut news = here.subscribe("news").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let posting = post_until(&there, &stop);
    let (mut last, mut reported): (Option<(u64, u64)>, u64) = (None, 0);
    for round in 1..=5 {
        let mut received = 0;
        while received < 100 {
            let message = match next_event(&mut news).await? {
                Event::Message(message) => message,
                // What was on its way may be gone.
                Event::Gap(gap) if gap.cause == GapCause::Skipped => {
                    reported += gap.missed.ok_or("a gap of unknown size")?;
                    continue;
                }
                other => return Err(format!("{other:?}").into()),
            };
            let (number, sequence): (u64, _) =
                (text(&message)?.parse()?, message.sequence().unwrap_or_default());
            // Nothing comes twice or late, and what is missing is told.
            if let Some((before, sequence_before)) = last {
                assert!(number > before, "{number} after {before}");
                assert_eq!(sequence, sequence_before + reported + 1, "{number} after {before}");
            }
            (last, reported) = (Some((number, sequence)), 0);
            received += 1;
        }
        there.line.cut();
        until("the loss to be noticed", || !there.health().is_connected()).await?;
        there.line.heal();
        until("the next link", || there.health().links == round + 1).await?;
    }
    stop.store(true, Ordering::SeqCst);
    // Each break may leave one post of which nobody knows whether it was taken.
    assert!(within("the posts' end", posting).await??? >= 495);
    assert_eq!(here.health().links, 1);
    Ok(())
}

async fn all_nodes_receive_one_order(h: &dyn Harness) -> Outcome {
    let nodes = [h.node_with(roomy).await?, h.node_with(roomy).await?, h.node_with(roomy).await?];
    let mut subscriptions = Vec::new();
    for node in &nodes {
        subscriptions.push(node.subscribe("news").await?);
    }
    let floods: Vec<_> = nodes.iter().map(|node| flooding(node, "news", 500)).collect();
    let mut orders: Vec<Vec<MessageId>> = Vec::new();
    for subscription in &mut subscriptions {
        let mut order = Vec::new();
        for _ in 0..1500 {
            order.push(next_message(subscription).await?.id());
        }
        orders.push(order);
    }
    for flood in floods {
        within("the floods' end", flood).await???;
    }
    assert!(orders[0] == orders[1] && orders[1] == orders[2], "nodes received different orders");
    Ok(())
}
