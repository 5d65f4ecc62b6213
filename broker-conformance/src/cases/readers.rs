//! Cases about subscriptions with options of their own: how many messages wait, which of them, and when it begins.

use std::time::Duration;

use broker_core::{CloseReason, ErrorKind, GapCause, SubscribeOptions};
use futures_util::FutureExt;

use crate::steps::{
    lost_link, post, posted, receive_nothing_more, receives, receives_gap, wait_for_disconnect, wait_for_link,
};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    lossy_driver::{Fate, Losses, is_digest},
    wait::{SHORT, fence, next_gap, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_reader_of_the_newest_message_receives_how_many_it_skipped, [4, 5]),
    case!(a_reader_of_the_newest_message_that_keeps_up_skips_nothing, [3, 5]),
    case!(a_loss_before_the_newest_message_is_reported_as_a_loss, [4]),
    case!(a_lost_link_before_the_newest_message_is_reported_as_such, [4]).needs(&[Need::Server]),
    case!(each_reader_of_a_channel_has_its_own_capacity, [4, 5]),
    case!(a_channel_keeps_no_more_bytes_than_its_limit, [4, 5]),
    case!(a_call_waits_no_longer_than_its_own_limit, [1, 11]).needs(&[Need::Server]),
    case!(a_subscription_that_does_not_wait_says_when_it_begins, [1, 4]).needs(&[Need::Server]),
    case!(what_is_posted_after_a_late_beginning_arrives, [1, 4]),
    case!(a_refused_subscription_that_does_not_wait_ends_with_the_reason, [11]).needs(&[Need::Permissions]),
    case!(a_dropped_subscription_that_has_not_begun_leaves_nothing, [12]),
];

fn latest() -> SubscribeOptions {
    SubscribeOptions::new().latest_only()
}

fn without_waiting() -> SubscribeOptions {
    SubscribeOptions::new().without_waiting()
}

/// Also of what the channel does not keep for it any more.
async fn a_reader_of_the_newest_message_receives_how_many_it_skipped(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, h.node_with(|options| options.queue_capacity = 8).await?);
    let mut quick = node.subscribe("news").await?;
    let mut newest = node.subscribe_with("news", latest()).await?;
    for (end, skipped) in [(5, 4), (100, 94), (102, 1)] {
        posted(&publisher, &mut quick, end - skipped - 1..end).await?;
        receives_gap(&mut newest, Some(skipped as u64), GapCause::Conflated).await?;
        receives(&mut newest, &(end - 1).to_string()).await?;
    }
    receive_nothing_more(&publisher, &mut [&mut newest, &mut quick]).await?;
    Ok(())
}

async fn a_reader_of_the_newest_message_that_keeps_up_skips_nothing(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, h.node().await?);
    let mut newest = node.subscribe_with("news", latest()).await?;
    posted(&publisher, &mut newest, 0..100).await?;
    receive_nothing_more(&publisher, &mut [&mut newest]).await?;
    Ok(())
}

/// What is lost on the way is not what the reader skips.
async fn a_loss_before_the_newest_message_is_reported_as_a_loss(h: &dyn Harness) -> Outcome {
    let losses = Losses::default();
    let around = losses.clone();
    let poster = h.node_through(|_| {}, move |driver| around.around(driver)).await?;
    let node = h.node_with(|options| options.queue_capacity = 8).await?;
    let mut quick = node.subscribe("news").await?;
    let mut newest = node.subscribe_with("news", latest()).await?;
    for (first, last) in [(0, 9), (10, 49)] {
        posted(&poster, &mut quick, first..first + 3).await?;
        losses.rule(|frame| if is_digest(frame) { Fate::Arrives } else { Fate::Lost });
        post(&poster, "news", "lost").await?;
        post(&poster, "news", "lost, too").await?;
        losses.stop();
        post(&poster, "news", (first + 3).to_string()).await?;
        receives_gap(&mut quick, Some(2), GapCause::Skipped).await?;
        receives(&mut quick, &(first + 3).to_string()).await?;
        posted(&poster, &mut quick, first + 4..last + 1).await?;
        receives_gap(&mut newest, Some(2), GapCause::Skipped).await?;
        receives_gap(&mut newest, Some((last - first) as u64), GapCause::Conflated).await?;
        receives(&mut newest, &last.to_string()).await?;
    }
    receive_nothing_more(&node, &mut [&mut newest, &mut quick]).await?;
    Ok(())
}

async fn a_lost_link_before_the_newest_message_is_reported_as_such(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, h.node().await?);
    let mut quick = node.subscribe("news").await?;
    let mut newest = node.subscribe_with("news", latest()).await?;
    posted(&publisher, &mut quick, 0..3).await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    lost_link(&next_gap(&mut quick).await?)?;
    posted(&publisher, &mut quick, 3..7).await?;
    lost_link(&next_gap(&mut newest).await?)?;
    receives_gap(&mut newest, Some(6), GapCause::Conflated).await?;
    receives(&mut newest, "6").await?;
    receive_nothing_more(&publisher, &mut [&mut newest, &mut quick]).await?;
    Ok(())
}

/// Less than others, more than others, and as long as each is there.
async fn each_reader_of_a_channel_has_its_own_capacity(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, h.node_with(|options| options.queue_capacity = 8).await?);
    let mut quick = node.subscribe("news").await?;
    let of = |capacity| node.subscribe_with("news", SubscribeOptions::new().capacity(capacity));
    let mut readers = [(3, of(3).await?), (8, node.subscribe("news").await?), (50, of(50).await?)];
    posted(&publisher, &mut quick, 0..60).await?;
    for (capacity, reader) in &mut readers {
        receives_gap(reader, Some(60 - *capacity as u64), GapCause::Overflow).await?;
        for n in 60 - *capacity..60 {
            receives(reader, &n.to_string()).await?;
        }
    }
    let [(_, mut small), (_, mut plain), (_, large)] = readers;
    posted(&publisher, &mut quick, 60..90).await?;
    drop(large);
    for (capacity, reader) in [(3, &mut small), (8, &mut plain)] {
        receives_gap(reader, Some(30 - capacity), GapCause::Overflow).await?;
        for n in 90 - capacity..90 {
            receives(reader, &n.to_string()).await?;
        }
    }
    receive_nothing_more(&publisher, &mut [&mut small, &mut plain, &mut quick]).await?;
    Ok(())
}

async fn a_channel_keeps_no_more_bytes_than_its_limit(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, h.node_with(|options| options.queue_bytes = 10_000).await?);
    let (mut quick, mut slow) = (node.subscribe("news").await?, node.subscribe("news").await?);
    let text = |n: usize| format!("{n:0999}");
    for n in 0..50 {
        post(&publisher, "news", text(n)).await?;
        receives(&mut quick, &text(n)).await?;
    }
    receives_gap(&mut slow, Some(40), GapCause::Overflow).await?;
    for n in 40..50 {
        receives(&mut slow, &text(n)).await?;
    }
    // One that is larger than the limit is kept, alone.
    for large in ["a".repeat(20_000), "b".repeat(20_000)] {
        post(&publisher, "news", large.clone()).await?;
        receives(&mut quick, &large).await?;
    }
    receives_gap(&mut slow, Some(1), GapCause::Overflow).await?;
    receives(&mut slow, &"b".repeat(20_000)).await?;
    receive_nothing_more(&publisher, &mut [&mut quick, &mut slow]).await?;
    Ok(())
}

async fn a_call_waits_no_longer_than_its_own_limit(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.subscribe_timeout = Duration::from_secs(3600)).await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    let hasty = SubscribeOptions::new().timeout(SHORT);
    let outcome = within("the limit of the call", node.subscribe_with("news", hasty)).await?;
    match outcome.map_err(|error| error.kind()) {
        Err(ErrorKind::Unavailable) => Ok(()),
        other => Err(format!("expected it to be unavailable, got {other:?}").into()),
    }
}

/// It returns at once, without a link, and the first event says that the channel is subscribed.
async fn a_subscription_that_does_not_wait_says_when_it_begins(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    node.line.cut();
    wait_for_disconnect(&node).await?;
    let session = node.session();
    let returned = session.subscribe_with("news", without_waiting()).now_or_never();
    let mut news = returned.ok_or("the call waits")??;
    post(&other, "news", "before").await?;
    node.line.heal();
    receives_gap(&mut news, None, GapCause::Subscribed).await?;
    fence(&other, &mut news).await?;
    // The channel is subscribed: the next one begins at once.
    let mut second = session.subscribe_with("news", without_waiting()).await?;
    receives_gap(&mut second, None, GapCause::Subscribed).await?;
    receive_nothing_more(&other, &mut [&mut news, &mut second]).await?;
    Ok(())
}

/// Fresh channels, each with a post from another node right after its beginning: none is missed.
async fn what_is_posted_after_a_late_beginning_arrives(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    for n in 0..300 {
        let channel = format!("fresh.{n}");
        let mut fresh = here.subscribe_with(&channel, without_waiting()).await?;
        receives_gap(&mut fresh, None, GapCause::Subscribed).await?;
        post(&there, &channel, format!("first {n}")).await?;
        receives(&mut fresh, &format!("first {n}")).await?;
    }
    Ok(())
}

async fn a_refused_subscription_that_does_not_wait_ends_with_the_reason(h: &dyn Harness) -> Outcome {
    h.allow_only("open").await?;
    let node = h.node().await?;
    let (mut open, mut shut) = (
        node.subscribe_with("open", without_waiting()).await?,
        node.subscribe_with("shut", without_waiting()).await?,
    );
    let ended = within("the end", shut.next()).await?;
    assert!(ended.is_none(), "{ended:?}");
    match shut.close_reason() {
        Some(CloseReason::Refused(error)) => assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}"),
        other => return Err(format!("ended by {other:?}").into()),
    }
    receives_gap(&mut open, None, GapCause::Subscribed).await?;
    fence(&node, &mut open).await?;
    Ok(())
}

async fn a_dropped_subscription_that_has_not_begun_leaves_nothing(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut steady = node.subscribe("steady").await?;
    for n in 0..200 {
        let subscription = node.subscribe_with(format!("dropped.{}", n % 20), without_waiting()).await?;
        for _ in 0..n % 5 {
            tokio::task::yield_now().await;
        }
        drop(subscription);
    }
    until_is("the dropped ones to leave", 1, || async {
        h.subscribed_channels().await.map(|names| names.len())
    })
    .await?;
    fence(&node, &mut steady).await?;
    Ok(())
}
