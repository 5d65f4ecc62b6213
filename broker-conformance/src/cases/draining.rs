//! Cases about ends that are no plain close: draining and what it still delivers, a broker that is closed by its own
//! listener, and one whose runtime is gone.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use broker_core::{
    Broker, BrokerUrl, ConnectionState, ErrorKind, Identity, Options, Received, Revocation, Scope,
};
use futures_util::{
    FutureExt,
    future::{join, join_all, poll_immediate},
};
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{lifecycle::count_on, models::Greeting};
use crate::{
    case::{Case, Outcome, case},
    harness::{Harness, Node},
    wait::{collect, text, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(draining_delivers_what_was_accepted, [12]),
    case!(draining_accepts_nothing_new, [12]),
    case!(draining_refuses_posts_at_once, [12]),
    case!(draining_ends_at_its_limit, [12]),
    case!(closing_cuts_a_drain_short, [12]),
    case!(draining_and_closing_in_any_order_is_harmless, [12]),
    case!(draining_does_not_wait_for_empty_streams, [12]),
    case!(a_dropped_drain_call_still_completes, [12]),
    case!(a_listener_may_drain_and_close_its_own_broker, [8, 12]),
    case!(a_stopped_runtime_closes_its_broker_with_a_reason, [6, 10, 12]),
];

async fn draining_delivers_what_was_accepted(h: &dyn Harness) -> Outcome {
    let (leaves, stays) = (h.node().await?, h.node().await?);
    let (_session, received) = count_on(&leaves, "news").await?;
    let (mut here, mut there) = (leaves.subscribe("news").await?, stays.subscribe("news").await?);
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        while let Some(event) = here.next().await {
            let broker_core::Event::Message(message) = event else { return Err(format!("{event:?}")) };
            received.push(message.decode::<Greeting>().map_err(|error| error.to_string())?.number);
        }
        Ok(received)
    });
    let posting = leaves.session();
    let mut posts = Vec::new();
    for n in 0..500 {
        let mut post = Box::pin(posting.post_message("news", Greeting::new(n), Scope::Global));
        // From the first look on it is accepted; nobody has waited for its outcome yet.
        let early = poll_immediate(&mut post).await;
        posts.push(async move { if let Some(outcome) = early { outcome } else { post.await } });
    }
    within("the drain", leaves.drain()).await?;
    for outcome in within("every outcome", join_all(posts)).await? {
        outcome?;
    }
    assert_eq!(reading.await??, (0..500).collect::<Vec<u64>>());
    assert_eq!(received.load(Ordering::SeqCst), 500);
    let elsewhere = collect(&mut there, 500).await?;
    assert!(elsewhere[499].contains("greeting 499"), "{}", elsewhere[499]);
    Ok(())
}

/// A node that drains for as long as somebody has not read: forever, here.
async fn draining_for_ever(h: &dyn Harness) -> Outcome<(Node, broker_core::Subscription, JoinHandle<()>)> {
    let node = h.node_with(|options| options.drain_timeout = Duration::from_secs(3600)).await?;
    let mut unread = node.subscribe("unread").await?;
    node.publish("unread", "first", Scope::Global).await?;
    node.publish("unread", "second", Scope::Global).await?;
    assert_eq!(collect(&mut unread, 1).await?, ["first"]);
    let broker = node.broker.clone();
    let drain = tokio::spawn(async move { broker.drain().await });
    let post = || node.publish("other", "post", Scope::Local).now_or_never();
    until("the drain to begin", || matches!(post(), Some(Err(_)))).await?;
    Ok((node, unread, drain))
}

async fn draining_accepts_nothing_new(h: &dyn Harness) -> Outcome {
    let (node, mut unread, drain) = draining_for_ever(h).await?;
    for scope in [Scope::Local, Scope::Global] {
        let error = node.publish("unread", "too late", scope).await.err();
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Closed));
    }
    let error = node.subscribe("other").await.err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Closed));
    // The reader was waited for, and reads to the end.
    assert_eq!(collect(&mut unread, 1).await?, ["second"]);
    assert!(within("the end", unread.next()).await?.is_none());
    within("the drain to end", drain).await??;
    assert_eq!(node.health().state, ConnectionState::Closed);
    Ok(())
}

/// Also while what was accepted is still on its way, and cannot arrive.
async fn draining_refuses_posts_at_once(h: &dyn Harness) -> Outcome {
    let change = |options: &mut broker_core::Options| {
        options.publish_timeout = Duration::from_secs(3600);
        options.drain_timeout = Duration::from_secs(3600);
        options.heartbeat = Duration::from_secs(3600);
    };
    let node = h.node_with(change).await?;
    node.line.stall();
    let mut accepted = Box::pin(node.publish("news", "before", Scope::Global));
    assert!(poll_immediate(&mut accepted).await.is_none());
    let mut drain = Box::pin(node.drain());
    assert!(poll_immediate(&mut drain).await.is_none());
    let outcome = poll_immediate(&mut Box::pin(node.publish("news", "behind", Scope::Global))).await;
    let kind = outcome.and_then(Result::err).map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Closed));
    within("the close", node.close()).await?;
    within("the drain to end with it", drain).await?;
    Ok(())
}

async fn draining_ends_at_its_limit(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.drain_timeout = Duration::from_millis(200)).await?;
    let mut unread = node.subscribe("unread").await?;
    node.publish("unread", "never read", Scope::Global).await?;
    within("the drain to give up", node.drain()).await?;
    assert_eq!(node.health().state, ConnectionState::Closed);
    let next = within("the end", unread.next()).await?;
    assert!(next.is_none(), "read after the close: {next:?}");
    Ok(())
}

async fn closing_cuts_a_drain_short(h: &dyn Harness) -> Outcome {
    let (node, mut unread, drain) = draining_for_ever(h).await?;
    within("the close", node.close()).await?;
    within("the drain to end with it", drain).await??;
    let next = within("the end", unread.next()).await?;
    assert!(next.is_none(), "read after the close: {next:?}");
    Ok(())
}

/// A limit that no case waits for: what is not waited for ends far earlier.
fn long_limits(options: &mut Options) {
    options.drain_timeout = Duration::from_secs(3600);
}

async fn draining_does_not_wait_for_empty_streams(h: &dyn Harness) -> Outcome {
    let (node, session) = {
        let node = h.node_with(long_limits).await?;
        let session = node.session();
        (node, session)
    };
    let (mut read, idle) = (node.subscribe("news").await?, node.subscribe("idle").await?);
    let closed = session.subscribe("news").await?;
    for n in 0..50 {
        node.publish("news", format!("{n}"), Scope::Global).await?;
    }
    collect(&mut read, 50).await?; // read to its end, and held
    session.close(); // with fifty unread ones
    within("the drain", node.drain()).await?;
    assert_eq!(node.health().state, ConnectionState::Closed);
    drop((read, idle, closed));
    Ok(())
}

async fn a_dropped_drain_call_still_completes(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.drain_timeout = Duration::from_millis(500)).await?;
    let mut unread = node.subscribe("unread").await?;
    node.publish("unread", "never read", Scope::Global).await?;
    {
        let mut drain = Box::pin(node.drain());
        assert!(poll_immediate(&mut drain).await.is_none());
    }
    until("the end", || node.health().state == ConnectionState::Closed).await?;
    within("one more drain", node.drain()).await?;
    assert!(within("the end of the stream", unread.next()).await?.is_none());
    Ok(())
}

async fn a_listener_may_drain_and_close_its_own_broker(h: &dyn Harness) -> Outcome {
    for drain in [false, true] {
        let node = h.node_with(long_limits).await?;
        let (session, broker) = (node.session(), node.broker.clone());
        let (sender, mut returned) = tokio::sync::mpsc::unbounded_channel();
        let listener = move |_: Received<Greeting>| {
            let (broker, sender) = (broker.clone(), sender.clone());
            async move {
                if drain {
                    broker.drain().await;
                } else {
                    broker.close().await;
                }
                let _ = sender.send(());
            }
        };
        session.add_listener("news", listener).await?;
        // Its outcome does not count: the listener may end the broker before it is there.
        let _ = session.post_message("news", Greeting::new(1), Scope::Global).await;
        assert!(within("the call to return", returned.recv()).await?.is_some());
        within("the end of the broker", node.close()).await?;
        assert_eq!(node.health().state, ConnectionState::Closed);
    }
    Ok(())
}

/// As in tests that share a broker, and have a runtime each.
async fn a_stopped_runtime_closes_its_broker_with_a_reason(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    let (url, options) = (BrokerUrl::parse(&line.url())?, h.options());
    let driver = (h.backend().open)(&url)?;
    let made = tokio::task::spawn_blocking(move || {
        let runtime = Runtime::new().map_err(|error| error.to_string())?;
        let opened = runtime.block_on(async {
            let broker = Broker::connect(driver, options.with_url(&url)?).await?;
            let news = broker.subscribe("news").await?;
            broker.publish("news", "read me", Scope::Global).await?;
            Ok::<_, broker_core::Error>((broker, news))
        });
        opened.map_err(|error| error.to_string())
    });
    let (broker, mut news) = within("the broker", made).await???;
    until("the end", || broker.health().state == ConnectionState::Closed).await?;
    let why = broker.health().last_error.ok_or("no reason")?.to_string();
    assert!(why.contains("runtime"), "{why}");
    let listener = |_: Received<Greeting>| async {};
    let errors = [
        within("ready", broker.ready()).await?.err(),
        within("a post", broker.publish("news", "x", Scope::Global)).await?.err(),
        within("a local post", broker.publish("news", "x", Scope::Local)).await?.err(),
        within("a subscription", broker.subscribe("other")).await?.err(),
        within("a listener", broker.session().add_listener("news", listener)).await?.err(),
        within("a session", broker.session_for(Identity::new("ada", Instant::now()))).await?.err(),
        within("a revocation", broker.revoke(Revocation::user("ada"))).await?.err(),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        let error = error.ok_or_else(|| format!("call {number} succeeded"))?;
        assert_eq!(error.kind(), ErrorKind::Closed, "call {number}: {error}");
        assert!(error.to_string().contains("runtime"), "call {number}: {error}");
    }
    within("the stream to end", async { while news.next().await.is_some() {} }).await?;
    within("the close", broker.close()).await?;
    Ok(())
}

async fn draining_and_closing_in_any_order_is_harmless(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut news = node.subscribe("news").await?;
    node.publish("news", "last", Scope::Global).await?;
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        while let Some(broker_core::Event::Message(message)) = news.next().await {
            received.push(text(&message));
        }
        received
    });
    within("two drains at once", join(node.drain(), node.drain())).await?;
    within("a close", node.close()).await?;
    within("a drain", node.drain()).await?;
    within("both", join(node.close(), node.drain())).await?;
    assert_eq!(reading.await?, [Ok("last".to_owned())]);
    assert_eq!(node.health().state, ConnectionState::Closed);
    Ok(())
}
