//! Cases about closing and draining: what ends, what is still delivered, and that nothing is left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{
    Broker, BrokerUrl, CloseReason, ErrorKind, Identity, Options, Received, Revocation, Scope, State,
};
use futures_util::{
    FutureExt,
    future::{join, join_all, poll_immediate},
};
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinHandle,
};

use super::models::Greeting;
use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, Node},
    wait::{collect, fence, text, until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(closing_is_idempotent_and_concurrent, [12]),
    case!(closing_ends_everyone_who_waits, [12]),
    case!(closing_while_connecting_is_quick_and_leaves_nothing, [12]),
    case!(after_closing_every_handle_errors_alike, [8, 12]),
    case!(closing_one_broker_leaves_the_others_alone, [5, 12]),
    case!(closing_leaves_nothing_behind, [12]).needs(&[Need::OwnServer]),
    case!(dropping_the_last_handle_closes_the_link, [12]).needs(&[Need::OwnServer]),
    case!(a_broker_can_be_started_again_and_again, [12]).needs(&[Need::OwnServer]),
    case!(draining_delivers_what_was_accepted, [12]),
    case!(draining_takes_nothing_new, [12]),
    case!(draining_refuses_posts_from_its_first_moment, [12]),
    case!(draining_ends_at_its_limit, [12]),
    case!(closing_cuts_a_drain_short, [12]),
    case!(draining_and_closing_in_any_order_is_harmless, [12]),
    case!(draining_waits_for_no_stream_that_has_nothing_to_yield, [12]),
    case!(a_drain_that_nobody_waits_for_any_more_is_completed, [12]),
    case!(a_listener_may_drain_and_close_its_own_broker, [8, 12]),
    case!(a_broker_whose_runtime_is_gone_is_closed_and_says_why, [6, 10, 12]),
];

/// A listener on a channel that counts what it hears.
async fn count_on(broker: &Broker, channel: &str) -> Outcome<(broker::Session, Arc<AtomicU64>)> {
    let (session, heard) = (broker.session(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&heard);
    let listener = move |_: Received<Greeting>| {
        let count = Arc::clone(&count);
        async move {
            tokio::task::yield_now().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    session.add_listener(channel, listener).await?;
    Ok((session, heard))
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
    assert_eq!(node.health().state, State::Closed);
    assert!(within("the end of the stream", news.next()).await?.is_none());
    assert!(matches!(news.close_reason(), Some(CloseReason::BrokerClosed)), "{:?}", news.close_reason());
    within("a drain after it", node.drain()).await?;
    Ok(())
}

async fn closing_ends_everyone_who_waits(h: &dyn Harness) -> Outcome {
    let change = |options: &mut broker::Options| {
        options.publish_timeout = Duration::from_secs(3600);
        options.subscribe_timeout = Duration::from_secs(3600);
        options.heartbeat = Duration::from_secs(3600);
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
    // More than goes out at once: the last of them waits in the outbox.
    let mut publishing = Vec::new();
    for _ in 0..5 {
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
    assert_eq!(errors[4], Some(ErrorKind::Closed));
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

async fn after_closing_every_handle_errors_alike(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (_counting, heard) = count_on(&node, "news").await?;
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
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    Ok(())
}

async fn closing_one_broker_leaves_the_others_alone(h: &dyn Harness) -> Outcome {
    let (stays, leaves) = (h.node().await?, h.node().await?);
    let mut here = stays.subscribe("news").await?;
    let _there = leaves.subscribe("news").await?;
    stays.publish("news", "before", Scope::Global).await?;
    leaves.close().await;
    stays.publish("news", "after", Scope::Global).await?;
    assert_eq!(collect(&mut here, 2).await?, ["before", "after"]);
    fence(&stays, &mut here).await?;
    assert_eq!((stays.health().state, stays.health().links), (State::Connected, 1));
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

async fn a_broker_can_be_started_again_and_again(h: &dyn Harness) -> Outcome {
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

async fn draining_delivers_what_was_accepted(h: &dyn Harness) -> Outcome {
    let (leaves, stays) = (h.node().await?, h.node().await?);
    let (_session, heard) = count_on(&leaves, "news").await?;
    let (mut here, mut there) = (leaves.subscribe("news").await?, stays.subscribe("news").await?);
    let reading = tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(event) = here.next().await {
            let broker::Event::Message(message) = event else { return Err(format!("{event:?}")) };
            heard.push(message.decode::<Greeting>().map_err(|error| error.to_string())?.number);
        }
        Ok(heard)
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
    assert_eq!(heard.load(Ordering::SeqCst), 500);
    let elsewhere = collect(&mut there, 500).await?;
    assert!(elsewhere[499].contains("greeting 499"), "{}", elsewhere[499]);
    Ok(())
}

/// A node that drains for as long as somebody has not read: forever, here.
async fn draining_for_ever(h: &dyn Harness) -> Outcome<(Node, broker::Subscription, JoinHandle<()>)> {
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

async fn draining_takes_nothing_new(h: &dyn Harness) -> Outcome {
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
    assert_eq!(node.health().state, State::Closed);
    Ok(())
}

/// Also while what was accepted is still on its way, and cannot arrive.
async fn draining_refuses_posts_from_its_first_moment(h: &dyn Harness) -> Outcome {
    let change = |options: &mut broker::Options| {
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
    assert_eq!(node.health().state, State::Closed);
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
fn patient(options: &mut Options) {
    options.drain_timeout = Duration::from_secs(3600);
}

async fn draining_waits_for_no_stream_that_has_nothing_to_yield(h: &dyn Harness) -> Outcome {
    let (node, session) = {
        let node = h.node_with(patient).await?;
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
    assert_eq!(node.health().state, State::Closed);
    drop((read, idle, closed));
    Ok(())
}

async fn a_drain_that_nobody_waits_for_any_more_is_completed(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.drain_timeout = Duration::from_millis(500)).await?;
    let mut unread = node.subscribe("unread").await?;
    node.publish("unread", "never read", Scope::Global).await?;
    {
        let mut drain = Box::pin(node.drain());
        assert!(poll_immediate(&mut drain).await.is_none());
    }
    until("the end", || node.health().state == State::Closed).await?;
    within("one more drain", node.drain()).await?;
    assert!(within("the end of the stream", unread.next()).await?.is_none());
    Ok(())
}

async fn a_listener_may_drain_and_close_its_own_broker(h: &dyn Harness) -> Outcome {
    for drain in [false, true] {
        let node = h.node_with(patient).await?;
        let (session, broker) = (node.session(), node.broker.clone());
        let (told, mut returned) = tokio::sync::mpsc::unbounded_channel();
        let listener = move |_: Received<Greeting>| {
            let (broker, told) = (broker.clone(), told.clone());
            async move {
                if drain {
                    broker.drain().await;
                } else {
                    broker.close().await;
                }
                let _ = told.send(());
            }
        };
        session.add_listener("news", listener).await?;
        // Its outcome does not count: the listener may end the broker before it is there.
        let _ = session.post_message("news", Greeting::new(1), Scope::Global).await;
        assert!(within("the call to return", returned.recv()).await?.is_some());
        within("the end of the broker", node.close()).await?;
        assert_eq!(node.health().state, State::Closed);
    }
    Ok(())
}

/// As in tests that share a broker, and have a runtime each.
async fn a_broker_whose_runtime_is_gone_is_closed_and_says_why(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    let (url, options) = (BrokerUrl::parse(&line.url())?, h.options());
    let driver = (h.entry_backend().open)(&url)?;
    let made = tokio::task::spawn_blocking(move || {
        let runtime = Runtime::new().map_err(|error| error.to_string())?;
        let opened = runtime.block_on(async {
            let broker = Broker::connect(driver, options.with_url(&url)?).await?;
            let news = broker.subscribe("news").await?;
            broker.publish("news", "read me", Scope::Global).await?;
            Ok::<_, broker::Error>((broker, news))
        });
        opened.map_err(|error| error.to_string())
    });
    let (broker, mut news) = within("the broker", made).await???;
    until("the end", || broker.health().state == State::Closed).await?;
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
        let mut heard = Vec::new();
        while let Some(broker::Event::Message(message)) = news.next().await {
            heard.push(text(&message));
        }
        heard
    });
    within("two drains at once", join(node.drain(), node.drain())).await?;
    within("a close", node.close()).await?;
    within("a drain", node.drain()).await?;
    within("both", join(node.close(), node.drain())).await?;
    assert_eq!(reading.await?, [Ok("last".to_owned())]);
    assert_eq!(node.health().state, State::Closed);
    Ok(())
}
