//! Cases about Redis behind Sentinels: the way to the master, and what becomes of a link when another server is that.

use broker::{Broker, ErrorKind};
use broker_conformance::{
    case::{Case, Failure, Need, Outcome, case},
    harness::Harness,
    steps::{post, receives, receives_link_loss, wait_for_disconnect, wait_for_link},
    wait::{LIMIT, eventually, fence, until_is, within},
};

use super::failover_load::one_gap_and_nothing_silent;
use crate::{
    cases::backend_common::{again_after, connect, receive_from_each_other, refusal},
    servers::{
        Server,
        redis::{
            config::RedisConfig,
            process::RedisServer,
            sentinel::{MASTER, RedisSentinel, ask},
        },
    },
};

pub(super) const CASES: &[Case] = &[
    case!(sentinels_lead_to_the_master, [1, 2]).needs(PROCESS),
    case!(a_killed_master_is_one_gap_and_another_takes_its_place, [4, 6]).needs(PROCESS),
    case!(a_planned_failover_takes_the_nodes_along, [4]).needs(PROCESS),
    case!(an_old_master_that_comes_back_is_nobodys_master, [4]).needs(PROCESS),
    case!(a_minority_of_sentinels_decides_nothing, [4, 10]).needs(PROCESS),
    case!(a_master_without_a_majority_of_sentinels_is_left, [10]).needs(PROCESS),
];

pub(super) const PROCESS: &[Need] = &[Need::Process];

/// Servers and Sentinels that ask for nothing.
pub(super) async fn cluster() -> Result<RedisSentinel, String> {
    RedisSentinel::start(RedisConfig::default(), RedisConfig::default()).await
}

/// Two nodes, and what the second one hears.
async fn two(h: &dyn Harness, cluster: &RedisSentinel) -> Outcome<(Broker, Broker)> {
    let url = cluster.url("redis+sentinel", "");
    Ok((connect(h, &url).await?, connect(h, &url).await?))
}

/// How many connections listen to a channel at this server.
async fn listening(server: &RedisServer, channel: &str) -> Result<u64, String> {
    let (_, count): (String, u64) = ask(server, &format!("PUBSUB NUMSUB {channel}")).await?;
    Ok(count)
}

/// How many nodes a Sentinel has.
async fn nodes_at(sentinel: &RedisServer) -> Result<usize, String> {
    let clients: String = ask(sentinel, "CLIENT LIST").await?;
    Ok(clients.lines().filter(|client| client.contains(" sub=1 ")).count())
}

/// Waits for so many heartbeats of each of so many nodes, which ask each of their two connections at each.
async fn heartbeats(server: &RedisServer, nodes: u64, count: u64) -> Result<(), String> {
    let asked = async || {
        let info: String = ask(server, "INFO commandstats").await?;
        let calls = info.split_once("cmdstat_hello:calls=").and_then(|(_, rest)| rest.split(',').next());
        Ok::<u64, String>(calls.and_then(|calls| calls.parse().ok()).unwrap_or_default())
    };
    let enough = asked().await? + 2 * nodes * count;
    eventually("heartbeats", LIMIT, || async {
        let now = asked().await?;
        if now >= enough { Ok(()) } else { Err(format!("{now} of {enough}")) }
    })
    .await
}

async fn sentinels_lead_to_the_master(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let (one, other) = two(h, &cluster).await?;
    receive_from_each_other(&one, &other).await?;
    let _listening = (one.subscribe("here").await?, other.subscribe("here").await?);
    let master = cluster.master().await?;
    assert_eq!(listening(master, "here").await?, 2);
    heartbeats(master, 2, 4).await?;
    assert_eq!((one.health().links, other.health().links), (1, 1));
    one.close().await;
    other.close().await;
    for sentinel in cluster.sentinels() {
        until_is("the Sentinels to be left", 0, || nodes_at(sentinel)).await?;
    }
    Ok(())
}

async fn a_killed_master_is_one_gap_and_another_takes_its_place(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let (publisher, other) = two(h, &cluster).await?;
    let mut received = other.subscribe("news").await?;
    let old = cluster.master().await?;
    one_gap_and_nothing_silent(&publisher, &mut received, async {
        old.kill().await?;
        wait_for_link(&publisher, 2).await?;
        Ok(wait_for_link(&other, 2).await?)
    })
    .await?;
    assert_eq!(listening(cluster.master_after(old.addr()).await?, "news").await?, 1);
    Ok(())
}

/// For seconds there are two masters, and each takes posts.
async fn a_planned_failover_takes_the_nodes_along(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let (publisher, other) = two(h, &cluster).await?;
    let mut received = other.subscribe("news").await?;
    let old = cluster.master().await?;
    one_gap_and_nothing_silent(&publisher, &mut received, async {
        ask::<()>(&cluster.sentinels()[0], &format!("SENTINEL FAILOVER {MASTER}")).await?;
        wait_for_link(&publisher, 2).await?;
        Ok(wait_for_link(&other, 2).await?)
    })
    .await?;
    for node in [&publisher, &other] {
        let why = node.health().last_error.map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("is not the master `main` any more") && why.contains("Sentinels say"), "{why}");
    }
    assert_eq!(listening(cluster.master_after(old.addr()).await?, "news").await?, 1);
    Ok(())
}

/// The old one calls itself a master until a Sentinel converts it, and takes whatever it is given.
///
/// On a busy machine the new master may be silent for so long that the Sentinels name another once more: then the attempt proves
/// nothing.
async fn an_old_master_that_comes_back_is_nobodys_master(h: &dyn Harness) -> Outcome {
    again_after("is not the master `main` any more", || an_old_master_comes_back(h)).await
}

async fn an_old_master_comes_back(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let (node, other) = two(h, &cluster).await?;
    let mut received = node.subscribe("news").await?;
    let old = cluster.master().await?;
    old.kill().await?;
    for node in [&node, &other] {
        wait_for_link(node, 2).await?;
    }
    receives_link_loss(&mut received).await?;
    old.start_again().await?;
    let mut newcomers = 0;
    within("the old master to be converted", async {
        loop {
            // Who converts it ends its connections, also this one.
            let Ok(role) = ask::<String>(old, "INFO replication").await else { continue };
            if !role.contains("role:master") {
                return Ok::<_, Failure>(());
            }
            let newcomer = connect(h, &cluster.url("redis+sentinel", "")).await?;
            post(&newcomer, "news", "from a newcomer").await?;
            receives(&mut received, "from a newcomer").await?;
            newcomer.close().await;
            newcomers += 1;
        }
    })
    .await??;
    assert!(newcomers > 0, "it was converted at once");
    fence(&other, &mut received).await?;
    for node in [&node, &other] {
        let health = node.health();
        if health.links != 2 {
            return Err(format!("{} links: {:?}", health.links, health.last_error).into());
        }
    }
    Ok(())
}

async fn a_minority_of_sentinels_decides_nothing(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let (node, other) = two(h, &cluster).await?;
    let [gone, frozen, _] = cluster.sentinels() else { return Err("three Sentinels".into()) };
    gone.kill().await?;
    heartbeats(cluster.servers().first().ok_or("no server")?, 2, 4).await?;
    receive_from_each_other(&connect(h, &cluster.url("redis+sentinel", "")).await?, &node).await?;
    // It is found again, so that another one may fail.
    gone.start_again().await?;
    until_is("the nodes to come back", 2, || nodes_at(gone)).await?;
    frozen.pause().await?;
    receive_from_each_other(&connect(h, &cluster.url("redis+sentinel", "")).await?, &node).await?;
    frozen.kill().await?;
    heartbeats(cluster.servers().first().ok_or("no server")?, 2, 4).await?;
    assert_eq!((node.health().links, other.health().links), (1, 1));
    Ok(())
}

async fn a_master_without_a_majority_of_sentinels_is_left(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let url = cluster.url("redis+sentinel", "");
    let node = connect(h, &url).await?;
    let [one, two, _] = cluster.sentinels() else { return Err("three Sentinels".into()) };
    tokio::try_join!(one.kill(), two.kill())?;
    wait_for_disconnect(&node).await?;
    let error = refusal(h, &url, &one.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for part in ["`main`", "2 of its 3 Sentinels", &two.addr().to_string()] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    one.start_again().await?;
    wait_for_link(&node, 2).await?;
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    Ok(())
}
