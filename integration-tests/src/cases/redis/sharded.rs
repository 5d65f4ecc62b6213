//! Cases about a Redis Cluster with sharded channels: what happens to one master concerns its channels alone.

use std::{collections::HashSet, time::Duration};

use broker::{Broker, ErrorKind, Event, Scope, SetEvent, Subscription};
use broker_conformance::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::{
        post, receives,
        revocation::{sign_in, sign_out, signed_out},
        sets,
    },
    wait::{eventually, fence, next_event, text, within},
};
use broker_core::OrderGuarantee;
use futures_util::future::try_join_all;

use crate::{
    cases::redis::cluster::{PROCESS, count, least_permissions, next_count, start},
    servers::{
        LIMIT, Server,
        redis::cluster::{MASTERS, RedisCluster},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(every_node_hears_every_other_through_the_shards, [1, 2]).needs(PROCESS),
    case!(many_channels_are_all_heard_again_and_only_the_lost_ones_are_told, [4, 5, 6]).needs(PROCESS),
    case!(a_slot_that_moves_is_a_gap_on_its_channels_alone, [5, 6]).needs(PROCESS),
    case!(a_killed_master_is_a_gap_on_its_channels_alone, [5, 6]).needs(PROCESS),
    case!(a_frozen_master_is_a_gap_on_its_channels_alone, [5, 6]).needs(PROCESS),
    case!(every_channel_receives_again_after_the_master_of_the_digests_is_killed, [4, 5]).needs(PROCESS),
    case!(a_planned_failover_is_a_gap_on_its_channels_alone, [5, 6]).needs(PROCESS),
    case!(a_shard_without_a_master_keeps_nobody_from_the_others, [4, 6]).needs(PROCESS),
    case!(a_new_master_that_refuses_the_user_is_shown_in_the_health, [8, 10]).needs(PROCESS),
    case!(a_revocation_reaches_every_node_through_its_shard, [9]).needs(PROCESS),
    case!(four_permissions_are_enough_for_sharded_channels, [8, 10]).needs(PROCESS),
];

const SHARDED: &str = "?sharded=true";
/// Longer than any case.
const NEVER: Duration = Duration::from_secs(3600);
/// How many channels there are on the three masters where there are many.
const MANY: usize = 5_000;

async fn nodes<const N: usize>(h: &dyn Harness, cluster: &RedisCluster) -> Outcome<[Broker; N]> {
    let url = cluster.url(&[0, 1, 2], SHARDED);
    let nodes = try_join_all((0..N).map(|_| broker::connect_with(&url, h.options()))).await?;
    Ok(nodes.try_into().map_err(|_| "another number of nodes")?)
}

/// A listener to one channel of each master, and the names of the channels.
async fn one_at_each(node: &Broker) -> Outcome<(Vec<String>, Vec<Subscription>)> {
    let names: Vec<String> = MASTERS.flat_map(|n| RedisCluster::names_at(n, "channel-", 1)).collect();
    let listening = try_join_all(names.iter().map(|name| node.subscribe(&**name))).await?;
    Ok((names, listening))
}

/// The same, the second master's first. The first master has `$digests`, and a digest that is lost with its master is a gap
/// on every channel.
async fn one_at_each_from_the_second(node: &Broker) -> Outcome<(Vec<String>, Vec<Subscription>)> {
    let (mut names, mut listening) = one_at_each(node).await?;
    names.rotate_left(1);
    listening.rotate_left(1);
    Ok((names, listening))
}

async fn every_node_hears_every_other_through_the_shards(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let nodes: [Broker; 3] = nodes(h, &cluster).await?;
    let capabilities = nodes[0].capabilities().ok_or("connected")?;
    assert_eq!(capabilities.ordering, OrderGuarantee::PerChannel);
    for round in 0..1000 {
        let channel = format!("channel-{round}");
        let mut subscription = nodes[round % 3].subscribe(&*channel).await?;
        let posting = nodes.iter().enumerate().map(|(from, node)| count(node, &channel, from as u64));
        try_join_all(posting).await?;
        let mut heard = HashSet::new();
        for _ in 0..3 {
            heard.insert(next_count(&mut subscription).await?.map_err(|()| format!("a gap on {channel}"))?);
        }
        assert_eq!(heard, HashSet::from([0, 1, 2]), "{channel}");
    }
    Ok(())
}

async fn a_slot_that_moves_is_a_gap_on_its_channels_alone(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let [node, other] = nodes(h, &cluster).await?;
    let (names, mut listening) = one_at_each(&node).await?;
    let slot = RedisCluster::slot(&names[0]);
    cluster.move_slot(slot, 0, 1).await?;
    only_the_first_is_told(&other, &names, &mut listening).await?;
    cluster.move_slot(slot, 1, 2).await?;
    only_the_first_is_told(&other, &names, &mut listening).await?;
    assert_eq!((node.health().links, other.health().links), (1, 1));
    Ok(())
}

/// The first channel has a gap and is heard again; on the others there is nothing but what is posted now.
async fn only_the_first_is_told(other: &Broker, names: &[String], listening: &mut [Subscription]) -> Outcome {
    let gaps = receives_again_on(other, &names[0], &mut listening[0]).await?;
    assert!(gaps > 0, "nothing was told");
    for (name, subscription) in names.iter().zip(listening).skip(1) {
        post(other, name, "all the while").await?;
        receives(subscription, "all the while").await?;
    }
    Ok(())
}

/// Posts until a post is heard. How many gaps stood before it.
async fn receives_again_on(other: &Broker, name: &str, subscription: &mut Subscription) -> Outcome<usize> {
    let mut n = 0;
    let posting = async {
        loop {
            let _ = count(other, name, n).await;
            n += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let hearing = async {
        let mut gaps = 0;
        while next_count(subscription).await?.is_err() {
            gaps += 1;
        }
        Outcome::Ok(gaps)
    };
    // A deaf channel is told of gaps for as long as others post on it.
    let gaps = tokio::select! {
        () = posting => 0,
        gaps = within("the channel to be heard again", hearing) => gaps??,
    };
    // What was posted before is received by now, or lost.
    post(other, name, "the last").await?;
    loop {
        match next_event(subscription).await? {
            Event::Message(message) if text(&message)? == "the last" => return Ok(gaps),
            _ => {}
        }
    }
}

async fn a_killed_master_is_a_gap_on_its_channels_alone(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let [node, other] = nodes(h, &cluster).await?;
    let (names, mut listening) = one_at_each_from_the_second(&node).await?;
    cluster.member(1).kill().await?;
    others_go_on_until_another_serves(&cluster, 1, &other, &names, &mut listening).await?;
    only_the_first_is_told(&other, &names, &mut listening).await?;
    assert_eq!((node.health().links, other.health().links), (1, 1));
    cluster.member(1).start_again().await?;
    cluster.wait_until_whole().await?;
    let name = &RedisCluster::names_at(1, "fresh-", 1)[0];
    let mut fresh = node.subscribe(&**name).await?;
    post(&other, name, "as before").await?;
    receives(&mut fresh, "as before").await?;
    Ok(())
}

/// While the master of the first channel is out of service: every post on a channel of another arrives, and nothing else does.
async fn others_go_on_until_another_serves(
    cluster: &RedisCluster,
    master: usize,
    other: &Broker,
    names: &[String],
    listening: &mut [Subscription],
) -> Outcome {
    let mut n = 0;
    loop {
        for (name, subscription) in names.iter().zip(&mut *listening).skip(1) {
            count(other, name, n).await?;
            assert_eq!(next_count(subscription).await?, Ok(n), "on {name}");
        }
        n += 1;
        if cluster.owner(2, RedisCluster::slot(&names[0])).await? != master {
            return Ok(());
        }
    }
}

async fn many_channels_are_all_heard_again_and_only_the_lost_ones_are_told(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let url = cluster.url(&[0, 1, 2], SHARDED);
    let mut options = h.options();
    options.subscribe_timeout = LIMIT;
    let node = broker::connect_with(&url, options).await?;
    let [other] = nodes(h, &cluster).await?;
    let names: Vec<String> = (0..MANY).map(|n| format!("channel-{n}")).collect();
    let session = node.session();
    let mut set = session.channel_set();
    set.join_all(names.clone()).await?;
    // Not those of the first master, which has `$digests`.
    let mut lost: HashSet<&str> =
        names.iter().map(|name| &**name).filter(|name| RedisCluster::is_at_first(name, 1)).collect();
    cluster.member(1).kill().await?;
    while !lost.is_empty() {
        match sets::next(&mut set).await? {
            (name, SetEvent::Gap(_)) if lost.remove(&*name) => {}
            other => return Err(format!("not a gap on a lost channel: {other:?}").into()),
        }
    }
    for name in &names {
        eventually("the post to be taken", LIMIT, || post(&other, name, "again")).await?;
        match sets::next(&mut set).await? {
            (heard, SetEvent::Message(_)) if heard == *name => {}
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    assert_eq!((node.health().links, other.health().links), (1, 1));
    Ok(())
}

async fn a_frozen_master_is_a_gap_on_its_channels_alone(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let [node, other] = nodes(h, &cluster).await?;
    let (names, mut listening) = one_at_each_from_the_second(&node).await?;
    cluster.member(1).pause().await?;
    eventually("another master in its place", LIMIT, || async {
        if cluster.owner(2, RedisCluster::slot(&names[0])).await? == 1 {
            Err("none yet".to_owned())
        } else {
            Ok(())
        }
    })
    .await?;
    only_the_first_is_told(&other, &names, &mut listening).await?;
    assert_eq!((node.health().links, other.health().links), (1, 1));
    cluster.member(1).resume().await?;
    Ok(())
}

/// On the other channels a gap may stand: a digest was lost, perhaps.
async fn every_channel_receives_again_after_the_master_of_the_digests_is_killed(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let [node, other] = nodes(h, &cluster).await?;
    let (names, mut listening) = one_at_each(&node).await?;
    assert_eq!(cluster.owner(1, RedisCluster::slot("$digests")).await?, 0);
    cluster.member(0).kill().await?;
    let gaps = receives_again_on(&other, &names[0], &mut listening[0]).await?;
    assert!(gaps > 0, "no gap was reported");
    for (name, subscription) in names.iter().zip(&mut listening).skip(1) {
        receives_again_on(&other, name, subscription).await?;
    }
    assert_eq!((node.health().links, other.health().links), (1, 1));
    Ok(())
}

async fn a_planned_failover_is_a_gap_on_its_channels_alone(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let [node, other] = nodes(h, &cluster).await?;
    let (names, mut listening) = one_at_each_from_the_second(&node).await?;
    cluster.ask::<()>(MASTERS.end + 1, "CLUSTER FAILOVER").await?;
    others_go_on_until_another_serves(&cluster, 1, &other, &names, &mut listening).await?;
    only_the_first_is_told(&other, &names, &mut listening).await?;
    assert_eq!((node.health().links, other.health().links), (1, 1));
    Ok(())
}

async fn a_shard_without_a_master_keeps_nobody_from_the_others(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    // Nobody can take over.
    try_join_all([0, MASTERS.end].map(|n| cluster.member(n).kill())).await?;
    let mut options = h.options();
    options.subscribe_timeout = Duration::from_secs(1);
    let url = cluster.url(&[0, 1, 2], SHARDED);
    let node = broker::connect_with(&url, options).await?;
    let names: Vec<String> = MASTERS.flat_map(|n| RedisCluster::names_at(n, "channel-", 1)).collect();
    let error = node.subscribe(&*names[0]).await.expect_err("no master");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let error = node.publish(&*names[0], "lost", Scope::Global).await.expect_err("no master");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let mut listening = node.subscribe(&*names[1]).await?;
    fence(&node, &mut listening).await?;
    let waiting = async {
        loop {
            if let Ok(subscription) = node.subscribe(&*names[0]).await {
                return subscription;
            }
        }
    };
    let (started, subscription) =
        tokio::join!(cluster.member(0).start_again(), within("the channel", waiting));
    started?;
    let mut subscription = subscription?;
    post(&node, &names[0], "at last").await?;
    receives(&mut subscription, "at last").await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

/// Users are not replicated: one that was made on the masters alone is missing after a fail-over.
async fn a_new_master_that_refuses_the_user_is_shown_in_the_health(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let user = "ACL SETUSER ada on >s3cret allchannels +@all";
    for n in MASTERS {
        cluster.ask::<()>(n, user).await?;
    }
    let url = cluster.url_of("ada:s3cret@", &[0, 1, 2], SHARDED);
    let node = broker::connect_with(&url, h.options()).await?;
    let (names, mut listening) = one_at_each_from_the_second(&node).await?;
    cluster.member(1).kill().await?;
    let refused = eventually("the refusal in the health", LIMIT, || async {
        let refused = node.health().degraded.filter(|error| error.kind() == ErrorKind::Forbidden);
        refused.ok_or_else(|| format!("{:?}", node.health().degraded))
    });
    let refused = refused.await?;
    assert!(node.health().is_connected());
    let error = node.publish(&*names[0], "refused", Scope::Global).await.expect_err("the user is missing");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains(refused.message()), "{error}");
    post(&node, &names[1], "all the while").await?;
    receives(&mut listening[1], "all the while").await?;
    cluster.ask::<()>(MASTERS.end + 1, user).await?;
    only_the_first_is_told(&node, &names, &mut listening).await?;
    let whole = || async { node.health().degraded.map_or(Ok(()), |error| Err(error.to_string())) };
    eventually("nothing of it in the health", LIMIT, whole).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn a_revocation_reaches_every_node_through_its_shard(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    // Nobody reads the log without a reason, nor learns by digests of announcements that were missed.
    let mut options = h.options();
    (options.revocation_poll, options.digest_interval) = (NEVER, NEVER);
    let url = cluster.url(&[0, 1, 2], SHARDED);
    let nodes = try_join_all((0..3).map(|_| broker::connect_with(&url, options.clone()))).await?;
    let sessions = try_join_all(nodes.iter().map(|node| sign_in(node, "ada"))).await?;
    sign_out(&nodes[2], "ada").await?;
    for session in &sessions {
        signed_out(session).await?;
    }
    // The announcements' own shard is replaced, and is listened to again.
    let sessions = try_join_all(nodes.iter().map(|node| sign_in(node, "bob"))).await?;
    let owner = cluster.owner(1, RedisCluster::slot("$revocations")).await?;
    cluster.ask::<()>(owner + MASTERS.end, "CLUSTER FAILOVER").await?;
    eventually("another master in its place", LIMIT, || async {
        let now = cluster.owner(owner, RedisCluster::slot("$revocations")).await?;
        if now == owner { Err("none yet".to_owned()) } else { Ok(()) }
    })
    .await?;
    sign_out(&nodes[0], "bob").await?;
    for session in &sessions {
        signed_out(session).await?;
    }
    assert!(nodes.iter().all(|node| node.health().links == 1));
    Ok(())
}

async fn four_permissions_are_enough_for_sharded_channels(h: &dyn Harness) -> Outcome {
    least_permissions(h, SHARDED, &["+spublish", "+ssubscribe", "+sunsubscribe", "+cluster|slots"]).await
}
