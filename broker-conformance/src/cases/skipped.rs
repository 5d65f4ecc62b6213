//! Cases about messages that get lost, or come twice, while every link is fine.

use std::time::Duration;

use broker_core::{Event, Gap, GapCause, Subscription};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::steps::{called_with, count, down, hear_nothing_more, hears, linked, listener, next_call, post};
use crate::{
    case::{Case, Outcome, case},
    harness::{Harness, Node},
    lossy_driver::{Fate, Losses, is_digest},
    wait::{LIMIT, fence, next_gap, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(messages_lost_on_the_way_are_counted_where_they_are_missing, [4]),
    case!(a_listener_is_told_of_messages_lost_on_the_way, [4]),
    case!(a_message_that_comes_twice_is_heard_once, [2]),
    case!(a_lost_last_message_is_told, [4]),
    case!(a_lost_first_message_of_a_node_is_told, [4]),
    case!(a_loss_is_told_also_when_the_digest_is_lost_with_it, [4]),
    case!(a_node_that_drains_tells_of_its_last_messages, [4, 12]),
    case!(what_was_lost_before_the_subscription_is_not_told, [4]),
    case!(posts_that_were_never_sent_leave_no_gap, [4, 6]),
    case!(more_channels_than_a_node_can_count_raise_no_false_gap, [4]),
    case!(a_node_that_posts_nothing_sends_no_digest, [4]),
];

/// A node whose posts the backend may lose.
async fn unlucky(h: &dyn Harness) -> Result<(Node, Losses), String> {
    let losses = Losses::default();
    let around = losses.clone();
    let node = h.node_through(|_| {}, move |driver| around.around(driver)).await?;
    Ok((node, losses))
}

/// This gap was found by the numbers of the messages.
fn skipped(gap: &Gap, missed: Option<u64>) -> Result<(), String> {
    if (gap.missed, gap.cause) == (missed, GapCause::Skipped) {
        Ok(())
    } else {
        Err(format!("expected a gap of {missed:?} skipped, got {gap:?}"))
    }
}

async fn told(heard: &mut Subscription, missed: Option<u64>) -> Result<(), String> {
    skipped(&next_gap(heard).await?, missed)
}

async fn messages_lost_on_the_way_are_counted_where_they_are_missing(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, unlucky(h).await?);
    let mut heard = [node.subscribe("news").await?, poster.subscribe("news").await?];
    let mut other = node.subscribe("other").await?;
    losses.rule(|frame| match frame.frame.last() {
        Some(b'3' | b'4' | b'5' | b'8') => Fate::Lost,
        _ => Fate::Arrives,
    });
    for n in 0..10 {
        post(&poster, "news", n.to_string()).await?;
        post(&poster, "other", n.to_string()).await?;
    }
    for heard in heard.iter_mut().chain([&mut other]) {
        for n in ["0", "1", "2"] {
            hears(heard, n).await?;
        }
        told(heard, Some(3)).await?;
        hears(heard, "6").await?;
        hears(heard, "7").await?;
        told(heard, Some(1)).await?;
        hears(heard, "9").await?;
        fence(&node, heard).await?;
    }
    Ok(())
}

async fn a_listener_is_told_of_messages_lost_on_the_way(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, unlucky(h).await?);
    let session = node.session();
    let mut calls = listener(&session, "counts").await?;
    count(&poster, "counts", 1).await?;
    losses.rule(|frame| if is_digest(frame) { Fate::Arrives } else { Fate::Lost });
    count(&poster, "counts", 2).await?;
    losses.stop();
    count(&poster, "counts", 3).await?;
    called_with(&mut calls, 1).await?;
    match next_call(&mut calls).await? {
        Err(broker_core::StreamError::Gap(gap)) => skipped(&gap, Some(1))?,
        other => return Err(format!("expected a gap, got {other:?}").into()),
    }
    called_with(&mut calls, 3).await?;
    Ok(())
}

async fn a_message_that_comes_twice_is_heard_once(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, unlucky(h).await?);
    let mut heard = [node.subscribe("news").await?, poster.subscribe("news").await?];
    losses.rule(|frame| if is_digest(frame) { Fate::Arrives } else { Fate::Twice });
    for n in 0..20 {
        post(&poster, "news", n.to_string()).await?;
    }
    for heard in &mut heard {
        for n in 0..20 {
            hears(heard, &n.to_string()).await?;
        }
        fence(&node, heard).await?;
    }
    Ok(())
}

/// Nothing follows on the channel: only the digest can tell.
async fn a_lost_last_message_is_told(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, unlucky(h).await?);
    let mut heard = [node.subscribe("news").await?, poster.subscribe("news").await?];
    losses.lose("lost");
    post(&poster, "news", "heard").await?;
    post(&poster, "news", "lost").await?;
    post(&poster, "news", "also lost").await?;
    for heard in &mut heard {
        hears(heard, "heard").await?;
        told(heard, Some(2)).await?;
    }
    losses.stop();
    post(&poster, "news", "heard again").await?;
    for heard in &mut heard {
        hears(heard, "heard again").await?;
        fence(&node, heard).await?;
    }
    Ok(())
}

/// A node that has never been heard on a channel posts there once, and that gets lost. It can be told once the node has
/// been heard elsewhere, and the subscription is known to be older than that.
async fn a_lost_first_message_of_a_node_is_told(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, unlucky(h).await?);
    let names: Vec<String> = (0..60).map(|n| format!("first.{n}")).collect();
    let mut channels = Vec::new();
    for name in &names {
        channels.push(node.subscribe(name).await?);
    }
    losses.lose("lost");
    let (mut told_of, mut tried) = (0, 0);
    for (name, heard) in names.iter().zip(&mut channels) {
        post(&poster, "other", "keeps the digests coming").await?;
        post(&poster, name, "lost").await?;
        let digests = losses.digests();
        until("a digest", || losses.digests() > digests).await?;
        tried += 1;
        // In the first moments nobody knows enough; from the first time on it must be so every time.
        let limit = if told_of == 0 { Duration::from_millis(100) } else { LIMIT };
        match tokio::time::timeout(limit, heard.next()).await {
            Ok(Some(Event::Gap(gap))) => skipped(&gap, Some(1))?,
            Ok(other) => return Err(format!("expected a gap, got {other:?}").into()),
            Err(_) if told_of > 0 => return Err(format!("told {told_of} times, and then not").into()),
            Err(_) => continue,
        }
        told_of += 1;
        if told_of == 3 {
            return Ok(());
        }
    }
    Err(format!("{told_of} of {tried} told").into())
}

async fn a_loss_is_told_also_when_the_digest_is_lost_with_it(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, unlucky(h).await?);
    let (mut heard, mut quiet) = (node.subscribe("news").await?, node.subscribe("quiet").await?);
    post(&poster, "news", "heard").await?;
    hears(&mut heard, "heard").await?;
    until("a digest, and the empty one behind it", || losses.digests() >= 2).await?;
    losses.rule(|frame| if frame.channel.as_str().contains("$node") { Fate::Arrives } else { Fate::Lost });
    post(&poster, "news", "lost").await?;
    until("the digest of the loss", || losses.digests() >= 3).await?;
    losses.stop();
    // Nobody knows what it told: on every channel something may be missing.
    told(&mut heard, None).await?;
    told(&mut quiet, None).await?;
    post(&poster, "news", "heard again").await?;
    told(&mut heard, Some(1)).await?;
    hears(&mut heard, "heard again").await?;
    fence(&node, &mut heard).await?;
    Ok(())
}

async fn a_node_that_drains_tells_of_its_last_messages(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let losses = Losses::default();
    let around = losses.clone();
    let never = |options: &mut broker_core::Options| options.digest_interval = Duration::from_secs(3600);
    let poster = h.node_through(never, move |driver| around.around(driver)).await?;
    let mut heard = node.subscribe("news").await?;
    losses.lose("lost");
    post(&poster, "news", "heard").await?;
    post(&poster, "news", "lost").await?;
    within("the broker to drain", poster.drain()).await?;
    hears(&mut heard, "heard").await?;
    told(&mut heard, Some(1)).await?;
    Ok(())
}

/// Whoever subscribes later has missed nothing, and is told of nothing.
async fn what_was_lost_before_the_subscription_is_not_told(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, unlucky(h).await?);
    losses.lose("lost");
    for n in 0..20 {
        let name = format!("news.{n}");
        let mut first = poster.subscribe(&name).await?;
        post(&poster, &name, "heard").await?;
        post(&poster, &name, "lost").await?;
        let mut late = node.subscribe(&name).await?;
        let digests = losses.digests();
        until("a digest", || losses.digests() > digests).await?;
        hears(&mut first, "heard").await?;
        told(&mut first, Some(1)).await?;
        hear_nothing_more(&node, &mut [&mut late, &mut first]).await?;
    }
    Ok(())
}

/// They failed before they were sent: nobody has missed them.
async fn posts_that_were_never_sent_leave_no_gap(h: &dyn Harness) -> Outcome {
    let (node, poster) = (h.node().await?, h.node().await?);
    let mut heard = node.subscribe("news").await?;
    post(&poster, "news", "before").await?;
    poster.line.cut();
    down(&poster).await?;
    for _ in 0..10 {
        assert!(post(&poster, "news", "never sent").await.is_err());
    }
    poster.line.heal();
    linked(&poster, 2).await?;
    post(&poster, "news", "after").await?;
    hears(&mut heard, "before").await?;
    hears(&mut heard, "after").await?;
    fence(&node, &mut heard).await?;
    Ok(())
}

/// A node counts 65,536 channels, then it begins anew.
async fn more_channels_than_a_node_can_count_raise_no_false_gap(h: &dyn Harness) -> Outcome {
    let (node, losses) = (h.node().await?, Losses::default());
    let around = losses.clone();
    // Nothing is told by the clock.
    let never = |options: &mut broker_core::Options| options.digest_interval = Duration::from_secs(3600);
    let poster = h.node_through(never, move |driver| around.around(driver)).await?;
    let (mut heard, mut ended) = (node.subscribe("news").await?, node.subscribe("ended").await?);
    losses.lose("lost");
    for text in ["one", "two"] {
        post(&poster, "news", text).await?;
        post(&poster, "ended", text).await?;
    }
    // The last word of the old count on this channel: only the digest before the new count can tell.
    post(&poster, "ended", "lost").await?;
    let poster = &poster;
    let each = |n: u32| async move { post(poster, &format!("once.{n}"), "x").await };
    stream::iter(0..66_000_u32).map(each).buffer_unordered(512).try_collect::<Vec<_>>().await?;
    for text in ["three", "four"] {
        post(poster, "news", text).await?;
        post(poster, "ended", text).await?;
    }
    for text in ["one", "two", "three", "four"] {
        hears(&mut heard, text).await?;
    }
    hears(&mut ended, "one").await?;
    hears(&mut ended, "two").await?;
    told(&mut ended, Some(1)).await?;
    hears(&mut ended, "three").await?;
    hears(&mut ended, "four").await?;
    for heard in [&mut heard, &mut ended] {
        fence(&node, heard).await?;
    }
    Ok(())
}

async fn a_node_that_posts_nothing_sends_no_digest(h: &dyn Harness) -> Outcome {
    let (node, (quiet, losses)) = (h.node().await?, unlucky(h).await?);
    let mut heard = quiet.subscribe("news").await?;
    for n in 0..20 {
        post(&node, "news", n.to_string()).await?;
        hears(&mut heard, &n.to_string()).await?;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(losses.digests(), 0);
    post(&quiet, "news", "one").await?;
    until("a digest, and the empty one behind it", || losses.digests() >= 2).await?;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(losses.digests(), 2, "digests of nothing");
    Ok(())
}
