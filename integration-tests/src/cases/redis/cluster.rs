//! Cases about a Redis Cluster with plain channels: every member passes on what any of them takes, as long as they reach
//! each other.

use std::{collections::HashSet, time::Duration};

use broker::{Broker, Error, ErrorKind, Event, Options, Subscription};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    log_link::{LIMIT, Opener, RETENTION},
    steps::{
        post, receives, receives_link_loss,
        revocation::{sign_in, sign_out, signed_out},
        wait_for_disconnect, wait_for_link,
    },
    wait::{eventually, fence, next_event, text, until},
};
use broker_core::{
    OrderGuarantee,
    driver::{LogCursor, LogSpec},
};
use futures_util::future::try_join_all;

use crate::{
    cases::backend_common::{connect, refusal},
    servers::{
        Server,
        redis::{
            cluster::{MASTERS, NODE_TIMEOUT, RedisCluster},
            config::RedisConfig,
            process::RedisServer,
        },
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_cluster_and_a_single_server_are_told_apart, [10]).needs(PROCESS),
    case!(a_server_that_has_joined_no_cluster_is_passed_over, [4]).needs(PROCESS),
    case!(what_is_posted_at_any_member_is_heard_at_every_other, [1, 2]).needs(PROCESS),
    case!(two_members_carry_a_link, [4]).needs(PROCESS),
    case!(only_the_links_at_a_killed_member_are_lost, [4, 6]).needs(PROCESS),
    case!(what_a_frozen_member_kept_back_is_told, [5, 6]).needs(PROCESS),
    case!(a_member_without_the_majority_is_left, [4]).needs(PROCESS),
    case!(the_log_is_followed_to_another_member, [9]).needs(PROCESS),
    case!(a_revocation_reaches_nodes_at_other_members, [9]).needs(PROCESS),
    case!(five_permissions_are_enough_for_a_cluster, [8, 10]).needs(PROCESS),
];

pub(super) const PROCESS: &[Need] = &[Need::Process];

pub(super) async fn start() -> Result<RedisCluster, String> {
    RedisCluster::start(RedisConfig::default()).await
}

/// Options of nodes that look after their links often, and give up soon.
pub(super) fn watchful(h: &dyn Harness) -> Options {
    let mut options = h.options();
    options.heartbeat = Duration::from_millis(100);
    options.heartbeat_timeout = Duration::from_millis(800);
    options
}

/// A node for each of these members, which receives there.
async fn nodes(h: &dyn Harness, cluster: &RedisCluster, members: &[usize]) -> Outcome<Vec<Broker>> {
    let urls: Vec<String> = members.iter().map(|n| cluster.url(&[*n], "")).collect();
    Ok(try_join_all(urls.iter().map(|url| broker::connect_with(url, watchful(h)))).await?)
}

async fn a_cluster_and_a_single_server_are_told_apart(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let member = cluster.member(0);
    let error = refusal(h, &member.url_at(member.addr()), &cluster.place(0)).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("redis+cluster://"), "{error}");
    let single = RedisServer::start(RedisConfig::default()).await?;
    let url = format!("redis+cluster://{}", single.addr());
    let error = refusal(h, &url, &single.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("redis://"), "{error}");
    let node = connect(h, &cluster.url(&[0, 1, 2], "")).await?;
    let capabilities = node.capabilities().ok_or("connected")?;
    assert_eq!(capabilities.ordering, OrderGuarantee::PerPublisher);
    Ok(())
}

async fn a_server_that_has_joined_no_cluster_is_passed_over(h: &dyn Harness) -> Outcome {
    let config = RedisConfig::default();
    let (cluster, alone) = tokio::try_join!(start(), RedisCluster::alone(&config, NODE_TIMEOUT))?;
    let error = refusal(h, &format!("redis+cluster://{}", alone.addr()), &alone.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("has not joined"), "{error}");
    for (round, more) in (0..20).zip(["", "?sharded=true"].iter().cycle()) {
        // The hosts are tried in a random order.
        let url = format!("redis+cluster://{},{}/{more}", alone.addr(), cluster.place(round % MASTERS.end));
        let node = connect(h, &url).await?;
        fence(&node, &mut node.subscribe("news").await?).await?;
    }
    Ok(())
}

async fn what_is_posted_at_any_member_is_heard_at_every_other(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let nodes = nodes(h, &cluster, &[0, 1, 2]).await?;
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

/// The next count, or that there is a gap.
pub(super) async fn next_count(subscription: &mut Subscription) -> Outcome<Result<u64, ()>> {
    match next_event(subscription).await? {
        Event::Message(message) => Ok(Ok(text(&message)?.parse()?)),
        Event::Gap(_) => Ok(Err(())),
        other => Err(format!("on `{}`: {other:?}", subscription.channel()).into()),
    }
}

/// Posts a count.
pub(super) async fn count(node: &Broker, channel: &str, n: u64) -> Result<(), String> {
    post(node, channel, n.to_string()).await
}

/// So the echo fails where the members do not reach each other.
async fn two_members_carry_a_link(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let node = connect(h, &cluster.url(&[1], "")).await?;
    let _listening = node.subscribe("news").await?;
    let (mut receiving, mut connected) = (Vec::new(), Vec::new());
    for n in MASTERS {
        let clients: String = cluster.ask(n, "CLIENT LIST").await?;
        let ours = || clients.lines().filter(|line| line.contains(" user=default "));
        receiving.extend(ours().any(|line| !line.contains(" sub=0 ")).then_some(n));
        connected.extend(ours().any(|line| line.contains(" cmd=publish ")).then_some(n));
    }
    assert_eq!(receiving, [1]);
    assert!(connected.len() == 1 && connected != [1], "publishes at {connected:?}");
    Ok(())
}

async fn only_the_links_at_a_killed_member_are_lost(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    // Each receives at one member; whether it publishes at the one that is killed is left to chance.
    let nodes = nodes(h, &cluster, &[0, 1, 2, 0, 1, 2]).await?;
    let mut listening = try_join_all(nodes.iter().map(|node| node.subscribe("news"))).await?;
    let clients: String = cluster.ask(0, "CLIENT LIST").await?;
    let of_a_link = |line: &&str| [" cmd=subscribe ", " cmd=publish "].iter().any(|last| line.contains(last));
    let at_the_killed = clients.lines().filter(of_a_link).count();
    cluster.member(0).kill().await?;
    wait_for_link(&nodes[0], 2).await?;
    wait_for_link(&nodes[3], 2).await?;
    // Every link through the dead member has ended; the others live, also while it is being replaced.
    cluster.wait_for_state(1, "ok").await?;
    until("all nodes to be connected", || nodes.iter().all(|node| node.health().is_connected())).await?;
    for (n, node) in nodes.iter().enumerate() {
        post(node, "news", n.to_string()).await?;
        for (m, subscription) in listening.iter_mut().enumerate() {
            if n == 0 && nodes[m].health().links > 1 {
                receives_link_loss(subscription).await?;
            }
            receives(subscription, &n.to_string()).await?;
        }
    }
    let lost = nodes.iter().filter(|node| node.health().links > 1).count();
    assert_eq!(lost, at_the_killed, "clients of the killed member:\n{clients}");
    Ok(())
}

/// A member that stands still for longer than the others wait for it loses what they had for it.
async fn what_a_frozen_member_kept_back_is_told(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let nodes = nodes(h, &cluster, &[0, 1, 2]).await?;
    let mut listening = try_join_all(nodes.iter().map(|node| node.subscribe("news"))).await?;
    let mut taken = Vec::new();
    cluster.member(0).pause().await?;
    // Until the others wait for it no longer, and have thrown away what they had for it.
    while cluster.owner(1, 0).await? == 0 {
        taken.push(count(&nodes[1], "news", taken.len() as u64).await.is_ok());
    }
    cluster.member(0).resume().await?;
    wait_for_link(&nodes[0], 2).await?;
    until("all nodes to be connected", || nodes.iter().all(|node| node.health().is_connected())).await?;
    cluster.wait_until_whole().await?;
    for _ in 0..20 {
        count(&nodes[1], "news", taken.len() as u64).await?;
        taken.push(true);
    }
    for subscription in &mut listening {
        let mut expected = Some(0);
        while expected != Some(taken.len()) {
            match (next_count(subscription).await?, expected) {
                (Err(()), _) => expected = None,
                (Ok(n), expected_now) => {
                    let n = n as usize;
                    let missing =
                        expected_now.filter(|from| taken[(*from).min(n)..n].contains(&true) || n < *from);
                    if let Some(from) = missing {
                        return Err(format!("{n} instead of {from}, and no gap").into());
                    }
                    expected = Some(n + 1);
                }
            }
        }
    }
    Ok(())
}

/// It takes posts and subscriptions as before; nothing but its state shows that nobody hears them.
async fn a_member_without_the_majority_is_left(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let node = broker::connect_with(&cluster.url(&[0], ""), watchful(h)).await?;
    try_join_all((1..6).map(|n| cluster.member(n).kill())).await?;
    cluster.wait_for_state(0, "fail").await?;
    wait_for_disconnect(&node).await?;
    let error = refusal(h, &cluster.url(&[0], ""), &cluster.place(0)).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("cluster_state:fail"), "{error}");
    try_join_all((1..6).map(|n| cluster.member(n).start_again())).await?;
    until("the node to be connected", || node.health().is_connected()).await?;
    assert_eq!(cluster.state(0).await?, "ok");
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    Ok(())
}

async fn the_log_is_followed_to_another_member(_: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let log = LogSpec::of("", RETENTION, LIMIT);
    let opener = Opener::new(broker_redis::BACKEND, &cluster.url(&[0, 1, 2], ""), log)?;
    let (one, other) = (opener.open().await?, opener.open().await?);
    one.append("a").await?;
    let cursor = other.rest(&LogCursor::START).await?.cursor;
    let slot = RedisCluster::slot("$revocations");
    let owner = cluster.owner(0, slot).await?;
    cluster.move_slot(slot, owner, (owner + 1) % 3).await?;
    one.append("b").await?;
    let read = other.rest(&cursor).await?;
    read.is(&["b"]);
    cluster.move_slot(slot, (owner + 1) % 3, (owner + 2) % 3).await?;
    other.append("c").await?;
    one.rest(&read.cursor).await?.is(&["c"]);
    Ok(())
}

async fn a_revocation_reaches_nodes_at_other_members(h: &dyn Harness) -> Outcome {
    let cluster = start().await?;
    let nodes = nodes(h, &cluster, &[0, 1, 2]).await?;
    let sessions = try_join_all(nodes.iter().map(|node| sign_in(node, "ada"))).await?;
    sign_out(&nodes[2], "ada").await?;
    for session in &sessions {
        signed_out(session).await?;
    }
    Ok(())
}

async fn five_permissions_are_enough_for_a_cluster(h: &dyn Harness) -> Outcome {
    let all = ["+publish", "+subscribe", "+unsubscribe", "+cluster|slots", "+cluster|info"];
    least_permissions(h, "", &all).await
}

/// A user with these commands and the channels of one application can do everything, and without any one of them it
/// cannot.
pub(super) async fn least_permissions(h: &dyn Harness, more: &str, commands: &[&str]) -> Outcome {
    let cluster = start().await?;
    let url = cluster.url_of("ada:s3cret@", &[0, 1, 2], more);
    let mut options = h.options();
    options.prefix = "shop".to_owned();
    let user = "ACL SETUSER ada reset on >s3cret";
    let granted = format!("{user} resetchannels &shop.* -@all {}", commands.join(" "));
    cluster.ask_all(&granted).await?;
    let node = broker::connect_with(&url, options.clone()).await?;
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    drop(received);
    node.close().await;
    for missing in commands {
        cluster.ask_all(&format!("{granted} {}", missing.replacen('+', "-", 1))).await?;
        let refused = use_all(&cluster, &url, options.clone()).await?.map(|error| error.kind());
        assert_eq!(refused, Some(ErrorKind::Forbidden), "without {missing}");
    }
    cluster.ask_all(&format!("{granted} resetchannels &store.*")).await?;
    let refused = use_all(&cluster, &url, options).await?.map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::Forbidden), "with other channels");
    Ok(())
}

/// Connects, subscribes and leaves a channel: what was refused of that.
async fn use_all(cluster: &RedisCluster, url: &str, options: Options) -> Outcome<Option<Error>> {
    let node = match broker::connect_with(url, options).await {
        Ok(node) => node,
        Err(error) => return Ok(Some(error)),
    };
    match node.subscribe("news").await {
        Ok(subscription) => drop(subscription),
        Err(error) => return Ok(Some(error)),
    }
    let left = eventually("the channel to be left", LIMIT, || async {
        if let Some(error) = node.health().last_error {
            return Ok(Some(error));
        }
        for n in MASTERS {
            for kind in ["CHANNELS", "SHARDCHANNELS"] {
                let names: Vec<String> = cluster.ask(n, &format!("PUBSUB {kind} shop.news")).await?;
                if !names.is_empty() {
                    return Err("it is not".to_owned());
                }
            }
        }
        // A link that is given up leaves its channels, too.
        Ok(node.health().last_error)
    });
    Ok(left.await?)
}
