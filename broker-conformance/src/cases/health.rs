//! Cases about health: the truth of the receive path, and nothing better.

use std::time::Duration;

use broker_core::{ConnectionState, ErrorKind};

use crate::steps::{
    post, quick_detection, receives, receives_again, receives_link_loss, wait_for_disconnect, wait_for_link,
};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{LIMIT, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_silent_server_is_never_connected, [10]).needs(&[Need::OwnServer, Need::Server]),
    case!(a_stalled_line_is_not_connected, [10]).needs(&[Need::Server]),
    case!(health_reports_the_last_error_and_the_failures, [10]).needs(&[Need::Server]),
    case!(health_reports_when_it_changed, [10]).needs(&[Need::Server]),
    case!(ready_returns_when_connected, [10]).needs(&[Need::Server]),
    case!(a_closed_broker_stays_closed, [10, 12]).needs(&[Need::Server]),
    case!(a_node_connects_once_its_server_starts, [6, 10]).needs(&[Need::OwnServer, Need::Server]),
    case!(heartbeats_keep_a_healthy_link, [10]),
    case!(a_dead_receive_path_ends_connected, [4, 10]).needs(&[Need::OwnServer]),
    case!(a_withdrawn_probe_permission_ends_connected, [10]).needs(&[Need::OwnServer, Need::Permissions]),
    case!(health_changes_arrive_in_order, [10, 12]).needs(&[Need::Server]),
    case!(a_link_reports_the_declared_capabilities, [10]).needs(&[Need::Server]),
];

/// The connection can be opened, and that is all.
async fn a_silent_server_is_never_connected(h: &dyn Harness) -> Outcome {
    h.pause_server().await?;
    let node = h.open_node(quick_detection).await?;
    let mut ready = std::pin::pin!(node.ready());
    tokio::select! {
        early = &mut ready => return Err(format!("ready before the server answered: {early:?}").into()),
        tried = until("two attempts", || node.health().failures >= 2) => tried?,
    }
    assert_eq!((node.health().state, node.health().links), (ConnectionState::Connecting, 0));
    h.resume_server().await?;
    within("a link", ready).await??;
    assert!(node.health().is_connected());
    Ok(())
}

async fn a_stalled_line_is_not_connected(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node_with(quick_detection).await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    node.line.stall();
    wait_for_disconnect(&node).await?;
    let (links, failures) = (node.health().links, node.health().failures);
    until("three more attempts", || node.health().failures >= failures + 3).await?;
    assert_eq!((node.health().state, node.health().links), (ConnectionState::Connecting, links));
    node.line.heal();
    assert!(receives_again(&other, &mut received).await? >= 1, "no gap");
    Ok(())
}

async fn health_reports_the_last_error_and_the_failures(h: &dyn Harness) -> Outcome {
    // Who is refused says so, and does not try again by itself.
    let node = h.node_with(|options| options.connect_timeout = Duration::from_secs(3600)).await?;
    let healthy = node.health();
    assert_eq!((healthy.failures, healthy.links, healthy.last_error.is_none()), (0, 1, true));
    node.line.cut();
    for failures in 1..5 {
        until("another failure", || node.health().failures >= failures).await?;
        let health = node.health();
        assert_eq!((health.state, health.links), (ConnectionState::Connecting, 1));
        let error = health.last_error.ok_or("no error")?;
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.backend(), Some(h.backend().name), "{error}");
    }
    node.line.heal();
    wait_for_link(&node, 2).await?;
    let health = node.health();
    assert_eq!((health.failures, health.links, health.last_error.is_some()), (0, 2, true));
    Ok(())
}

async fn health_reports_when_it_changed(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let connected = node.health().since;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    let lost = node.health().since;
    until("more failures", || node.health().failures >= 4).await?;
    assert_eq!(node.health().since, lost);
    node.line.heal();
    wait_for_link(&node, 2).await?;
    let again = node.health().since;
    assert!(connected < lost && lost < again, "{connected:?}, {lost:?}, {again:?}");
    assert_eq!(node.health().since, again);
    Ok(())
}

async fn ready_returns_when_connected(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    within("a node that is ready", node.ready()).await??;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    let mut ready = std::pin::pin!(node.ready());
    assert!(futures_util::poll!(&mut ready).is_pending());
    let failures = node.health().failures;
    until("more failures", || node.health().failures > failures).await?;
    assert!(futures_util::poll!(&mut ready).is_pending());
    node.line.heal();
    within("to be ready", ready).await??;
    // As the caller sees it: a post works now.
    post(&node, "news", "works").await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    let (ready, ()) = futures_util::join!(within("to receive the end", node.ready()), node.close());
    assert_eq!(ready?.map_err(|error| error.kind()), Err(ErrorKind::Closed));
    Ok(())
}

async fn a_closed_broker_stays_closed(h: &dyn Harness) -> Outcome {
    for cut in [false, true] {
        let node = h.node().await?;
        if cut {
            node.line.cut();
            wait_for_disconnect(&node).await?;
        }
        within("the broker to close", node.close()).await?;
        let health = node.health();
        assert_eq!(health.state, ConnectionState::Closed);
        let ready = within("an answer", node.ready()).await?;
        assert_eq!(ready.map_err(|error| error.kind()), Err(ErrorKind::Closed));
        node.line.heal();
        node.close().await;
        assert_eq!((node.health().state, node.health().since), (ConnectionState::Closed, health.since));
    }
    Ok(())
}

async fn a_node_connects_once_its_server_starts(h: &dyn Harness) -> Outcome {
    h.kill_server().await?;
    // Some servers take their time to start, on a busy machine above all.
    let node = h.open_node(|options| options.subscribe_timeout = 2 * LIMIT).await?;
    until("a failure", || node.health().failures > 0).await?;
    assert_eq!((node.health().state, node.health().links), (ConnectionState::Connecting, 0));
    assert!(node.health().last_error.is_some());
    let subscribing = node.subscribe("news");
    let starting = h.start_server();
    let (subscribed, started) = futures_util::join!(subscribing, starting);
    started?;
    let mut received = subscribed?;
    within("a link", node.ready()).await??;
    assert_eq!(node.health().failures, 0);
    post(&node, "news", "first").await?;
    receives(&mut received, "first").await?;
    Ok(())
}

/// Many heartbeats later it is the same link, and nobody was told of anything.
async fn heartbeats_keep_a_healthy_link(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.heartbeat = Duration::from_millis(5)).await?;
    let mut received = node.subscribe("news").await?;
    let since = node.health().since;
    for n in 0..200 {
        post(&node, "news", n.to_string()).await?;
        receives(&mut received, &n.to_string()).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!((node.health().links, node.health().since), (1, since));
    Ok(())
}

/// Its posts would still go out; but it would not receive them.
async fn a_dead_receive_path_ends_connected(h: &dyn Harness) -> Outcome {
    let node = h.node_with(quick_detection).await?;
    let mut received = node.subscribe("news").await?;
    let mut changes = node.health_changes();
    assert_eq!(
        within("the present state", changes.next()).await?.map(|health| health.state),
        Some(ConnectionState::Connected)
    );
    for round in 0..3 {
        h.drop_receivers().await?;
        wait_for_link(&node, round + 2).await?;
        post(&node, "news", round.to_string()).await?;
        receives_link_loss(&mut received).await?;
        receives(&mut received, &round.to_string()).await?;
    }
    let health = within("a change", changes.next()).await?.ok_or("the end")?;
    assert!(health.last_error.is_some(), "{health:?}");
    Ok(())
}

async fn a_withdrawn_probe_permission_ends_connected(h: &dyn Harness) -> Outcome {
    let node = h.node_with(quick_detection).await?;
    let mut received = node.subscribe("news").await?;
    h.allow_nothing().await?;
    wait_for_disconnect(&node).await?;
    let refused = || node.health().last_error.is_some_and(|error| error.kind() == ErrorKind::Forbidden);
    until("the refusal", refused).await?;
    let failures = node.health().failures;
    until("more attempts", || node.health().failures >= failures + 2).await?;
    assert_eq!(node.health().state, ConnectionState::Connecting);
    assert!(post(&node, "news", "x").await.is_err());
    h.allow_everything().await?;
    wait_for_link(&node, 2).await?;
    post(&node, "news", "again").await?;
    receives_link_loss(&mut received).await?;
    receives(&mut received, "again").await?;
    Ok(())
}

/// Who looks only now and then sees the present state, and none that is over; nothing is reported twice.
async fn health_changes_arrive_in_order(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut changes = node.health_changes();
    let mut next = async || within("a change of health", changes.next()).await;
    let connected = next().await?.ok_or("the end")?;
    assert_eq!((connected.state, connected.links), (ConnectionState::Connected, 1));
    node.line.cut();
    let lost = next().await?.ok_or("the end")?;
    assert_eq!((lost.state, lost.last_error.is_some()), (ConnectionState::Connecting, true));
    assert!(lost.since > connected.since);
    let failures = node.health().failures;
    until("more failures, which are no change", || node.health().failures >= failures + 2).await?;
    node.line.heal();
    let again = next().await?.ok_or("the end")?;
    assert_eq!((again.state, again.links), (ConnectionState::Connected, 2));
    // Over before anybody looks.
    node.line.cut();
    wait_for_disconnect(&node).await?;
    node.line.heal();
    wait_for_link(&node, 3).await?;
    let third = next().await?.ok_or("the end")?;
    assert_eq!((third.state, third.links), (ConnectionState::Connected, 3));
    node.close().await;
    assert_eq!(next().await?.map(|health| health.state), Some(ConnectionState::Closed));
    assert!(next().await?.is_none());
    Ok(())
}

/// Before the first link nothing is promised, and after a link its promises stay to be read.
async fn a_link_reports_the_declared_capabilities(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    assert_eq!(node.capabilities(), Some(h.capabilities()));
    node.line.cut();
    wait_for_disconnect(&node).await?;
    assert_eq!(node.capabilities(), Some(h.capabilities()));
    let cut_off = h.open(&node.line.url(), h.options())?;
    assert_eq!(cut_off.capabilities(), None);
    node.line.heal();
    within("a link", cut_off.ready()).await??;
    assert_eq!(cut_off.capabilities(), Some(h.capabilities()));
    Ok(())
}
