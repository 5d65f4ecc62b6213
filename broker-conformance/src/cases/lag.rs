//! Cases about subscribers that are too slow: only they lose messages, and receive how many, and where.

use broker_core::{Gap, GapCause, Subscription};

use crate::steps::{called_with, count, listener, posted, receive_nothing_more, receives, receives_gap};
use crate::{
    case::{Case, Outcome, case},
    harness::{Harness, Node},
    wait::{fence, next_item, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_slow_subscriber_receives_the_exact_number_lost, [4, 5]),
    case!(a_lag_gap_stands_where_messages_were_lost, [4]),
    case!(each_slow_subscriber_receives_its_own_loss, [4, 5]),
    case!(a_slow_listener_receives_its_loss_and_continues, [4, 5, 7]),
    case!(an_unread_stream_slows_nothing_down, [5]),
];

/// So few that a slow reader overflows soon.
const CAPACITY: usize = 8;

async fn small_node(h: &dyn Harness) -> Result<Node, String> {
    h.node_with(|options| options.queue_capacity = CAPACITY).await
}

async fn lost(subscription: &mut Subscription, missed: u64) -> Result<(), String> {
    receives_gap(subscription, Some(missed), GapCause::Overflow).await
}

async fn receives_all(
    subscription: &mut Subscription,
    numbers: std::ops::Range<usize>,
) -> Result<(), String> {
    for n in numbers {
        receives(subscription, &n.to_string()).await?;
    }
    Ok(())
}

/// The oldest are lost, by the slow one alone.
async fn a_slow_subscriber_receives_the_exact_number_lost(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, small_node(h).await?);
    let (mut slow, mut quick) = (node.subscribe("news").await?, node.subscribe("news").await?);
    let mut elsewhere = publisher.subscribe("news").await?;
    posted(&publisher, &mut quick, 0..100).await?;
    lost(&mut slow, 92).await?;
    receives_all(&mut slow, 92..100).await?;
    receives_all(&mut elsewhere, 0..100).await?;
    receive_nothing_more(&publisher, &mut [&mut slow, &mut quick, &mut elsewhere]).await?;
    Ok(())
}

async fn a_lag_gap_stands_where_messages_were_lost(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, small_node(h).await?);
    let (mut slow, mut quick) = (node.subscribe("news").await?, node.subscribe("news").await?);
    posted(&publisher, &mut quick, 0..3).await?;
    receives_all(&mut slow, 0..3).await?;
    posted(&publisher, &mut quick, 3..23).await?;
    lost(&mut slow, 12).await?;
    receives_all(&mut slow, 15..23).await?;
    posted(&publisher, &mut quick, 23..31).await?;
    receives_all(&mut slow, 23..31).await?;
    posted(&publisher, &mut quick, 31..40).await?;
    lost(&mut slow, 1).await?;
    receives_all(&mut slow, 32..40).await?;
    fence(&publisher, &mut slow).await?;
    Ok(())
}

/// One looks once in between: it loses in two places, the other in one.
async fn each_slow_subscriber_receives_its_own_loss(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, small_node(h).await?);
    let mut quick = node.subscribe("news").await?;
    let (mut slow, mut slower) = (node.subscribe("news").await?, node.subscribe("news").await?);
    posted(&publisher, &mut quick, 0..10).await?;
    lost(&mut slow, 2).await?;
    receives(&mut slow, "2").await?;
    posted(&publisher, &mut quick, 10..30).await?;
    // What it had taken at its look is not lost.
    receives_all(&mut slow, 3..10).await?;
    lost(&mut slow, 12).await?;
    lost(&mut slower, 22).await?;
    receives_all(&mut slow, 22..30).await?;
    receives_all(&mut slower, 22..30).await?;
    receive_nothing_more(&publisher, &mut [&mut slow, &mut slower, &mut quick]).await?;
    Ok(())
}

async fn a_slow_listener_receives_its_loss_and_continues(h: &dyn Harness) -> Outcome {
    use std::sync::Arc;
    use tokio::sync::{Semaphore, mpsc::unbounded_channel};

    let (publisher, node) = (h.node().await?, small_node(h).await?);
    let session = node.session();
    let (turns, (sender, mut calls)) = (Arc::new(Semaphore::new(0)), unbounded_channel());
    let slow = {
        let turns = Arc::clone(&turns);
        move |item: broker_core::StreamItem<crate::steps::Count>| {
            let (turns, sender) = (Arc::clone(&turns), sender.clone());
            async move {
                drop(sender.send(item));
                let turn = turns.acquire().await;
                turn.map_or_else(drop, tokio::sync::SemaphorePermit::forget);
            }
        }
    };
    session.add_listener("counts", slow).await?;
    let mut quick = listener(&session, "counts").await?;
    count(&publisher, "counts", 0).await?;
    called_with(&mut calls, 0).await?;
    // It hangs in its first call, and the others are not held up.
    for n in 0..30 {
        called_with(&mut quick, n).await?;
        count(&publisher, "counts", n + 1).await?;
    }
    called_with(&mut quick, 30).await?;
    turns.add_permits(1000);
    match within("a call", calls.recv()).await?.ok_or("the listener is gone")? {
        Err(broker_core::StreamError::Gap(Gap { missed: Some(22), cause: GapCause::Overflow, .. })) => {}
        other => return Err(format!("expected 22 lost to overflow, got {other:?}").into()),
    }
    for n in 23..=30 {
        called_with(&mut calls, n).await?;
    }
    count(&publisher, "counts", 31).await?;
    called_with(&mut calls, 31).await?;
    Ok(())
}

async fn an_unread_stream_slows_nothing_down(h: &dyn Harness) -> Outcome {
    let (publisher, node) = (h.node().await?, small_node(h).await?);
    let session = node.session();
    let mut unread = session.create_stream::<crate::steps::Count>("counts").await?;
    let mut read = session.create_stream::<crate::steps::Count>("counts").await?;
    let mut other = node.subscribe("other").await?;
    for n in 0..1000 {
        count(&publisher, "counts", n).await?;
        match next_item(&mut read).await? {
            Ok(count) if count.n == n => {}
            item => return Err(format!("expected {n}, got {item:?}").into()),
        }
    }
    fence(&publisher, &mut other).await?;
    match next_item(&mut unread).await? {
        Err(broker_core::StreamError::Gap(Gap { missed: Some(992), cause: GapCause::Overflow, .. })) => {
            Ok(())
        }
        item => Err(format!("expected 992 lost to overflow, got {item:?}").into()),
    }
}
