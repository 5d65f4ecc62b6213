//! Cases about sessions: what is opened through one ends with it, and nothing runs after.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use broker_core::{CloseReason, ErrorKind, Received, Scope};
use tokio::sync::mpsc::unbounded_channel;

use crate::steps::{
    Count, called_with, count, listener, no_more_calls, post, receives, wait_for_disconnect, wait_for_link,
};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{fence, until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(closing_a_session_ends_its_streams_and_listeners_and_no_others, [8]),
    case!(dropping_a_session_ends_its_streams_and_listeners, [8]),
    case!(nothing_runs_after_a_session_is_closed, [8]),
    case!(queued_messages_are_not_yielded_after_closing, [8]),
    case!(closing_a_session_leaves_nothing_at_the_server, [12]),
    case!(dropping_a_stream_unsubscribes, [12]),
    case!(a_closed_session_refuses_everything, [8]),
    case!(a_session_reports_why_it_ended, [8]),
    case!(closing_the_broker_ends_every_session_with_a_reason, [8, 12]),
    case!(the_same_function_in_two_sessions_is_two_listeners, [8]),
    case!(one_function_on_two_channels_is_two_listeners, [8]),
    case!(the_remaining_listener_ends_with_its_session, [8]),
    case!(a_session_cannot_remove_a_listener_of_another, [8]),
    case!(a_value_listener_continues_after_a_gap, [4, 7]).needs(&[Need::Server]),
];

async fn closing_a_session_ends_its_streams_and_listeners_and_no_others(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let (session, other) = (node.session(), node.session());
    let mut stream = session.create_stream::<Count>("counts").await?;
    let mut untyped = session.subscribe("counts").await?;
    let mut calls = listener(&session, "counts").await?;
    let mut calls_of_other = listener(&other, "counts").await?;
    let reading = tokio::spawn(async move {
        let (item, event) = (stream.next().await, untyped.next().await);
        (item.is_none(), event.is_none(), stream.close_reason().cloned(), untyped.close_reason().cloned())
    });
    session.close();
    let ended = within("the streams to end", reading).await??;
    let (true, true, Some(CloseReason::SessionClosed), Some(CloseReason::SessionClosed)) = ended else {
        return Err(format!("expected two ends and why, got {ended:?}").into());
    };
    count(&publisher, "counts", 1).await?;
    called_with(&mut calls_of_other, 1).await?;
    no_more_calls(&mut calls).await?;
    session.close();
    Ok(())
}

async fn dropping_a_session_ends_its_streams_and_listeners(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut stream = session.create_stream::<Count>("counts").await?;
    let mut calls = listener(&session, "counts").await?;
    count(&node, "counts", 1).await?;
    called_with(&mut calls, 1).await?;
    drop(session);
    no_more_calls(&mut calls).await?;
    assert!(within("the stream to end", stream.next()).await?.is_none());
    assert!(matches!(stream.close_reason(), Some(CloseReason::SessionClosed)));
    Ok(())
}

/// Sessions are closed in a storm of posts; a call that had begun may end, no other begins.
async fn nothing_runs_after_a_session_is_closed(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let watcher = node.session();
    let mut watching = listener(&watcher, "counts").await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let storm = tokio::spawn(async move {
        let mut n = 0;
        while !*stopped.borrow() {
            let posts = (0..20).map(|i| count(&publisher, "counts", n + i));
            futures_util::future::try_join_all(posts).await?;
            n += 20;
        }
        Ok::<_, String>(publisher)
    });
    for _ in 0..50 {
        let session = node.session();
        let begun = Arc::new(AtomicU64::new(0));
        let (alive, mut gone) = unbounded_channel::<()>();
        let counting = Arc::clone(&begun);
        let function = move |_: Received<Count>| {
            let _ = &alive;
            counting.fetch_add(1, Ordering::SeqCst);
            async {}
        };
        session.add_listener("counts", function).await?;
        until("some calls", || begun.load(Ordering::SeqCst) > 3).await?;
        session.close();
        let at_close = begun.load(Ordering::SeqCst);
        no_more_calls(&mut gone).await?;
        let after = begun.load(Ordering::SeqCst);
        // Calls are sequential, so one at most had been let in and not got to its first line.
        assert!(after <= at_close + 1, "{} calls began after closing", after - at_close);
    }
    stop.send_replace(true);
    let publisher = within("the storm to end", storm).await???;
    count(&publisher, "counts", u64::MAX).await?;
    within("the last post", async {
        while let Some(item) = watching.recv().await {
            if item.is_ok_and(|count| count.n == u64::MAX) {
                return Ok(());
            }
        }
        Err("the other session's listener is gone")
    })
    .await??;
    Ok(())
}

/// Neither what waits in the queue nor what the stream has taken from it already.
async fn queued_messages_are_not_yielded_after_closing(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut stream = session.subscribe("news").await?;
    let mut outside = node.subscribe("news").await?;
    for n in 0..100 {
        post(&node, "news", n.to_string()).await?;
    }
    receives(&mut stream, "0").await?;
    for n in 0..100 {
        receives(&mut outside, &n.to_string()).await?;
    }
    session.close();
    assert!(within("the end", stream.next()).await?.is_none());
    assert!(within("the end", stream.next()).await?.is_none());
    Ok(())
}

async fn closing_a_session_leaves_nothing_at_the_server(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let stream = session.create_stream::<Count>("one").await?;
    let _calls = listener(&session, "two").await?;
    let subscription = session.subscribe("three").await?;
    assert_eq!(h.subscribed_channels().await?.len(), 3);
    session.close();
    // A stream gives its channel back when it is dropped.
    drop((stream, subscription));
    until_is("the server to forget the channels", Vec::new(), || h.subscribed_channels()).await?;
    Ok(())
}

async fn dropping_a_stream_unsubscribes(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (first, second) =
        (session.create_stream::<Count>("counts").await?, session.create_stream::<Count>("counts").await?);
    let mut news = session.subscribe("news").await?;
    drop((first, second));
    let left = || async {
        let names = h.subscribed_channels().await?;
        Ok((names.len(), names.iter().any(|name| name.ends_with("news"))))
    };
    until_is("only the other channel to be left", (1, true), left).await?;
    fence(&node, &mut news).await?;
    // And again: the channel is as good as new.
    let mut calls = listener(&session, "counts").await?;
    count(&node, "counts", 3).await?;
    called_with(&mut calls, 3).await?;
    Ok(())
}

async fn a_closed_session_refuses_everything(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut outside = node.subscribe("counts").await?;
    let session = node.session();
    session.close();
    assert!(session.is_closed());
    let refused = [
        session.create_stream::<Count>("counts").await.map(drop),
        session.subscribe("counts").await.map(drop),
        session.add_listener("counts", |_: Received<Count>| async {}).await.map(drop),
        session.post_message("counts", Count { n: 1 }, Scope::Global).await.map(drop),
        session.post_message("counts", Count { n: 1 }, Scope::Local).await.map(drop),
        session.post("counts", "text", Scope::Global).await.map(drop),
    ];
    for outcome in refused {
        let error = outcome.err().ok_or("a closed session did it")?;
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    fence(&node, &mut outside).await?;
    Ok(())
}

async fn a_session_reports_why_it_ended(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    for by_broker in [false, true] {
        let session = Arc::new(node.session());
        let waiting = {
            let session = Arc::clone(&session);
            tokio::spawn(async move { session.closed().await })
        };
        tokio::task::yield_now().await;
        if by_broker {
            node.close().await;
        } else {
            session.close();
        }
        let early = within("the reason", waiting).await??;
        for reason in [early, within("the reason", session.closed()).await?] {
            assert_eq!(matches!(reason, CloseReason::BrokerClosed), by_broker, "{reason:?}");
            assert_eq!(matches!(reason, CloseReason::SessionClosed), !by_broker, "{reason:?}");
        }
    }
    Ok(())
}

async fn closing_the_broker_ends_every_session_with_a_reason(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let sessions: Vec<_> = (0..20).map(|_| node.session()).collect();
    let (mut streams, mut listeners) = (Vec::new(), Vec::new());
    for session in &sessions {
        streams.push(session.create_stream::<Count>("counts").await?);
        listeners.push(listener(session, "counts").await?);
    }
    within("the broker to close", node.close()).await?;
    for stream in &mut streams {
        assert!(within("the end", stream.next()).await?.is_none());
        assert!(matches!(stream.close_reason(), Some(CloseReason::BrokerClosed)));
    }
    for calls in &mut listeners {
        no_more_calls(calls).await?;
    }
    assert!(sessions.iter().all(|session| session.is_closed()));
    assert!(node.session().is_closed());
    Ok(())
}

/// One function, however often it is registered; each registration is its own.
fn counter() -> (Arc<AtomicU64>, impl FnMut(Received<Count>) -> std::future::Ready<()> + Clone + Send) {
    let calls = Arc::new(AtomicU64::new(0));
    let function = {
        let calls = Arc::clone(&calls);
        move |_: Received<Count>| {
            calls.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        }
    };
    (calls, function)
}

/// Posts one count and waits until it has been received by all who listened before.
async fn counted(
    node: &broker_core::Broker,
    channels: &[&str],
    calls: &AtomicU64,
    expected: u64,
) -> Result<(), String> {
    let session = node.session();
    for channel in channels {
        let mut fence = listener(&session, channel).await?;
        count(node, channel, 1).await?;
        called_with(&mut fence, 1).await?;
    }
    until("the calls", || calls.load(Ordering::SeqCst) >= expected).await?;
    let found = calls.load(Ordering::SeqCst);
    if found == expected { Ok(()) } else { Err(format!("{found} calls, expected {expected}")) }
}

async fn the_same_function_in_two_sessions_is_two_listeners(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (first, second) = (node.session(), node.session());
    let (calls, function) = counter();
    let id = first.add_listener("counts", function.clone()).await?.id();
    second.add_listener("counts", function).await?;
    counted(&node, &["counts"], &calls, 2).await?;
    assert!(first.remove_listener(id));
    counted(&node, &["counts"], &calls, 3).await?;
    first.close();
    counted(&node, &["counts"], &calls, 4).await?;
    second.close();
    counted(&node, &["counts"], &calls, 4).await?;
    Ok(())
}

async fn one_function_on_two_channels_is_two_listeners(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (calls, function) = counter();
    let id = session.add_listener("one", function.clone()).await?;
    session.add_listener("two", function).await?;
    counted(&node, &["one", "two"], &calls, 2).await?;
    assert!(session.remove_listener(id));
    counted(&node, &["one", "two"], &calls, 3).await?;
    session.close();
    counted(&node, &["one", "two"], &calls, 3).await?;
    Ok(())
}

/// Removing one forgets nothing about the other.
async fn the_remaining_listener_ends_with_its_session(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (calls, function) = counter();
    let id = session.add_listener("counts", function).await?;
    let mut other = listener(&session, "counts").await?;
    counted(&node, &["counts"], &calls, 1).await?;
    called_with(&mut other, 1).await?;
    assert!(session.remove_listener(id));
    counted(&node, &["counts"], &calls, 1).await?;
    called_with(&mut other, 1).await?;
    session.close();
    // At once, not at its next message.
    no_more_calls(&mut other).await?;
    counted(&node, &["counts"], &calls, 1).await?;
    until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
    Ok(())
}

async fn a_session_cannot_remove_a_listener_of_another(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (first, second) = (node.session(), node.session());
    let (calls, function) = counter();
    let id = first.add_listener("counts", function.clone()).await?.id();
    let same_number = second.add_listener("counts", function).await?.id();
    assert_ne!(id, same_number);
    assert!(!second.remove_listener(id));
    counted(&node, &["counts"], &calls, 2).await?;
    assert!(first.remove_listener(id));
    assert!(!first.remove_listener(id));
    counted(&node, &["counts"], &calls, 3).await?;
    Ok(())
}

async fn a_value_listener_continues_after_a_gap(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (calls, function) = counter();
    session.add_listener("counts", function).await?;
    counted(&node, &["counts"], &calls, 1).await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    counted(&node, &["counts"], &calls, 2).await?;
    Ok(())
}
