//! Cases about messages that get lost, or come twice, while every link is fine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker_core::{Gap, GapCause, Options, Subscription};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::steps::{
    called_with, count, listener, next_call, post, receive_nothing_more, receives, wait_for_disconnect,
    wait_for_link,
};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, Node},
    lossy_driver::{Fate, Losses, is_digest, is_question},
    wait::{fence, next_gap, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(lost_messages_are_counted_where_they_are_missing, [4]).needs(&[Need::PostsInTurn]),
    case!(a_listener_receives_a_gap_for_lost_messages, [4]),
    case!(a_duplicated_message_is_delivered_once, [2]).needs(&[Need::PostsInTurn]),
    case!(a_lost_last_message_is_reported, [4]),
    case!(a_lost_first_message_of_a_node_is_reported, [4]),
    case!(a_lost_question_for_a_digest_is_asked_again, [4]),
    case!(a_lost_answer_to_a_question_is_asked_for_again, [4]),
    case!(the_last_messages_of_a_killed_node_are_reported, [4]),
    case!(a_node_that_closes_is_not_taken_for_killed, [4]),
    case!(a_loss_is_reported_when_its_digest_is_lost_too, [4]),
    case!(draining_reports_lost_last_messages, [4, 12]),
    case!(losses_before_the_subscription_are_not_reported, [4]).needs(&[Need::PostsInTurn]),
    case!(unsent_posts_leave_no_gap, [4, 6]).needs(&[Need::Server]),
    case!(channels_beyond_the_counters_raise_no_false_gap, [4]).needs(&[Need::OnePath]),
    case!(an_idle_node_sends_no_digest, [4]),
];

/// A node whose posts the backend may lose.
async fn lossy_node(h: &dyn Harness) -> Result<(Node, Losses), String> {
    let losses = Losses::default();
    let around = losses.clone();
    let node = h.node_through(|_| {}, move |driver| around.around(driver)).await?;
    // From here on it sends none unless it has posted, or is asked.
    until("its first digest", || losses.digests() == 1).await?;
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
    losses.rule(|frame| match frame.frame().last() {
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

/// Nothing but the answers to its questions proves to a node since when it is subscribed: its heartbeats are rare.
fn no_heartbeat(options: &mut Options) {
    options.heartbeat = Duration::from_secs(3600);
}

/// The first message of a node on a channel is lost, and then the first on another, which is reported even though nothing of
/// that node was ever received.
async fn loses_its_first_messages(
    node: &Node,
    poster: &Node,
    losses: &Losses,
    received: &mut Subscription,
) -> Result<(), String> {
    losses.lose("lost");
    post(poster, "news", "lost").await?;
    receives_skipped(received, Some(1)).await?;
    post(poster, "news", "lost").await?;
    post(poster, "news", "received").await?;
    receives_skipped(received, Some(1)).await?;
    receives(received, "received").await?;
    fence(node, received).await
}

async fn a_lost_first_message_of_a_node_is_reported(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node_with(no_heartbeat).await?, lossy_node(h).await?);
    let mut received = node.subscribe("news").await?;
    until("the answer", || losses.digests() > 1).await?;
    loses_its_first_messages(&node, &poster, &losses, &mut received).await?;
    Ok(())
}

async fn a_lost_question_for_a_digest_is_asked_again(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node_with(no_heartbeat).await?, lossy_node(h).await?);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    losses.deaf(move |arrival| is_question(arrival) && count.fetch_add(1, Ordering::SeqCst) < 3);
    let mut received = node.subscribe("news").await?;
    until("the answer", || losses.digests() > 1).await?;
    assert!(asked.load(Ordering::SeqCst) > 3, "answered without a question");
    loses_its_first_messages(&node, &poster, &losses, &mut received).await?;
    Ok(())
}

async fn a_lost_answer_to_a_question_is_asked_for_again(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node_with(no_heartbeat).await?, lossy_node(h).await?);
    let answers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answers);
    losses.rule(move |frame| {
        let lost = is_digest(frame) && count.fetch_add(1, Ordering::SeqCst) < 3;
        if lost { Fate::Lost } else { Fate::Arrives }
    });
    let mut received = node.subscribe("news").await?;
    until("the fourth answer", || losses.digests() > 4).await?;
    // Those that were lost may have told anything.
    receives_skipped(&mut received, None).await?;
    loses_its_first_messages(&node, &poster, &losses, &mut received).await?;
    Ok(())
}

/// Posts, and is killed: from its first message on no digest gets out, not even a last one.
async fn killed(poster: Node, losses: &Losses, received: &mut Subscription) -> Result<(), String> {
    losses.rule(|frame| {
        if is_digest(frame) || frame.frame().ends_with(b"lost") { Fate::Lost } else { Fate::Arrives }
    });
    post(&poster, "news", "received").await?;
    post(&poster, "news", "lost").await?;
    receives(received, "received").await?;
    poster.close().await;
    Ok(())
}

async fn the_last_messages_of_a_killed_node_are_reported(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    let (mut received, mut quiet) = (node.subscribe("news").await?, node.subscribe("quiet").await?);
    until("the answer", || losses.digests() > 1).await?;
    killed(poster, &losses, &mut received).await?;
    // Nobody knows what it has posted: on every channel something may be missing.
    for received in [&mut received, &mut quiet] {
        receives_skipped(received, None).await?;
        fence(&node, received).await?;
    }
    Ok(())
}

/// One node closes, another one is killed later: there is one gap.
async fn a_node_that_closes_is_not_taken_for_killed(h: &dyn Harness) -> Outcome {
    let (node, closing, (poster, losses)) = (h.node().await?, h.node().await?, lossy_node(h).await?);
    let mut received = node.subscribe("news").await?;
    until("the answer", || losses.digests() > 1).await?;
    post(&closing, "news", "the last").await?;
    closing.close().await;
    receives(&mut received, "the last").await?;
    // Longer than anybody is waited for.
    for _ in 0..8 {
        let digests = losses.digests();
        post(&poster, "news", "still here").await?;
        receives(&mut received, "still here").await?;
        until("a digest", || losses.digests() > digests).await?;
    }
    killed(poster, &losses, &mut received).await?;
    receives_skipped(&mut received, None).await?;
    fence(&node, &mut received).await?;
    Ok(())
}

async fn a_loss_is_reported_when_its_digest_is_lost_too(h: &dyn Harness) -> Outcome {
    let (node, (poster, losses)) = (h.node().await?, lossy_node(h).await?);
    let (mut received, mut quiet) = (node.subscribe("news").await?, node.subscribe("quiet").await?);
    post(&poster, "news", "received").await?;
    let digests = losses.digests();
    receives(&mut received, "received").await?;
    until("a digest, and the empty one behind it", || losses.digests() >= digests + 2).await?;
    let told = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&told);
    losses.rule(move |frame| {
        let names_it = is_digest(frame) && frame.frame().windows(4).any(|part| part == b"news");
        tells.fetch_or(names_it, Ordering::SeqCst);
        if frame.channel.as_str().contains("$node") { Fate::Arrives } else { Fate::Lost }
    });
    post(&poster, "news", "lost").await?;
    until("the digest of the loss", || told.load(Ordering::SeqCst)).await?;
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
    // Once it has asked, and answered itself.
    let received = &mut received;
    let idle = loop {
        let before = losses.digests();
        for n in 0..20 {
            post(&node, "news", n.to_string()).await?;
            receives(received, &n.to_string()).await?;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        if losses.digests() == before {
            break before;
        }
        assert!(before < 20, "digests of nothing");
    };
    post(&quiet, "news", "one").await?;
    until("a digest, and the empty one behind it", || losses.digests() >= idle + 2).await?;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(losses.digests(), idle + 2, "digests of nothing");
    Ok(())
}
