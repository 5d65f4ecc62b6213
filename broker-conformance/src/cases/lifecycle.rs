//! Cases about closing: what ends, and that nothing is left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker_core::{Broker, CloseReason, ConnectionState, ErrorKind, Received, Scope};
use futures_util::future::{join_all, poll_immediate};
use tokio::runtime::Handle;

use super::models::Greeting;
use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, Node},
    wait::{collect, fence, until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(closing_is_idempotent_and_concurrent, [12]),
    case!(closing_ends_every_pending_call, [12]),
    case!(closing_while_connecting_is_quick_and_leaves_nothing, [12]).needs(&[Need::Server]),
    case!(after_closing_every_handle_fails_alike, [8, 12]),
    case!(closing_one_broker_does_not_affect_others, [5, 12]),
    case!(closing_leaves_nothing_behind, [12]).needs(&[Need::OwnServer]),
    case!(dropping_the_last_handle_closes_the_link, [12]).needs(&[Need::OwnServer]),
    case!(a_broker_can_be_restarted_many_times, [12]).needs(&[Need::OwnServer]),
];

/// A listener on a channel that counts what it receives.
pub(super) async fn count_on(
    broker: &Broker,
    channel: &str,
) -> Outcome<(broker_core::Session, Arc<AtomicU64>)> {
    let (session, received) = (broker.session(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&received);
    let listener = move |_: Received<Greeting>| {
        let count = Arc::clone(&count);
        async move {
            tokio::task::yield_now().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    session.add_listener(channel, listener).await?;
    Ok((session, received))
}

async fn closing_is_idempotent_and_concurrent(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut news = node.subscribe("news").await?;
    let closers = (0..8).map(|_| {
        let broker = node.broker.clone();
        tokio::spawn(async move { broker.close().await })
    });
    for closed in within("eight calls of close", join_all(closers)).await? {
        closed?;
    }
    within("one more close", node.close()).await?;
    assert_eq!(node.health().state, ConnectionState::Closed);
    assert!(within("the end of the stream", news.next()).await?.is_none());
    assert!(matches!(news.close_reason(), Some(CloseReason::BrokerClosed)), "{:?}", news.close_reason());
    within("a drain after it", node.drain()).await?;
    Ok(())
}

async fn closing_ends_every_pending_call(h: &dyn Harness) -> Outcome {
    let change = |options: &mut broker_core::Options| {
        options.publish_timeout = Duration::from_secs(3600);
        options.subscribe_timeout = Duration::from_secs(3600);
        options.heartbeat = Duration::from_secs(3600);
        options.outbox_bytes = 64 << 20;
    };
    let node = h.node_with(change).await?;
    let session = node.session();
    let (_counting, _) = count_on(&node, "news").await?;
    let (mut news, mut others) = (node.subscribe("news").await?, session.subscribe("news").await?);
    // Nothing answers from here on, so that these wait for ever.
    node.line.stall();
    let mut receiving = Box::pin(news.next());
    let mut receiving_too = Box::pin(others.next());
    let mut ending = Box::pin(session.closed());
    // More than goes out at once, also in a window of several batches: the last of them waits in the outbox.
    let mut publishing = Vec::new();
    for _ in 0..60 {
        let mut post = Box::pin(node.publish("news", vec![0; 500_000], Scope::Global));
        assert!(poll_immediate(&mut post).await.is_none());
        publishing.push(post);
    }
    let mut subscribing = Box::pin(node.subscribe("other"));
    assert!(poll_immediate(&mut receiving).await.is_none());
    assert!(poll_immediate(&mut receiving_too).await.is_none());
    assert!(poll_immediate(&mut ending).await.is_none());
    assert!(poll_immediate(&mut subscribing).await.is_none());

    within("the close", node.close()).await?;
    assert!(within("the stream's end", receiving).await?.is_none());
    assert!(within("the session's stream's end", receiving_too).await?.is_none());
    assert!(matches!(within("the session's end", ending).await?, CloseReason::BrokerClosed));
    let outcomes = within("the posts' end", join_all(publishing)).await?;
    let errors: Vec<_> = outcomes.into_iter().map(|post| post.err().map(|error| error.kind())).collect();
    // Of those that were handed over nobody can know whether they were delivered.
    assert!(matches!(errors[0], Some(ErrorKind::Interrupted | ErrorKind::Closed)), "{errors:?}");
    assert_eq!(errors[59], Some(ErrorKind::Closed), "{errors:?}");
    let error = within("the subscribe's end", subscribing).await?.err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::Closed));
    Ok(())
}

async fn closing_while_connecting_is_quick_and_leaves_nothing(h: &dyn Harness) -> Outcome {
    let lines = [h.line().await?, h.line().await?];
    let [cut, stalled] = &lines;
    cut.cut();
    stalled.stall();
    let before = tasks();
    for line in &lines {
        let node = h.open_on(Arc::clone(line), |options| {
            options.connect_timeout = Duration::from_secs(3600);
            options.backoff_min = Duration::from_secs(3600);
            options.backoff_max = Duration::from_secs(3600);
        })?;
        if Arc::ptr_eq(line, cut) {
            until("the first attempt", || node.health().failures == 1).await?;
        }
        within("the close", node.close()).await?;
        let error = within("ready to give up", node.ready()).await?.err();
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Closed));
    }
    until("every task to end", || tasks() <= before).await?;
    Ok(())
}

async fn after_closing_every_handle_fails_alike(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (_counting, received) = count_on(&node, "news").await?;
    let mut stream = session.create_stream::<Greeting>("news").await?;
    node.close().await;

    let new = node.session();
    assert!(session.is_closed() && new.is_closed());
    let mut errors = vec![node.ready().await.err(), node.subscribe("news").await.err()];
    for scope in [Scope::Local, Scope::Global, Scope::Auto] {
        errors.push(node.publish("news", "post", scope).await.err());
    }
    for session in [&session, &new] {
        for scope in [Scope::Local, Scope::Global, Scope::Auto] {
            errors.push(session.post("news", "post", scope).await.err());
            errors.push(session.post_message("news", Greeting::new(1), scope).await.err());
        }
        errors.push(session.subscribe("news").await.err());
        errors.push(session.create_stream::<Greeting>("news").await.err());
        errors.push(session.add_listener("news", |_: Received<Greeting>| async {}).await.err());
        assert!(matches!(session.closed().await, CloseReason::BrokerClosed));
    }
    for (number, error) in errors.into_iter().enumerate() {
        let kind = error.as_ref().map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Closed), "call {number}: {error:?}");
    }
    assert!(within("the end of the stream", stream.next()).await?.is_none());
    assert!(within("the same again", stream.next()).await?.is_none());
    assert_eq!(received.load(Ordering::SeqCst), 0);
    Ok(())
}

async fn closing_one_broker_does_not_affect_others(h: &dyn Harness) -> Outcome {
    let (stays, leaves) = (h.node().await?, h.node().await?);
    let mut here = stays.subscribe("news").await?;
    let _there = leaves.subscribe("news").await?;
    stays.publish("news", "before", Scope::Global).await?;
    leaves.close().await;
    stays.publish("news", "after", Scope::Global).await?;
    assert_eq!(collect(&mut here, 2).await?, ["before", "after"]);
    fence(&stays, &mut here).await?;
    assert_eq!((stays.health().state, stays.health().links), (ConnectionState::Connected, 1));
    Ok(())
}

/// How many tasks this case has.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Nothing of any node is left: no connection and no subscription at the server, no task here.
async fn nothing_is_left(h: &dyn Harness, tasks_before: usize) -> Outcome {
    until_is("every connection to end", 0, || h.connections()).await?;
    until_is("every subscription to end", Vec::new(), || h.subscribed_channels()).await?;
    until("every task to end", || tasks() <= tasks_before).await?;
    Ok(())
}

async fn closing_leaves_nothing_behind(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    let before = tasks();
    let node = h.open_on(line, |_| {})?;
    node.ready().await?;
    let mut open = Vec::new();
    for n in 0..50 {
        let channel = format!("room.{n}");
        open.push((count_on(&node, &channel).await?, node.subscribe(&channel).await?));
        node.publish(&channel, "post", Scope::Global).await?;
    }
    assert_eq!(h.subscribed_channels().await?.len(), 50);
    assert!(h.connections().await? > 0 && tasks() > before);
    node.close().await;
    // Not some time after the call, but when it returns.
    assert_eq!(h.subscribed_channels().await?, Vec::<String>::new());
    assert_eq!(h.connections().await?, 0);
    nothing_is_left(h, before).await?;
    drop(open);
    nothing_is_left(h, before).await
}

async fn dropping_the_last_handle_closes_the_link(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    let before = tasks();
    let Node { broker, line: _line } = h.open_on(line, |_| {})?;
    broker.ready().await?;
    let clone = broker.clone();
    let (session, _) = count_on(&broker, "news").await?;
    let mut news = broker.subscribe("news").await?;
    drop(broker);
    drop(clone);
    // A session and a subscription are handles too.
    session.post("news", "still here", Scope::Global).await?;
    assert_eq!(collect(&mut news, 1).await?, ["still here"]);
    drop(session);
    assert!(h.connections().await? > 0);
    drop(news);
    nothing_is_left(h, before).await
}

async fn a_broker_can_be_restarted_many_times(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    let before = tasks();
    for round in 0..10 {
        let node = h.open_on(Arc::clone(&line), |_| {})?;
        node.ready().await?;
        let mut news = node.subscribe("news").await?;
        node.publish("news", format!("round {round}"), Scope::Global).await?;
        assert_eq!(collect(&mut news, 1).await?, [format!("round {round}")]);
        drop(news);
        within("the end", async { if round % 2 == 0 { node.close().await } else { node.drain().await } })
            .await?;
    }
    nothing_is_left(h, before).await
}
