//! Cases about a backend that is away: what is refused stays refused, and what was accepted is delivered or told.

use std::{collections::BTreeSet, fmt::Debug, ops::Range, time::Duration};

use broker_core::{Broker, Error, ErrorKind, Event, Gap, GapCause, Message, Receipt, Scope, Subscription};
use tokio::sync::watch;

use crate::steps::{post, quick_detection, receives, receives_gap, wait_for_disconnect, wait_for_link};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, Node},
    wait::{SHORT, fence, next_event, text, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(posts_while_disconnected_fail_at_once_and_are_not_kept, [6]).needs(&[Need::Server]),
    case!(a_post_into_a_stalled_line_ends_and_is_not_kept, [6]).needs(&[Need::Server, Need::Confirms]),
    case!(auto_never_falls_back_to_local, [2, 6]).needs(&[Need::Server]),
    case!(subscribing_while_disconnected_waits_for_the_link, [1]).needs(&[Need::Server]),
    case!(subscribing_while_disconnected_fails_at_the_limit_without_trace, [1, 12]).needs(&[Need::Server]),
    case!(posts_accepted_by_a_killed_server_arrive_or_lie_in_a_gap, [3, 4, 6])
        .needs(&[Need::OwnServer, Need::Server]),
    case!(a_post_without_an_answer_is_neither_accepted_nor_refused, [6]).needs(&[Need::Confirms]),
    case!(posts_missed_while_disconnected_lie_in_gaps, [3, 4]).needs(&[Need::Server]),
    case!(posts_accepted_before_the_publisher_disconnects_arrive, [3, 4, 6])
        .needs(&[Need::PostsInTurn, Need::Server]),
];

fn unavailable<T: Debug>(outcome: Result<T, Error>) -> Result<(), String> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Unavailable && error.is_transient() => Ok(()),
        other => Err(format!("expected it to be unavailable: {other:?}")),
    }
}

async fn posts_while_disconnected_fail_at_once_and_are_not_kept(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    let mut received = other.subscribe("news").await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    // So many that waiting for each would take longer than the limit.
    within("a thousand refusals", async {
        for n in 0..1000 {
            unavailable(node.publish("news", n.to_string(), Scope::Global).await)?;
        }
        Ok::<(), String>(())
    })
    .await??;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    fence(&node, &mut received).await?;
    Ok(())
}

/// Before the stall is noticed a post waits for its answer; after, it is refused at once. A gap counts the post that may
/// have been lost, and none that was refused.
async fn a_post_into_a_stalled_line_ends_and_is_not_kept(h: &dyn Harness) -> Outcome {
    // Without digests the numbers alone make the gap, and no long stall is taken for a killed node.
    let never = |options: &mut broker_core::Options| options.digest_interval = Duration::from_secs(3600);
    let quick = |options: &mut broker_core::Options| {
        quick_detection(options);
        never(options);
    };
    let (node, other) = (h.node_with(quick).await?, h.node_with(never).await?);
    let mut received = other.subscribe("news").await?;
    fence(&node, &mut received).await?;
    node.line.stall();
    let early = within("the first post", node.publish("news", "early", Scope::Global)).await?;
    let interrupted = match early.map_err(|error| error.kind()) {
        Err(ErrorKind::Interrupted) => true,
        Err(ErrorKind::Unavailable) => false,
        other => return Err(format!("a post into a stalled line: {other:?}").into()),
    };
    wait_for_disconnect(&node).await?;
    within("a hundred refusals", async {
        for n in 0..100 {
            unavailable(node.publish("news", n.to_string(), Scope::Global).await)?;
        }
        Ok::<(), String>(())
    })
    .await??;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    if interrupted {
        post(&node, "news", "later").await?;
        receives_gap(&mut received, Some(1), GapCause::Skipped).await?;
        receives(&mut received, "later").await?;
    }
    fence(&node, &mut received).await?;
    Ok(())
}

async fn auto_never_falls_back_to_local(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    unavailable(node.publish("news", "auto", Scope::Auto).await)?;
    node.publish("news", "local", Scope::Local).await?;
    receives(&mut received, "local").await?;
    Ok(())
}

async fn subscribing_while_disconnected_waits_for_the_link(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    node.line.cut();
    wait_for_disconnect(&node).await?;
    let failures = node.health().failures;
    let mut subscribing = std::pin::pin!(node.subscribe("news"));
    // It still waits when three more attempts to connect have failed.
    tokio::select! {
        early = &mut subscribing => return Err(format!("subscribed while cut off: {early:?}").into()),
        tried = until("more attempts", || node.health().failures >= failures + 3) => tried?,
    }
    node.line.heal();
    let mut received = within("the confirmation", subscribing).await??;
    post(&other, "news", "first").await?;
    receives(&mut received, "first").await?;
    Ok(())
}

async fn subscribing_while_disconnected_fails_at_the_limit_without_trace(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.subscribe_timeout = SHORT).await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    let session = node.session();
    let (one, two) = futures_util::join!(
        within("a refusal", node.subscribe("ghost.1")),
        within("a refusal", session.create_stream::<crate::steps::Count>("ghost.2")),
    );
    unavailable(one?.map(drop))?;
    unavailable(two?.map(drop))?;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    // What was asked for before this one would be subscribed by now.
    let _later = node.subscribe("later").await?;
    let [only] = &h.subscribed_channels().await?[..] else { return Err("a trace is left".into()) };
    assert!(only.ends_with("later"), "{only}");
    Ok(())
}

/// What became of every post of a row, by its number.
#[derive(Debug, Default)]
struct Posted {
    accepted: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

impl Posted {
    fn note(&mut self, n: u64, outcome: Result<Receipt, Error>) -> Result<(), String> {
        let set = match outcome.map_err(|error| error.kind()) {
            Ok(_) => &mut self.accepted,
            Err(ErrorKind::Unavailable) => &mut self.refused,
            Err(ErrorKind::Interrupted) => &mut self.unknown,
            Err(other) => return Err(format!("post {n}: {other:?}")),
        };
        set.insert(n);
        Ok(())
    }
}

/// Posts numbers, ten at a time, until told to stop; then `end`. Says how many were accepted so far.
async fn row(
    node: &Broker,
    accepted_count: &watch::Sender<u64>,
    stop: &watch::Receiver<bool>,
) -> Result<Posted, String> {
    let (mut posted, mut n) = (Posted::default(), 0);
    while !*stop.borrow() {
        let batch = n..n + 10;
        let posts = batch.clone().map(|n| node.publish("numbers", n.to_string(), Scope::Global));
        for (n, outcome) in batch.clone().zip(futures_util::future::join_all(posts).await) {
            posted.note(n, outcome)?;
        }
        n = batch.end;
        accepted_count.send_replace(posted.accepted.len() as u64);
        if batch.end % 100 == 0 {
            // Not more refusals than a few hundred.
            within("a link", node.ready()).await?.map_err(|error| error.to_string())?;
        }
    }
    within("a link", node.ready()).await?.map_err(|error| error.to_string())?;
    post(node, "numbers", "end").await?;
    Ok(posted)
}

/// What a subscriber received of the row: stretches without a gap between them, each strictly rising.
async fn received_of_the_row(subscription: &mut Subscription) -> Result<Vec<Vec<u64>>, String> {
    match received_with_drops(subscription).await? {
        (stretches, dropped) if dropped.is_empty() => Ok(stretches),
        (_, dropped) => Err(format!("gaps among the numbers that no link explains: {dropped:?}")),
    }
}

/// The same, and those of the gaps that say that the backend dropped something while the link was there.
async fn received_with_drops(subscription: &mut Subscription) -> Result<(Vec<Vec<u64>>, Vec<Gap>), String> {
    let (mut stretches, mut sequence, mut dropped) = (vec![Vec::new()], 0, Vec::new());
    loop {
        match next_event(subscription).await? {
            Event::Gap(gap) if matches!(gap.cause, GapCause::LinkLost | GapCause::Dropped) => {
                stretches.push(Vec::new());
                dropped.extend((gap.cause == GapCause::Dropped).then_some(gap));
            }
            // Of posts whose fate nobody knows, or because a publisher that could not reach its server for long was taken
            // for killed. What was accepted must be received all the same.
            Event::Gap(gap) if gap.cause == GapCause::Skipped => {}
            Event::Message(message) => {
                sequence = rising(&message, sequence)?;
                match text(&message)?.parse() {
                    Ok(n) => stretches.last_mut().ok_or("no stretch")?.push(n),
                    Err(_) => break,
                }
            }
            other => return Err(format!("among the numbers: {other:?}")),
        }
    }
    let in_order = stretches.concat().is_sorted_by(|a, b| a < b);
    if in_order { Ok((stretches, dropped)) } else { Err("out of order".to_owned()) }
}

fn rising(message: &Message, last: u64) -> Result<u64, String> {
    let sequence = message.sequence().ok_or("a message without a sequence number")?;
    if sequence > last { Ok(sequence) } else { Err(format!("sequence {sequence} after {last}")) }
}

/// Nothing refused was received; everything accepted was received, or lies in a gap.
fn check(posted: &Posted, stretches: &[Vec<u64>]) -> Result<(), String> {
    let received: BTreeSet<u64> = stretches.iter().flatten().copied().collect();
    if let Some(n) = received.intersection(&posted.refused).next() {
        return Err(format!("{n} was refused, and received"));
    }
    let gaps: Vec<Range<u64>> = gaps(stretches);
    let in_a_gap = |n: &u64| gaps.iter().any(|gap| gap.contains(n));
    match posted.accepted.difference(&received).find(|n| !in_a_gap(n)) {
        Some(n) => Err(format!("{n} was accepted, and neither received nor in a gap: {gaps:?}")),
        None => Ok(()),
    }
}

/// The numbers between the last before each gap and the first after it.
fn gaps(stretches: &[Vec<u64>]) -> Vec<Range<u64>> {
    let last = |until: usize| stretches[..until].iter().flatten().last().map_or(0, |n| n + 1);
    let first = |from: usize| stretches[from..].iter().flatten().next().copied().unwrap_or(u64::MAX);
    (1..stretches.len()).map(|at| last(at)..first(at)).collect()
}

async fn more(accepted_count: &watch::Sender<u64>, count: u64) -> Result<(), String> {
    let (mut accepted, before) = (accepted_count.subscribe(), *accepted_count.borrow());
    within("more accepted posts", accepted.wait_for(|now| *now >= before + count))
        .await?
        .map(drop)
        .map_err(|error| error.to_string())
}

async fn posts_accepted_by_a_killed_server_arrive_or_lie_in_a_gap(h: &dyn Harness) -> Outcome {
    // All of it fits into the queues: overflow is another subject.
    let large = |options: &mut broker_core::Options| options.queue_capacity = 1 << 20;
    let (publisher, other): (Node, Node) = (h.node_with(large).await?, h.node_with(large).await?);
    let mut received = [publisher.subscribe("numbers").await?, other.subscribe("numbers").await?];
    let ((accepted_count, _), (stop, stopping)) = (watch::channel(0), watch::channel(false));
    let breaking = async {
        for round in 0..2 {
            more(&accepted_count, 200).await?;
            h.kill_server().await?;
            wait_for_disconnect(&publisher).await?;
            h.start_server().await?;
            wait_for_link(&other, round + 2).await?;
        }
        more(&accepted_count, 200).await?;
        stop.send_replace(true);
        Ok(())
    };
    let (posted, ()) = futures_util::try_join!(row(&publisher, &accepted_count, &stopping), breaking)?;
    assert!(!posted.refused.is_empty() || !posted.unknown.is_empty(), "the server was never away");
    for received in &mut received {
        // A cluster's members end, and begin, one after the other: a part of it may be away while the link is there.
        let (stretches, dropped) = received_with_drops(received).await?;
        assert!(dropped.is_empty() || h.members().is_some(), "gaps of a part of a server alone: {dropped:?}");
        assert_eq!(
            stretches.len() - dropped.len(),
            3,
            "two gaps expected, beside those of a part: {dropped:?}"
        );
        check(&posted, &stretches)?;
    }
    Ok(())
}

/// The server takes the posts and its answers get lost, as far as the backend knows directions.
async fn a_post_without_an_answer_is_neither_accepted_nor_refused(h: &dyn Harness) -> Outcome {
    let (publisher, other) = (h.node_with(quick_detection).await?, h.node().await?);
    let mut received = other.subscribe("numbers").await?;
    publisher.line.stall_downstream();
    let mut posted = Posted::default();
    let posts = (0..10_u64).map(|n| publisher.publish("numbers", n.to_string(), Scope::Global));
    let outcomes = within("the posts to end", futures_util::future::join_all(posts)).await?;
    for (n, outcome) in (0..).zip(outcomes) {
        posted.note(n, outcome)?;
    }
    publisher.line.heal();
    wait_for_link(&publisher, 2).await?;
    post(&publisher, "numbers", "end").await?;
    assert!(posted.accepted.is_empty(), "accepted without an answer: {:?}", posted.accepted);
    check(&posted, &received_of_the_row(&mut received).await?)?;
    Ok(())
}

async fn posts_missed_while_disconnected_lie_in_gaps(h: &dyn Harness) -> Outcome {
    let large = |options: &mut broker_core::Options| options.queue_capacity = 1 << 20;
    let (publisher, other): (Node, Node) = (h.node().await?, h.node_with(large).await?);
    let mut received = other.subscribe("numbers").await?;
    let ((accepted_count, _), (stop, stopping)) = (watch::channel(0), watch::channel(false));
    let breaking = async {
        for round in 0..10 {
            more(&accepted_count, 50).await?;
            other.line.cut();
            wait_for_disconnect(&other).await?;
            more(&accepted_count, 50).await?;
            other.line.heal();
            wait_for_link(&other, round + 2).await?;
        }
        more(&accepted_count, 50).await?;
        stop.send_replace(true);
        Ok(())
    };
    let (posted, ()) = futures_util::try_join!(row(&publisher, &accepted_count, &stopping), breaking)?;
    assert_eq!((posted.refused.len(), posted.unknown.len()), (0, 0));
    let stretches = received_of_the_row(&mut received).await?;
    assert_eq!(stretches.len(), 11, "ten gaps expected");
    check(&posted, &stretches)?;
    Ok(())
}

async fn posts_accepted_before_the_publisher_disconnects_arrive(h: &dyn Harness) -> Outcome {
    let large = |options: &mut broker_core::Options| options.queue_capacity = 1 << 20;
    let (publisher, other): (Node, Node) = (h.node_with(large).await?, h.node_with(large).await?);
    let mut received = other.subscribe("numbers").await?;
    let ((accepted_count, _), (stop, stopping)) = (watch::channel(0), watch::channel(false));
    let breaking = async {
        for round in 0..10 {
            more(&accepted_count, 50).await?;
            publisher.line.cut();
            wait_for_disconnect(&publisher).await?;
            publisher.line.heal();
            wait_for_link(&publisher, round + 2).await?;
        }
        stop.send_replace(true);
        Ok(())
    };
    let (posted, ()) = futures_util::try_join!(row(&publisher, &accepted_count, &stopping), breaking)?;
    assert!(!posted.refused.is_empty() || !posted.unknown.is_empty(), "the publisher was never cut off");
    let stretches = received_of_the_row(&mut received).await?;
    assert_eq!(stretches.len(), 1, "a gap where no link of this node was lost");
    check(&posted, &stretches)?;
    Ok(())
}
