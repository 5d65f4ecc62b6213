//! Cases about the limits that the operator of a RabbitMQ may set: each is named, and nobody is told to delete
//! anything.

use broker::{Error, ErrorKind, Scope};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::receives,
    wait::{LIMIT, eventually, fence, until, within},
};
use serde_json::json;

use crate::{
    cases::backend_common::{connect, open, receive_from_each_other, refusal},
    harness::rabbitmq::RabbitHarness,
};

pub(super) const CASES: &[Case] = &[
    case!(a_virtual_host_full_of_queues_is_unavailable_until_there_is_room, [6, 10]),
    case!(a_user_at_its_channel_limit_is_unavailable_until_there_is_room, [6, 10]),
    case!(a_server_that_allows_too_few_channels_is_misconfigured, [10]).needs(&[Need::OwnServer]),
    case!(a_too_small_frame_max_is_named, [10]).needs(&[Need::OwnServer]),
    case!(a_post_refused_by_one_queue_is_interrupted, [2]),
];

/// Names this, and the way to change it; and nothing is to be deleted.
fn advises(error: &Error, kind: ErrorKind, parts: &[&str]) -> Result<(), String> {
    let text = error.message();
    let missing: Vec<&&str> = parts.iter().filter(|part| !text.contains(**part)).collect();
    if error.kind() != kind || !missing.is_empty() || text.contains("delete") {
        return Err(format!("not {kind:?} with {parts:?}: {:?}: {error}", error.kind()));
    }
    Ok(())
}

/// A limit of which one link is all that fits.
async fn limited(h: &dyn Harness, limit: &str, value: u32, parts: &[&str]) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, addr) = (rabbit.server().control(), rabbit.server().addr().to_string());
    let (group, name) = limit.split_once('/').ok_or("no limit")?;
    let path = format!("{group}/{}/{name}", rabbit.name);
    let url = h.url();
    let first = connect(h, &url).await?;
    control.call("PUT", &path, Some(&json!({ "value": value }))).await?;
    // The server counts a moment late.
    let refused = eventually("a refusal", LIMIT, || refusal(h, &url, &addr)).await?;
    advises(&refused, ErrorKind::Unavailable, parts)?;
    let second = open(h, &h.url())?;
    until("two attempts", || second.health().failures >= 2).await?;
    let last = second.health().last_error.ok_or("no reason")?;
    advises(&last, ErrorKind::Unavailable, parts)?;
    // Nobody else suffers.
    let mut received = first.subscribe("news").await?;
    fence(&first, &mut received).await?;
    first.close().await;
    within("room for the second", second.ready()).await??;
    Ok(())
}

async fn a_virtual_host_full_of_queues_is_unavailable_until_there_is_room(h: &dyn Harness) -> Outcome {
    limited(h, "vhost-limits/max-queues", 1, &["queues", "`max-queues`", "set_vhost_limits"]).await
}

async fn a_user_at_its_channel_limit_is_unavailable_until_there_is_room(h: &dyn Harness) -> Outcome {
    limited(h, "user-limits/max-channels", 3, &["AMQP channels", "`max-channels`", "set_user_limits"]).await
}

/// Sets a value of the server's configuration, for connections that are opened from now on.
async fn configure(h: &dyn Harness, setting: &str, value: u32) -> Result<(), String> {
    let server = RabbitHarness::of(h)?.server();
    server.evaluate(&format!("application:set_env(rabbit, {setting}, {value})")).await
}

async fn a_server_that_allows_too_few_channels_is_misconfigured(h: &dyn Harness) -> Outcome {
    let (url, addr) = (h.url(), RabbitHarness::of(h)?.server().addr().to_string());
    configure(h, "channel_max", 1).await?;
    let refused = eventually("a refusal", LIMIT, || refusal(h, &url, &addr)).await;
    configure(h, "channel_max", 2047).await?;
    advises(&refused?, ErrorKind::Misconfigured, &["`channel_max`"])?;
    eventually("a link", LIMIT, || async { connect(h, &h.url()).await.map_err(|error| error.to_string()) })
        .await?;
    Ok(())
}

async fn a_too_small_frame_max_is_named(h: &dyn Harness) -> Outcome {
    let (url, addr) = (h.url(), RabbitHarness::of(h)?.server().addr().to_string());
    configure(h, "frame_max", 4096).await?;
    let refused = eventually("a refusal", LIMIT, || refusal(h, &url, &addr)).await;
    configure(h, "frame_max", 8192).await?;
    advises(&refused?, ErrorKind::Unavailable, &["`frame_max`", "8192"])?;
    // That is enough, for messages that are longer as well.
    let connected =
        eventually("a link", LIMIT, || async { connect(h, &url).await.map_err(|error| error.to_string()) });
    let node = connected.await?;
    receive_from_each_other(&node, &connect(h, &url).await?).await?;
    let (mut received, long) = (node.subscribe("long").await?, "x".repeat(100_000));
    node.publish("long", long.clone(), Scope::Global).await?;
    receives(&mut received, &long).await?;
    configure(h, "frame_max", 131_072).await?;
    Ok(())
}

/// The server says no for the whole exchange, though one of the queues took it.
async fn a_post_refused_by_one_queue_is_interrupted(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, name) = (rabbit.server().control(), &rabbit.name);
    let node = connect(h, &h.url()).await?;
    let mut received = node.subscribe("news").await?;
    let arguments = json!({ "x-max-length": 1, "x-overflow": "reject-publish" });
    let queue = json!({ "durable": true, "arguments": arguments });
    control.call("PUT", &format!("queues/{name}/full"), Some(&queue)).await?;
    let binding = json!({ "routing_key": "news" });
    control.call("POST", &format!("bindings/{name}/e/broker/q/full"), Some(&binding)).await?;
    let mut number = 0;
    let error = loop {
        number += 1;
        let posted = within("an outcome", node.publish("news", number.to_string(), Scope::Global)).await?;
        receives(&mut received, &number.to_string()).await?;
        if let Err(error) = posted {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert_eq!(node.health().links, 1);
    Ok(())
}
