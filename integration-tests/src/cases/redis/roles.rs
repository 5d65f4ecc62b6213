//! Cases about what a Redis is: only a master is a server at which all nodes meet.

use std::time::Duration;

use broker::ErrorKind;
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    proxy::Proxy,
    steps::{post, receives, receives_link_loss, wait_for_link},
    wait::{fence, until},
};

use crate::{
    cases::{
        backend_common::{connect, receive_from_each_other, refusal},
        redis::log::{OWN, ask},
    },
    servers::{
        Server,
        redis::{self, Redis, config::RedisConfig, process::RedisServer},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_replica_is_refused_until_it_is_a_master, [8, 10]).needs(OWN),
    case!(a_master_that_is_demoted_is_left, [4, 6]).needs(OWN),
    case!(a_node_at_a_demoted_master_finds_the_new_one, [4]).needs(OWN),
    case!(a_sentinel_is_named, [10]).needs(&[Need::Process]),
];

/// Makes a server a replica of another one.
async fn demote(server: &dyn Redis, master: &dyn Server) -> Outcome {
    ask::<()>(server, &format!("REPLICAOF {} {}", master.addr().ip(), master.addr().port())).await?;
    Ok(())
}

async fn promote(server: &dyn Redis) -> Outcome {
    ask::<()>(server, "REPLICAOF NO ONE").await?;
    Ok(())
}

async fn a_replica_is_refused_until_it_is_a_master(h: &dyn Harness) -> Outcome {
    let (master, replica) = pair().await?;
    let url = replica.url_at(replica.addr());
    let error = refusal(h, &url, &replica.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("replica") && error.message().contains("master"), "{error}");
    promote(&*replica).await?;
    receive_from_each_other(&connect(h, &url).await?, &connect(h, &url).await?).await?;
    drop(master);
    Ok(())
}

/// A server, and a replica of it.
async fn pair() -> Outcome<(Box<dyn Redis>, Box<dyn Redis>)> {
    let master = redis::start_own(RedisConfig::default()).await?;
    let replica = redis::start_own(RedisConfig::default()).await?;
    demote(&*replica, &*master).await?;
    Ok((master, replica))
}

async fn a_master_that_is_demoted_is_left(h: &dyn Harness) -> Outcome {
    let (one, other) =
        (redis::start_own(RedisConfig::default()).await?, redis::start_own(RedisConfig::default()).await?);
    let mut options = h.options();
    options.heartbeat = Duration::from_millis(100);
    let node = broker::connect_with(&one.url_at(one.addr()), options).await?;
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    demote(&*one, &*other).await?;
    let told = || node.health().last_error.is_some_and(|error| error.message().contains("replica"));
    until("the node to see the role", told).await?;
    until("the link to be given up", || !node.health().is_connected()).await?;
    promote(&*one).await?;
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut received).await?;
    fence(&node, &mut received).await?;
    Ok(())
}

/// An address that leads to the master, as a managed service or a proxy has it; the connections that are there live on.
async fn a_node_at_a_demoted_master_finds_the_new_one(h: &dyn Harness) -> Outcome {
    let (one, other) = pair().await?;
    let proxy = Proxy::start(one.addr()).await?;
    let url = one.url_at(proxy.addr());
    let mut options = h.options();
    options.heartbeat = Duration::from_millis(100);
    let node = broker::connect_with(&url, options.clone()).await?;
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    proxy.set_upstream(other.addr());
    promote(&*other).await?;
    demote(&*one, &*other).await?;
    let newcomer = broker::connect_with(&url, options).await?;
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut received).await?;
    post(&newcomer, "news", "from the new master").await?;
    receives(&mut received, "from the new master").await?;
    Ok(())
}

async fn a_sentinel_is_named(h: &dyn Harness) -> Outcome {
    let sentinel = RedisServer::start(RedisConfig::default().sentinel()).await?;
    let error = refusal(h, &sentinel.url_at(sentinel.addr()), &sentinel.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("Sentinel") && error.message().contains("master"), "{error}");
    Ok(())
}
