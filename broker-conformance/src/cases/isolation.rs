//! Cases about who must not receive: other channels, removed listeners, refused channels.

use broker_core::{CloseReason, ErrorKind, GapCause, ListenerId, Received, Scope, Session};
use futures_util::future::join_all;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::models::Greeting;
use crate::steps::receives;
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{LIMIT, collect, eventually, fence, next_event, next_gap, until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(channels_with_similar_names_are_isolated, [2]),
    case!(unsubscribing_keeps_channels_with_similar_names, [1, 2]).needs(&[Need::OwnServer]),
    case!(removing_one_of_two_listeners_keeps_the_other, [2, 8]),
    case!(a_removed_listener_is_not_called, [8]),
    case!(removing_twice_or_an_unknown_listener_is_no_error, [8]),
    case!(a_refused_channel_affects_no_other, [11]).needs(&[Need::Permissions]),
    case!(a_refused_post_fails_and_no_other, [11]).needs(&[Need::Permissions, Need::Confirms]),
    case!(every_subscriber_of_a_refused_channel_fails_at_once, [11]).needs(&[Need::Permissions]),
    case!(a_channel_refused_at_a_reconnect_ends_with_a_reason, [4, 11]).needs(&[Need::Permissions]),
];

/// Names that begin alike, differ in case, or would match each other as patterns.
const SIMILAR: &[&str] = &[
    "a", "a.b", "a.bc", "a.b.c", "ab", "A", "a-b", "a_b", "a?b", "a[b]", "[ab]", "a\\b", "a.b$", "b", "é",
    "e\u{301}", "a:b", "a/b", "{a}", "^a", "a|b", "?", "??", "???",
];

async fn channels_with_similar_names_are_isolated(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut subscriptions = Vec::new();
    for name in SIMILAR {
        subscriptions.push(here.subscribe(name).await?);
    }
    // From the end: what is received on a channel first is not its own, if anything is not.
    for name in SIMILAR.iter().rev() {
        there.publish(name, format!("for {name}"), Scope::Global).await?;
        here.publish(name, format!("here for {name}"), Scope::Local).await?;
    }
    for (name, subscription) in SIMILAR.iter().zip(&mut subscriptions) {
        let mut received = collect(subscription, 2).await?;
        received.sort_unstable();
        assert_eq!(received, [format!("for {name}"), format!("here for {name}")]);
        fence(&there, subscription).await?;
    }
    Ok(())
}

async fn unsubscribing_keeps_channels_with_similar_names(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut subscriptions = Vec::new();
    for name in SIMILAR {
        subscriptions.push(here.subscribe(name).await?);
    }
    let mut left = h.subscribed_channels().await?;
    for _ in 0..3 {
        let gone = subscriptions.remove(0);
        left.retain(|name| name != gone.channel().as_str());
        drop(gone);
        until_is("the server to forget it", left.clone(), || h.subscribed_channels()).await?;
    }
    for subscription in &mut subscriptions {
        fence(&there, subscription).await?;
    }
    Ok(())
}

/// A listener, its id, and what it receives.
async fn listen(session: &Session, channel: &str) -> Outcome<(ListenerId, UnboundedReceiver<u64>)> {
    let (sender, calls) = mpsc::unbounded_channel();
    let listener = move |greeting: Received<Greeting>| {
        // Fails once nobody looks any more.
        let _ = sender.send(greeting.number);
        async {}
    };
    Ok((session.add_listener(channel, listener).await?.id(), calls))
}

async fn next_call_or_end(calls: &mut UnboundedReceiver<u64>) -> Result<Option<u64>, String> {
    within("a call, or the end of the listener", calls.recv()).await
}

async fn removing_one_of_two_listeners_keeps_the_other(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (session, poster) = (here.session(), there.session());
    let (leaver, mut leaving) = listen(&session, "room").await?;
    let (_, mut staying) = listen(&session, "room").await?;
    poster.post_message("room", Greeting::new(1), Scope::Global).await?;
    assert_eq!(
        (next_call_or_end(&mut leaving).await?, next_call_or_end(&mut staying).await?),
        (Some(1), Some(1))
    );

    assert!(session.remove_listener(leaver));
    poster.post_message("room", Greeting::new(2), Scope::Global).await?;
    assert_eq!(
        (next_call_or_end(&mut leaving).await?, next_call_or_end(&mut staying).await?),
        (None, Some(2))
    );
    let room = h.subscribed_channels().await?;
    assert_eq!(room.len(), 1);
    drop(session.subscribe("lobby").await?);
    until_is("the server to forget the lobby", room, || h.subscribed_channels()).await?;

    let (_, mut another) = listen(&session, "room").await?;
    session.close();
    assert_eq!((next_call_or_end(&mut staying).await?, next_call_or_end(&mut another).await?), (None, None));
    until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
    Ok(())
}

async fn a_removed_listener_is_not_called(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    for round in 0..100 {
        let (id, mut calls) = listen(&session, "room").await?;
        // On their way, in the queue, or received already when it is removed.
        session.post_message("room", Greeting::new(1), Scope::Global).await?;
        session.post_message("room", Greeting::new(2), Scope::Local).await?;
        assert!(session.remove_listener(id));
        let mut before = 0;
        while calls.try_recv().is_ok() {
            before += 1;
        }
        session.post_message("room", Greeting::new(3), Scope::Local).await?;
        let mut received = Vec::new();
        while let Some(number) = next_call_or_end(&mut calls).await? {
            received.push(number);
        }
        // A call that ran while it was removed may end after; one call, and not of what came later.
        assert!(
            received.len() <= 1 && !received.contains(&3),
            "round {round}: {before} before, {received:?} after"
        );
    }
    Ok(())
}

async fn removing_twice_or_an_unknown_listener_is_no_error(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (session, other) = (node.session(), node.session());
    let (id, mut calls) = listen(&session, "room").await?;
    let (others, _) = listen(&other, "room").await?;
    assert!(!other.remove_listener(id), "another session's listener");
    assert!(!session.remove_listener(others), "another session's listener");
    session.post_message("room", Greeting::new(1), Scope::Global).await?;
    assert_eq!(next_call_or_end(&mut calls).await?, Some(1));

    assert!(session.remove_listener(id));
    assert!(!session.remove_listener(id));
    let (_, mut next) = listen(&session, "room").await?;
    assert!(!session.remove_listener(id), "an id is not given twice");
    session.post_message("room", Greeting::new(2), Scope::Global).await?;
    assert_eq!((next_call_or_end(&mut calls).await?, next_call_or_end(&mut next).await?), (None, Some(2)));
    session.close();
    assert!(!session.remove_listener(id));
    Ok(())
}

async fn a_refused_channel_affects_no_other(h: &dyn Harness) -> Outcome {
    h.allow_only("open").await?;
    let node = h.node().await?;
    let mut before = node.subscribe("open.before").await?;
    // All at once, so that allowed and refused ones share a call.
    let names: Vec<String> = (0..60).map(|n| format!("{}.{n}", ["open", "shut", "open"][n % 3])).collect();
    let all = join_all(names.iter().map(|name| node.subscribe(name)));
    for (name, outcome) in names.iter().zip(within("every answer", all).await?) {
        match outcome {
            Ok(mut subscription) if name.starts_with("open") => fence(&node, &mut subscription).await?,
            Err(error) if name.starts_with("shut") => {
                assert_eq!(error.kind(), ErrorKind::Forbidden, "{name}: {error}");
                assert_eq!(error.channel().map(|name| name.as_str()), Some(name.as_str()), "{error}");
            }
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    let posts =
        ["open.before", "shut.one", "open.before"].map(|name| node.publish(name, "post", Scope::Global));
    let outcomes: Vec<_> =
        join_all(posts).await.into_iter().map(|post| post.map(drop).map_err(|e| e.kind())).collect();
    assert_eq!(outcomes, [Ok(()), Err(ErrorKind::Forbidden), Ok(())]);
    assert_eq!(collect(&mut before, 2).await?, ["post", "post"]);
    assert_eq!(node.health().links, 1, "a refusal is no reason to lose the link");
    Ok(())
}

/// All at once, so that they share batches.
async fn a_refused_post_fails_and_no_other(h: &dyn Harness) -> Outcome {
    // First, since links that are open may be lost by it.
    h.allow_only("open").await?;
    let node = h.node().await?;
    let mut received = node.subscribe("open").await?;
    // An order that is another one when it is read backwards, wherever a batch of them begins and ends; and so large
    // that no two of them go together.
    let (is_shut, text) = (|n: usize| n * n * n % 7 < 2, |n: usize| format!("{n:040000}"));
    let posts = (0..60).map(|n| {
        let channel = if is_shut(n) { "shut" } else { "open" };
        node.publish(channel, text(n), Scope::Global)
    });
    let outcomes = within("the outcomes", join_all(posts)).await?;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(error) if is_shut(n) => assert_eq!(error.kind(), ErrorKind::Forbidden, "{n}: {error}"),
            Ok(_) if !is_shut(n) => receives(&mut received, &text(n)).await?,
            other => return Err(format!("{n}: {other:?}").into()),
        }
    }
    Ok(())
}

async fn every_subscriber_of_a_refused_channel_fails_at_once(h: &dyn Harness) -> Outcome {
    h.allow_only("open").await?;
    let node =
        h.node_with(|options| options.subscribe_timeout = std::time::Duration::from_secs(3600)).await?;
    for round in 0..100 {
        let crowd = (0..30).map(|_| {
            let broker = node.broker.clone();
            tokio::spawn(async move { broker.subscribe("shut").await.map(drop) })
        });
        let crowd = within(&format!("answers for all, in round {round}"), join_all(crowd)).await?;
        for outcome in crowd {
            assert_eq!(outcome?.map_err(|error| error.kind()), Err(ErrorKind::Forbidden));
        }
    }
    Ok(())
}

async fn a_channel_refused_at_a_reconnect_ends_with_a_reason(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (mut open, mut shut) = (node.subscribe("open").await?, node.subscribe("shut").await?);
    let session = node.session();
    let (_, mut calls) = listen(&session, "shut").await?;
    h.allow_only("open").await?;
    h.drop_links().await?;
    until("a second link", || node.health().links >= 2 && node.health().is_connected()).await?;

    assert!(within("the end", shut.next()).await?.is_none());
    let Some(CloseReason::Refused(error)) = shut.close_reason() else {
        return Err(format!("ended because: {:?}", shut.close_reason()).into());
    };
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert_eq!(next_call_or_end(&mut calls).await?, None);
    assert_eq!(next_gap(&mut open).await?.cause, GapCause::LinkLost);
    // The server may have ended the link twice: for its new rules, and when it was asked to.
    let post =
        || async { node.publish("open", "post", Scope::Global).await.map_err(|error| error.to_string()) };
    eventually("a post on the allowed channel", LIMIT, post).await?;
    let mut next = next_event(&mut open).await?;
    while let broker_core::Event::Gap(_) = next {
        next = next_event(&mut open).await?;
    }
    assert!(matches!(next, broker_core::Event::Message(_)), "{next:?}");
    Ok(())
}
