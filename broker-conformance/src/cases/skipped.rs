//! Cases about messages that get lost, or come twice, while every link is fine.

use std::time::Duration;

use broker_core::{Event, Gap, GapCause, Subscription};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::steps::{
    called_with, count, listener, next_call, post, receive_nothing_more, receives, wait_for_disconnect,
    wait_for_link,
};
use crate::{
    case::{Case, Outcome, case},
    harness::{Harness, Node},
    lossy_driver::{Fate, Losses, is_digest},
    wait::{LIMIT, fence, next_gap, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(lost_messages_are_counted_where_they_are_missing, [4]),
    case!(a_listener_receives_a_gap_for_lost_messages, [4]),
    case!(a_duplicated_message_is_delivered_once, [2]),
    case!(a_lost_last_message_is_reported, [4]),
    case!(a_lost_first_message_of_a_node_is_reported, [4]),
    case!(a_loss_is_reported_when_its_digest_is_lost_too, [4]),
    case!(draining_reports_lost_last_messages, [4, 12]),
    case!(losses_before_the_subscription_are_not_reported, [4]),
    case!(unsent_posts_leave_no_gap, [4, 6]),
    case!(channels_beyond_the_counters_raise_no_false_gap, [4]),
    case!(an_idle_node_sends_no_digest, [4]),
];

/// A node whose posts the backend may lose.
async fn lossy_node(h: &dyn Harness) -> Result<(Node, Losses), String> {
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

async fn receives_skipped(received: &mut Subscription, missed: Option<u64>) -> Result<(), String> {
    skipped(&next_gap(received).await?, missed)
}

async fn lost_messages_are_counted_where_they_are_missing(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    let mut received = [node.subscribe("news").await?, poster.subscribe("news").await?];
    let mut other = node.subscribe("other").await?;
    losses.rule(|frame| match frame.frame.last() {
        Some(b'3' | b'4' | b'5' | b'8') => Fate::Lost,
        _ => Fate::Arrives,
    });
    for n in 0..10 {
        post(&poster, "news", n.to_string()).await?;
        post(&poster, "other", n.to_string()).await?;
    }
    for received in received.iter_mut().chain([&mut other]) {
        for n in ["0", "1", "2"] {
            receives(received, n).await?;
        }
        receives_skipped(received, Some(3)).await?;
        receives(received, "6").await?;
        receives(received, "7").await?;
        receives_skipped(received, Some(1)).await?;
        receives(received, "9").await?;
        fence(&node, received).await?;
    }
    Ok(())
}

async fn a_listener_receives_a_gap_for_lost_messages(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
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

async fn a_duplicated_message_is_delivered_once(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    let mut received = [node.subscribe("news").await?, poster.subscribe("news").await?];
    losses.rule(|frame| if is_digest(frame) { Fate::Arrives } else { Fate::Twice });
    for n in 0..20 {
        post(&poster, "news", n.to_string()).await?;
    }
    for received in &mut received {
        for n in 0..20 {
            receives(received, &n.to_string()).await?;
        }
        fence(&node, received).await?;
    }
    Ok(())
}

/// Nothing follows on the channel: only the digest can tell.
async fn a_lost_last_message_is_reported(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    let mut received = [node.subscribe("news").await?, poster.subscribe("news").await?];
    losses.lose("lost");
    post(&poster, "news", "received").await?;
    post(&poster, "news", "lost").await?;
    post(&poster, "news", "also lost").await?;
    for received in &mut received {
        receives(received, "received").await?;
        receives_skipped(received, Some(2)).await?;
    }
    losses.stop();
    post(&poster, "news", "received again").await?;
    for received in &mut received {
        receives(received, "received again").await?;
        fence(&node, received).await?;
    }
    Ok(())
}

/// A node that has never posted on a channel posts there once, and that gets lost. It can be reported once messages of the node have
/// arrived elsewhere, and the subscription is known to be older than that.
async fn a_lost_first_message_of_a_node_is_reported(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    let names: Vec<String> = (0..60).map(|n| format!("first.{n}")).collect();
    let mut channels = Vec::new();
    for name in &names {
        channels.push(node.subscribe(name).await?);
    }
    losses.lose("lost");
    let (mut reported, mut tried) = (0, 0);
    for (name, received) in names.iter().zip(&mut channels) {
        post(&poster, "other", "keeps the digests coming").await?;
        post(&poster, name, "lost").await?;
        let digests = losses.digests();
        until("a digest", || losses.digests() > digests).await?;
        tried += 1;
        // In the first moments nobody knows enough; from the first time on it must be so every time.
        let limit = if reported == 0 { Duration::from_millis(100) } else { LIMIT };
        match tokio::time::timeout(limit, received.next()).await {
            Ok(Some(Event::Gap(gap))) => skipped(&gap, Some(1))?,
            Ok(other) => return Err(format!("expected a gap, got {other:?}").into()),
            Err(_) if reported > 0 => return Err(format!("reported {reported} times, and then not").into()),
            Err(_) => continue,
        }
        reported += 1;
        if reported == 3 {
            return Ok(());
        }
    }
    Err(format!("{reported} of {tried} reported").into())
}

async fn a_loss_is_reported_when_its_digest_is_lost_too(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    let (mut received, mut quiet) = (node.subscribe("news").await?, node.subscribe("quiet").await?);
    post(&poster, "news", "received").await?;
    receives(&mut received, "received").await?;
    until("a digest, and the empty one behind it", || losses.digests() >= 2).await?;
    losses.rule(|frame| if frame.channel.as_str().contains("$node") { Fate::Arrives } else { Fate::Lost });
    post(&poster, "news", "lost").await?;
    until("the digest of the loss", || losses.digests() >= 3).await?;
    losses.stop();
    // Nobody knows what it told: on every channel something may be missing.
    receives_skipped(&mut received, None).await?;
    receives_skipped(&mut quiet, None).await?;
    post(&poster, "news", "received again").await?;
    receives_skipped(&mut received, Some(1)).await?;
    receives(&mut received, "received again").await?;
    fence(&node, &mut received).await?;
    Ok(())
}

async fn draining_reports_lost_last_messages(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let losses = Losses::default();
    let around = losses.clone();
    let never = |options: &mut broker_core::Options| options.digest_interval = Duration::from_secs(3600);
    let poster = h.node_through(never, move |driver| around.around(driver)).await?;
    let mut received = node.subscribe("news").await?;
    losses.lose("lost");
    post(&poster, "news", "received").await?;
    post(&poster, "news", "lost").await?;
    within("the broker to drain", poster.drain()).await?;
    receives(&mut received, "received").await?;
    receives_skipped(&mut received, Some(1)).await?;
    Ok(())
}

/// Whoever subscribes later has missed nothing, and is told of nothing.
async fn losses_before_the_subscription_are_not_reported(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    losses.lose("lost");
    for n in 0..20 {
        let name = format!("news.{n}");
        let mut first = poster.subscribe(&name).await?;
        post(&poster, &name, "received").await?;
        post(&poster, &name, "lost").await?;
        let mut late = node.subscribe(&name).await?;
        let digests = losses.digests();
        until("a digest", || losses.digests() > digests).await?;
        receives(&mut first, "received").await?;
        receives_skipped(&mut first, Some(1)).await?;
        receive_nothing_more(&node, &mut [&mut late, &mut first]).await?;
    }
    Ok(())
}

/// They failed before they were sent: nobody has missed them.
async fn unsent_posts_leave_no_gap(h: &dyn Harness) -> Outcome {
    let (node, poster) = (h.node().await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    post(&poster, "news", "before").await?;
    poster.line.cut();
    wait_for_disconnect(&poster).await?;
    for _ in 0..10 {
        assert!(post(&poster, "news", "never sent").await.is_err());
    }
    poster.line.heal();
    wait_for_link(&poster, 2).await?;
    post(&poster, "news", "after").await?;
    receives(&mut received, "before").await?;
    receives(&mut received, "after").await?;
    fence(&node, &mut received).await?;
    Ok(())
}

/// A node counts 65,536 channels, then it begins anew.
async fn channels_beyond_the_counters_raise_no_false_gap(h: &dyn Harness) -> Outcome {
    let (node, losses) = (h.node().await?, Losses::default());
    let around = losses.clone();
    // Nothing is told by the clock.
    let never = |options: &mut broker_core::Options| options.digest_interval = Duration::from_secs(3600);
    let poster = h.node_through(never, move |driver| around.around(driver)).await?;
    let (mut received, mut ended) = (node.subscribe("news").await?, node.subscribe("ended").await?);
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
        receives(&mut received, text).await?;
    }
    receives(&mut ended, "one").await?;
    receives(&mut ended, "two").await?;
    receives_skipped(&mut ended, Some(1)).await?;
    receives(&mut ended, "three").await?;
    receives(&mut ended, "four").await?;
    for received in [&mut received, &mut ended] {
        fence(&node, received).await?;
    }
    Ok(())
}

async fn an_idle_node_sends_no_digest(h: &dyn Harness) -> Outcome {
    let (node, (quiet, losses)) = (h.node().await?, lossy_node(h).await?);
    let mut received = quiet.subscribe("news").await?;
    for n in 0..20 {
        post(&node, "news", n.to_string()).await?;
        receives(&mut received, &n.to_string()).await?;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(losses.digests(), 0);
    post(&quiet, "news", "one").await?;
    until("a digest, and the empty one behind it", || losses.digests() >= 2).await?;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(losses.digests(), 2, "digests of nothing");
    Ok(())
}
