//! Cases about what the operator of a RabbitMQ can do to it while nodes are linked, and what it does in distress.

use std::time::Duration;

use broker::{Broker, Error, ErrorKind, Scope, Subscription};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{post, receives, receives_again, receives_link_loss, wait_for_link},
    wait::{LIMIT, eventually, fence, until, within},
};
use futures_util::future::try_join;
use serde_json::json;

use crate::{harness::rabbitmq::RabbitHarness, servers::rabbitmq::Side};

pub(super) const CASES: &[Case] = &[
    case!(a_deleted_queue_is_a_gap_and_recovers, [4, 10]),
    case!(a_deleted_exchange_is_a_gap_and_recovers, [4, 10]),
    case!(a_deleted_virtual_host_is_reported_until_it_exists_again, [4, 6, 10]),
    case!(a_changed_password_is_reported_at_the_next_link, [10]),
    case!(closed_connections_are_a_gap_and_recover, [4]),
    case!(a_closed_receiving_connection_is_a_gap_and_recovers, [4]),
    case!(a_closed_publishing_connection_is_detected_and_recovers, [4, 6]),
    case!(a_resource_alarm_fails_posts_and_shows_in_health, [6, 10]).needs(&[Need::OwnServer]),
];

/// The second link is there, the first was lost for this reason, and both is told.
async fn recovered(node: &Broker, received: &mut Subscription, why: &str) -> Outcome {
    wait_for_link(node, 2).await?;
    let health = node.health();
    let error = health.last_error.ok_or("no error")?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains(why), "`{why}` is not in: {error}");
    receives_link_loss(received).await?;
    fence(node, received).await?;
    assert_eq!(node.health().links, 2);
    Ok(())
}

async fn a_deleted_queue_is_a_gap_and_recovers(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let vhost = &rabbit.name;
    let node = h.node().await?;
    let (mut received, since) = (node.subscribe("news").await?, node.health().since);
    let queues = rabbit.server().control().get(&format!("queues/{vhost}")).await?;
    let queue = queues[0]["name"].as_str().ok_or("no queue")?;
    assert!(queue.starts_with("broker."), "{queue}");
    // Nobody else may delete an exclusive queue, but the server itself.
    let queue = format!("rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)");
    let delete = "{ok, Q} -> rabbit_amqqueue:delete(Q, false, false, <<\"operator\">>)";
    rabbit.server().evaluate(&format!("case rabbit_amqqueue:lookup({queue}) of {delete} end")).await?;
    recovered(&node, &mut received, "deleted the queue").await?;
    assert!(node.health().since > since, "it was connected all the time");
    Ok(())
}

async fn a_deleted_exchange_is_a_gap_and_recovers(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let node = h.node().await?;
    let (mut received, since) = (node.subscribe("news").await?, node.health().since);
    let path = format!("exchanges/{}/broker", rabbit.name);
    rabbit.server().control().call("DELETE", &path, None).await?;
    recovered(&node, &mut received, "has deleted").await?;
    assert!(node.health().since > since, "it was connected all the time");
    Ok(())
}

/// Waits until a node says this of itself, and that it has no link.
async fn says(node: &Broker, kind: ErrorKind) -> Result<Error, String> {
    eventually(&format!("{kind:?}"), LIMIT, || async {
        let health = node.health();
        match health.last_error {
            Some(error) if error.kind() == kind && !health.is_connected() => Ok(error),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn a_deleted_virtual_host_is_reported_until_it_exists_again(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let control = rabbit.server().control();
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    control.remove_vhost(&rabbit.name).await?;
    // Its user was removed as well.
    says(&node, ErrorKind::Forbidden).await?;
    control.add_vhost(&rabbit.name).await?;
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut received).await?;
    fence(&node, &mut received).await?;

    control.call("DELETE", &format!("vhosts/{}", rabbit.name), None).await?;
    let error = says(&node, ErrorKind::Misconfigured).await?;
    assert!(error.message().contains(&format!("{:?}", rabbit.name)), "{error}");
    let posted = node.publish("news", "nowhere", Scope::Global).await.map_err(|error| error.kind());
    assert_eq!(posted, Err(ErrorKind::Unavailable));
    control.add_vhost(&rabbit.name).await?;
    wait_for_link(&node, 3).await?;
    receives_link_loss(&mut received).await?;
    fence(&node, &mut received).await?;
    Ok(())
}

async fn a_changed_password_is_reported_at_the_next_link(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, user) = (rabbit.server().control(), format!("users/{}", rabbit.name));
    let password = |password: &str| json!({ "password": password, "tags": "" });
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    control.call("PUT", &user, Some(&password("other"))).await?;
    // Whoever is in stays in.
    fence(&node, &mut received).await?;
    h.drop_links().await?;
    let error = says(&node, ErrorKind::Forbidden).await?;
    assert!(error.message().contains("password"), "{error}");
    control.call("PUT", &user, Some(&password(&rabbit.name))).await?;
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut received).await?;
    fence(&node, &mut received).await?;
    Ok(())
}

async fn closed_connections_are_a_gap_and_recover(h: &dyn Harness) -> Outcome {
    closed(h, Side::Both).await
}

async fn a_closed_receiving_connection_is_a_gap_and_recovers(h: &dyn Harness) -> Outcome {
    closed(h, Side::Receiving).await
}

async fn a_closed_publishing_connection_is_detected_and_recovers(h: &dyn Harness) -> Outcome {
    closed(h, Side::Publishing).await
}

/// The connections of two links, once the server lists them all and none of those `before`.
async fn both_links(rabbit: &RabbitHarness, before: &[String]) -> Result<Vec<String>, String> {
    eventually("the connections of two links", LIMIT, || async {
        let all = rabbit.server().control().connections(&rabbit.name).await?;
        let fresh = all.len() == 4 && !all.iter().any(|name| before.contains(name));
        if fresh { Ok(all) } else { Err(format!("{all:?}, before: {before:?}")) }
    })
    .await
}

/// Half of a link is gone: the other half goes too.
async fn closed(h: &dyn Harness, side: Side) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    // The end of a connection is detected by itself, not only by a missing echo.
    let long_limits = |options: &mut broker::Options| options.heartbeat = Duration::from_secs(3600);
    let (node, other) = (h.node_with(long_limits).await?, h.node_with(long_limits).await?);
    let mut received = node.subscribe("news").await?;
    let mut before = Vec::new();
    for round in 0..3 {
        before = both_links(rabbit, &before).await?;
        rabbit.server().close_connections(&rabbit.name, side).await?;
        wait_for_link(&node, round + 2).await?;
        wait_for_link(&other, round + 2).await?;
        post(&other, "news", "hello").await?;
        receives_link_loss(&mut received).await?;
        receives(&mut received, "hello").await?;
        post(&node, "news", "self").await?;
        receives(&mut received, "self").await?;
    }
    assert_eq!((node.health().links, other.health().links), (4, 4));
    Ok(())
}

async fn a_resource_alarm_fails_posts_and_shows_in_health(h: &dyn Harness) -> Outcome {
    let server = RabbitHarness::of(h)?.server();
    let (node, other) = (h.node().await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    for resource in ["memory", "disk"] {
        let links = other.health().links;
        let alarm = format!("{{resource_limit, {resource}, node()}}");
        server.evaluate(&format!("rabbit_alarm:set_alarm({{{alarm}, []}})")).await?;
        let rest = try_join(in_distress(&node), in_distress(&other)).await;
        // Also after a failure: the next case has the same server.
        server.evaluate(&format!("rabbit_alarm:clear_alarm({alarm})")).await?;
        rest.map_err(|error| format!("{resource}: {error}"))?;
        wait_for_link(&other, links + 1).await?;
        assert!(receives_again(&other, &mut received).await? >= 1, "no gap");
        wait_for_link(&node, links + 1).await?;
        fence(&node, &mut received).await?;
        fence(&other, &mut received).await?;
    }
    Ok(())
}

async fn in_distress(node: &Broker) -> Result<(), String> {
    // Until the alarm is received, it still takes some.
    let refused = async {
        loop {
            if let Err(error) = node.publish("silence", "hello", Scope::Global).await {
                break error.kind();
            }
        }
    };
    let kind = within("a post to fail", refused).await?;
    if !matches!(kind, ErrorKind::Unavailable | ErrorKind::Interrupted) {
        return Err(format!("a post failed with {kind:?}"));
    }
    until("the reason", || {
        let health = node.health();
        let is_alarm = |error: &Error| {
            error.kind() == ErrorKind::Unavailable && error.message().contains("low on memory or disk")
        };
        !health.is_connected() && health.last_error.as_ref().is_some_and(is_alarm)
    })
    .await?;
    match within("an answer", node.publish("silence", "hello", Scope::Global)).await? {
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(()),
        other => Err(format!("a post without a link: {other:?}")),
    }
}
