//! Cases about what a NATS server does not allow: permissions and its own limits. Each starts one as it wants it.

use broker::{CloseReason, ErrorKind, Event, GapCause, Scope, Subscription};
use broker_conformance::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::{post, receives, receives_link_loss, wait_for_link},
    wait::{fence, next_event, until, within},
};
use futures_util::future::join_all;

use crate::{
    cases::{
        backend_common::{connect, open, refusal},
        nats::connecting::{OWN, server},
    },
    servers::nats::config::NatsConfig,
};

pub(super) const CASES: &[Case] = &[
    case!(a_link_needs_permission_for_its_inbox, [10]).needs(OWN),
    case!(every_refused_post_fails_and_no_other, [11]).needs(OWN),
    case!(every_refused_channel_fails_and_no_other, [1, 11]).needs(OWN),
    case!(a_withdrawn_permission_ends_its_channel_and_no_other, [4, 11]).needs(OWN),
    case!(channels_beyond_the_connections_limit_are_refused, [11]).needs(OWN),
    case!(a_post_over_the_servers_limit_is_refused_and_no_other, [11]).needs(OWN),
    case!(a_batch_stays_within_the_servers_limit, [11]).needs(OWN),
];

async fn a_link_needs_permission_for_its_inbox(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().allow(&["news", "$node.>", "replies.>"])).await?;
    let url = server.url_at(server.addr());
    let error = refusal(h, &url, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains("`_INBOX.>`") && error.message().contains("`inbox`"), "{error}");
    let node = open(h, &url)?;
    until("two attempts", || node.health().failures >= 2).await?;
    assert_eq!(node.health().links, 0);
    // With another place for it, it works.
    let node = connect(h, &format!("{url}?inbox=replies")).await?;
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    Ok(())
}

fn narrow() -> NatsConfig {
    NatsConfig::default().allow(&["open.>", "$node.>", "_INBOX.>"])
}

/// More of them than the client keeps complaints, side by side, so that they share batches. The first burst may be
/// told with less certainty: nobody knew that there would be refusals.
async fn every_refused_post_fails_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(narrow()).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut open = node.subscribe("open.all").await?;
    for round in 0..4 {
        let posts = (0..900).map(|n| {
            let channel = match n % 3 {
                0 => "open.all".to_owned(),
                1 => format!("shut.{n}"),
                _ => "shut.\u{200b}\"'\\".to_owned(),
            };
            let node = &node;
            async move { node.publish(channel.as_str(), format!("{round}.{n}"), Scope::Global).await }
        });
        for (n, outcome) in within("the outcomes", join_all(posts)).await?.into_iter().enumerate() {
            match outcome {
                Ok(_) if n % 3 == 0 => {}
                Err(error) if n % 3 != 0 && error.kind() == ErrorKind::Forbidden => {
                    assert!(error.channel().is_some_and(|name| name.as_str().starts_with("shut")), "{error}");
                }
                Err(error) if round == 0 && error.kind() == ErrorKind::Interrupted => {}
                other => return Err(format!("post {n} of round {round}: {other:?}").into()),
            }
        }
        for n in (0..900).step_by(3) {
            receives(&mut open, &format!("{round}.{n}")).await?;
        }
    }
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn every_refused_channel_fails_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(narrow()).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let names = (0..600).map(|n| match n % 3 {
        0 => format!("open.{n}"),
        1 => format!("shut.{n}"),
        _ => format!("shut.\u{200b}\"'\\{n}"),
    });
    let all = names.map(|name| {
        let node = &node;
        async move { (node.subscribe(&name).await, name) }
    });
    for (outcome, name) in within("every answer", join_all(all)).await? {
        match outcome {
            Ok(mut subscription) if name.starts_with("open") => fence(&node, &mut subscription).await?,
            Err(error) if name.starts_with("shut") => {
                assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
                assert_eq!(error.channel().map(AsRef::as_ref), Some(name.as_str()), "{error}");
            }
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn a_withdrawn_permission_ends_its_channel_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default()).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let (mut open, mut shut) = (node.subscribe("open.one").await?, node.subscribe("shut").await?);
    server.reconfigure(narrow()).await?;
    assert!(within("the end", shut.next()).await?.is_none());
    let Some(CloseReason::Refused(error)) = shut.close_reason() else {
        return Err(format!("ended because: {:?}", shut.close_reason()).into());
    };
    assert_eq!((error.kind(), error.channel().map(AsRef::as_ref)), (ErrorKind::Forbidden, Some("shut")));
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut open).await?;
    fence(&node, &mut open).await?;
    let refused = node.subscribe("shut").await.map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Forbidden));
    let refused = node.publish("shut", "post", Scope::Global).await.map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Forbidden));
    // Granted again, it is a channel like any other.
    server.reconfigure(NatsConfig::default()).await?;
    let mut again = node.subscribe("shut").await?;
    fence(&node, &mut again).await?;
    fence(&node, &mut open).await?;
    assert_eq!(node.health().links, 2);
    Ok(())
}

async fn channels_beyond_the_connections_limit_are_refused(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().line("max_subscriptions: 10")).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut received = Vec::new();
    let error = loop {
        match node.subscribe(format!("room.{}", received.len())).await {
            Ok(subscription) => received.push(subscription),
            Err(error) => break error,
        }
    };
    // The node's own three count as well.
    assert_eq!(received.len(), 7);
    assert!(matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::Forbidden), "{error}");
    for subscription in &mut received {
        fence(&node, subscription).await?;
    }
    drop(received.pop());
    let mut next = received.len();
    // The place is free once the one that left has been unsubscribed.
    let mut subscription = loop {
        next += 1;
        match node.subscribe(format!("room.{next}")).await {
            Ok(subscription) => break subscription,
            Err(_) => assert!(next < 1000, "no place becomes free"),
        }
    };
    fence(&node, &mut subscription).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

/// The next message has this many bytes. Refused posts of the same batch may count as missing before it.
async fn receives_behind_refusals(received: &mut Subscription, size: usize) -> Result<(), String> {
    loop {
        match next_event(received).await? {
            Event::Gap(gap) if gap.cause == GapCause::Skipped => {}
            Event::Message(message) if message.payload().is_ok_and(|payload| payload.len() == size) => {
                return Ok(());
            }
            other => return Err(format!("expected {size} bytes, got {other:?}")),
        }
    }
}

/// All of them at once are far more than the server takes in one piece.
async fn a_batch_stays_within_the_servers_limit(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().line("max_payload: 2048")).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut received = node.subscribe("news").await?;
    let posts = (0..200).map(|n| node.publish("news", format!("{n:0100}"), Scope::Global));
    for outcome in within("the outcomes", join_all(posts)).await? {
        outcome?;
    }
    for n in 0..200 {
        receives(&mut received, &format!("{n:0100}")).await?;
    }
    Ok(())
}

async fn a_post_over_the_servers_limit_is_refused_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().line("max_payload: 2048")).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut received = node.subscribe("news").await?;
    let sizes = [10, 5_000, 20, 500_000, 30];
    let posts = sizes.map(|size| node.publish("news", "x".repeat(size), Scope::Global));
    let outcomes = within("the outcomes", join_all(posts)).await?;
    for (size, outcome) in sizes.into_iter().zip(outcomes) {
        match outcome {
            Ok(_) if size < 2048 => receives_behind_refusals(&mut received, size).await?,
            Err(error) if size > 2048 => {
                assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
                assert!(
                    error.message().contains("2048") && error.message().contains("max_payload"),
                    "{error}"
                );
            }
            other => return Err(format!("{size} bytes: {other:?}").into()),
        }
    }
    // One after the other: what was refused is missed by nobody.
    for n in 0..3 {
        assert!(node.publish("news", "x".repeat(5_000), Scope::Global).await.is_err());
        post(&node, "news", n.to_string()).await?;
        receives(&mut received, &n.to_string()).await?;
    }
    fence(&node, &mut received).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}
