//! Cases about scopes, and about how often a post is received by whom.

use broker_core::{Broker, ErrorKind, Event, Message, Scope};
use futures_util::FutureExt;

use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{collect, fence, next_message, text, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_post_without_listeners_succeeds, [2]).needs(&[Need::PostsInTurn]),
    case!(every_subscriber_on_every_node_receives_a_post_once, [2]),
    case!(own_posts_come_back_exactly_once, [2]),
    case!(two_hundred_subscribers_of_one_channel_receive_every_post, [2, 5]),
    case!(a_local_post_never_leaves_the_node, [2]),
    case!(a_local_post_is_in_the_queue_before_the_call_returns, [2]),
    case!(a_local_post_works_while_the_node_is_disconnected, [2, 6]).needs(&[Need::Server]),
    case!(auto_is_global_with_a_backend, [2]),
    case!(a_global_post_without_a_backend_fails_with_a_remedy, [2, 11]),
    case!(a_message_has_one_identity_on_every_node, [2]),
    case!(a_post_that_never_reaches_the_server_fails, [2, 6]).needs(&[Need::Confirms]),
];

async fn a_post_without_listeners_succeeds(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    for scope in [Scope::Local, Scope::Global, Scope::Auto] {
        for channel in ["nobody", "nobody.at.all"] {
            node.publish(channel, "post", scope).await?;
        }
    }
    // Whoever comes later receives nothing of it.
    let mut late = node.subscribe("nobody").await?;
    fence(&node, &mut late).await?;
    Ok(())
}

async fn every_subscriber_on_every_node_receives_a_post_once(h: &dyn Harness) -> Outcome {
    let nodes = [h.node().await?, h.node().await?, h.node().await?];
    let mut subscriptions = Vec::new();
    for node in &nodes {
        for _ in 0..3 {
            subscriptions.push(node.subscribe("news").await?);
        }
    }
    let mut expected = Vec::new();
    for n in 0..60 {
        nodes[n % 3].publish("news", format!("post {n}"), Scope::Global).await?;
        expected.push(format!("post {n}"));
    }
    expected.sort_unstable();
    for subscription in &mut subscriptions {
        let mut received = collect(subscription, 60).await?;
        received.sort_unstable();
        assert_eq!(received, expected);
    }
    // A second copy of anything would stand before these.
    for (n, node) in nodes.iter().enumerate() {
        node.publish("news", format!("end {n}"), Scope::Global).await?;
    }
    for subscription in &mut subscriptions {
        let mut ends = collect(subscription, 3).await?;
        ends.sort_unstable();
        assert_eq!(ends, ["end 0", "end 1", "end 2"]);
    }
    Ok(())
}

async fn own_posts_come_back_exactly_once(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (mut outside, mut inside) = (node.subscribe("news").await?, session.subscribe("news").await?);
    for n in 0..50 {
        node.publish("news", format!("{n} by the broker"), Scope::Global).await?;
        session.post("news", format!("{n} by the session"), Scope::Global).await?;
        for subscription in [&mut outside, &mut inside] {
            let expected = [format!("{n} by the broker"), format!("{n} by the session")];
            assert_eq!(collect(subscription, 2).await?, expected);
        }
    }
    fence(&node, &mut outside).await?;
    Ok(())
}

async fn two_hundred_subscribers_of_one_channel_receive_every_post(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(here.subscribe("crowd").await?);
    }
    // Some leave from the middle, and some come in their places.
    for n in (0..200).step_by(3) {
        crowd[n] = here.subscribe("crowd").await?;
    }
    let expected: Vec<String> = (0..50).map(|n| format!("post {n}")).collect();
    for post in &expected {
        there.publish("crowd", post.clone(), Scope::Global).await?;
    }
    for subscription in &mut crowd {
        assert_eq!(collect(subscription, 50).await?, expected);
    }
    Ok(())
}

async fn a_local_post_never_leaves_the_node(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (mut near, mut far) = (here.subscribe("news").await?, there.subscribe("news").await?);
    for n in 0..50 {
        here.publish("news", format!("local {n}"), Scope::Local).await?;
    }
    fence(&here, &mut far).await?;
    let expected: Vec<String> = (0..50).map(|n| format!("local {n}")).collect();
    assert_eq!(collect(&mut near, 50).await?, expected);
    assert!(text(&next_message(&mut near).await?)?.starts_with("marker"));
    Ok(())
}

async fn a_local_post_is_in_the_queue_before_the_call_returns(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (mut first, mut second) = (node.subscribe("news").await?, node.subscribe("news").await?);
    for n in 0..100 {
        // A task that never yields is made to wait by the runtime, whatever is in the queue.
        tokio::task::yield_now().await;
        node.publish("news", n.to_string(), Scope::Local).await?;
        for subscription in [&mut first, &mut second] {
            let Some(Some(Event::Message(message))) = subscription.next().now_or_never() else {
                return Err(format!("post {n} is not there yet").into());
            };
            assert_eq!(text(&message)?, n.to_string());
        }
    }
    Ok(())
}

async fn a_local_post_works_while_the_node_is_disconnected(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut news = node.subscribe("news").await?;
    node.line.cut();
    crate::wait::until("the loss to be noticed", || !node.health().is_connected()).await?;
    for n in 0..10 {
        node.publish("news", format!("local {n}"), Scope::Local).await?;
    }
    let expected: Vec<String> = (0..10).map(|n| format!("local {n}")).collect();
    assert_eq!(collect(&mut news, 10).await?, expected);
    // What is configured decides, not what is reachable.
    for scope in [Scope::Global, Scope::Auto] {
        let error = node.publish("news", "post", scope).await.err();
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Unavailable), "{scope:?}");
    }
    node.publish("news", "last", Scope::Local).await?;
    assert_eq!(collect(&mut news, 1).await?, ["last"]);
    Ok(())
}

async fn auto_is_global_with_a_backend(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut far = there.subscribe("news").await?;
    here.publish("news", "post", Scope::Auto).await?;
    here.session().post("news", "another", Scope::default()).await?;
    assert_eq!(collect(&mut far, 2).await?, ["post", "another"]);
    Ok(())
}

async fn a_global_post_without_a_backend_fails_with_a_remedy(_: &dyn Harness) -> Outcome {
    let broker = Broker::local();
    assert!(broker.backend().is_none() && broker.capabilities().is_none());
    let mut news = broker.subscribe("news").await?;
    broker.publish("news", "local", Scope::Local).await?;
    broker.publish("news", "auto", Scope::Auto).await?;
    assert_eq!(collect(&mut news, 2).await?, ["local", "auto"]);
    let error = broker.publish("news", "global", Scope::Global).await.err();
    let Some(error) = error else { return Err("a global post without a backend".into()) };
    assert_eq!(error.kind(), ErrorKind::NoBackend);
    assert!(error.message().contains("broker::connect(url)"), "{error}");
    broker.ready().await?;
    broker.close().await;
    assert!(news.next().await.is_none());
    Ok(())
}

async fn a_message_has_one_identity_on_every_node(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    assert_ne!(here.node_id(), there.node_id());
    let (mut near, mut far) = (here.subscribe("news").await?, there.subscribe("news").await?);
    let mut ids = std::collections::HashSet::new();
    let mut check = |message: &Message, node: &Broker, local: bool| {
        assert_eq!((message.origin(), message.id().origin()), (node.node_id(), node.node_id()));
        assert_eq!(message.is_local(), local);
        assert_eq!(message.sequence().is_none(), local);
        assert!(ids.insert(message.id()), "{} twice", message.id());
    };
    for n in 0..30 {
        let poster = if n % 2 == 0 { &here } else { &there };
        poster.publish("news", "post", Scope::Global).await?;
        let (message, twin) = (next_message(&mut near).await?, next_message(&mut far).await?);
        assert_eq!((message.id(), message.sequence()), (twin.id(), twin.sequence()));
        check(&message, poster, false);
        here.publish("news", "post", Scope::Local).await?;
        check(&next_message(&mut near).await?, &here, true);
    }
    Ok(())
}

/// Its line swallows the post: nobody has refused it, and nobody has it.
async fn a_post_that_never_reaches_the_server_fails(h: &dyn Harness) -> Outcome {
    let (node, other) =
        (h.node_with(|options| options.publish_timeout = crate::wait::SHORT).await?, h.node().await?);
    let mut received = other.subscribe("news").await?;
    node.line.stall();
    let outcome = within("the outcome", node.publish("news", "swallowed", Scope::Global)).await?;
    let kind = outcome.err().map(|error| error.kind());
    assert!(matches!(kind, Some(ErrorKind::Interrupted | ErrorKind::Timeout)), "{kind:?}");
    fence(&other, &mut received).await?;
    Ok(())
}
