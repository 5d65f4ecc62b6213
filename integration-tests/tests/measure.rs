//! Measures servers and clusters: how long a fail-over and a revocation take, and whether first posts arrive. Nothing is
//! asserted of a time. Each by hand:
//! `cargo test -p integration-tests --features broker/full --test measure -- --ignored --nocapture --test-threads 1`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use broker::{Broker, Event, Options, Reach, Revocation, Scope, SetEvent};
use broker_conformance::{case::Need, harness::quick_options, steps::revocation::sign_in};
use futures_util::future::try_join_all;
use integration_tests::{
    harness::ENTRIES,
    servers::{
        Server,
        nats::{cluster::NatsCluster, config::NatsConfig},
        rabbitmq::cluster::{Partition, RabbitCluster},
        redis::{cluster::RedisCluster, config::RedisConfig},
    },
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// So many posts, each the first on its channel.
const FIRST_POSTS: usize = 10_000;
/// The limit of a wait for one message.
const LIMIT: Duration = Duration::from_secs(30);

fn options() -> Options {
    let mut options = quick_options();
    options.subscribe_timeout = Duration::from_secs(120);
    options
}

async fn connect(url: &str) -> Outcome<Broker> {
    Ok(broker::connect_with(url, options()).await?)
}

/// Subscribes at one node and posts at another, at once: how many of the posts are not heard.
async fn first_posts(what: &str, here: &Broker, there: &Broker, callers: usize) -> Outcome {
    let begun = Instant::now();
    let caller = |caller: usize| async move {
        let mut lost = 0;
        for n in 0..FIRST_POSTS / callers {
            let name = format!("first.{caller}.{n}");
            let mut subscription = here.subscribe(&*name).await?;
            there.publish(&*name, "first", Scope::Global).await?;
            let heard = timeout(LIMIT, subscription.next()).await;
            lost += usize::from(!matches!(heard, Ok(Some(Event::Message(_)))));
        }
        Ok::<_, broker::Error>(lost)
    };
    let lost: usize = try_join_all((0..callers).map(caller)).await?.into_iter().sum();
    println!("{what}, {callers} callers: {lost} of {FIRST_POSTS} first posts lost, {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn first_posts_on_redis_clusters() -> Outcome {
    let cluster = RedisCluster::start_with(RedisConfig::default(), Duration::from_secs(15)).await?;
    for more in ["", "?sharded=true"] {
        let (here, there) =
            (connect(&cluster.url(&[0], more)).await?, connect(&cluster.url(&[1], more)).await?);
        for callers in [1, 16] {
            first_posts(&format!("redis-cluster{more}"), &here, &there, callers).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn first_posts_on_rabbitmq() -> Outcome {
    let cluster = RabbitCluster::start(Partition::PauseMinority).await?;
    cluster.control(0).add_vhost("measured").await?;
    let url = |n| format!("amqp://measured:measured@{}/measured", cluster.addr(n));
    let (here, there) = (connect(&url(0)).await?, connect(&url(1)).await?);
    for callers in [1, 16] {
        first_posts("rabbitmq-cluster", &here, &there, callers).await?;
    }
    Ok(())
}

/// How long a subscription takes, beside a post and its way back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure, no check"]
async fn subscribing_on_nats() -> Outcome {
    for distance in [None, Some(Duration::from_millis(5))] {
        println!("nats, from server to server each way: {distance:?}");
        subscribing_at(&NatsCluster::start_apart(NatsConfig::default(), distance).await?).await?;
    }
    Ok(())
}

async fn subscribing_at(cluster: &NatsCluster) -> Outcome {
    let (here, there) = (connect(&cluster.url(0)).await?, connect(&cluster.url(1)).await?);
    let mut echo = here.subscribe("echo").await?;
    for callers in [1, 4, 16] {
        let caller = |caller: usize| {
            let here = &here;
            async move {
                let mut times = Vec::new();
                for n in 0..2000 / callers {
                    let begun = Instant::now();
                    let subscription = here.subscribe(format!("{callers}.{caller}.{n}")).await?;
                    times.push(begun.elapsed());
                    drop(subscription);
                }
                Ok::<_, broker::Error>(times)
            }
        };
        let times = try_join_all((0..callers).map(caller)).await?.concat();
        report(&format!("nats, {callers} callers: subscribe"), times);
        // The same load in round trips: each caller posts at the other server, and waits until the server has it.
        let trip = |_| {
            let there = &there;
            async move {
                let mut times = Vec::new();
                for _ in 0..2000 / callers {
                    let begun = Instant::now();
                    there.publish("nowhere", "trip", Scope::Global).await?;
                    times.push(begun.elapsed());
                }
                Ok::<_, broker::Error>(times)
            }
        };
        let times = try_join_all((0..callers).map(trip)).await?.concat();
        report(&format!("nats, {callers} callers: post"), times);
    }
    let mut times = Vec::new();
    for _ in 0..1000 {
        let begun = Instant::now();
        there.publish("echo", "trip", Scope::Global).await?;
        timeout(LIMIT, echo.next()).await?;
        times.push(begun.elapsed());
    }
    report("nats: from one server to the other", times);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!("{what}: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
}

/// From the call that revokes on one node to the end of the session on another, one revocation after the other: idle, and
/// while other nodes post on a channel as fast as they can, which the node with the session receives.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure, no check"]
async fn revocations_on_every_server() -> Outcome {
    const TIMES: usize = 1000;
    const CALLERS: usize = 64;
    for entry in ENTRIES.iter().filter(|entry| entry.capabilities.reach == Reach::Cluster) {
        if let Err(reason) = (entry.available)().await {
            println!("{}: {reason}", entry.name());
            continue;
        }
        let server = (entry.start)(&[Need::OwnServer]).await?;
        let (here, there, other) =
            (connect(&server.url()).await?, connect(&server.url()).await?, connect(&server.url()).await?);
        let mut subscription = there.subscribe("flood").await?;
        let (received, mut reader) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        let counting = Arc::clone(&received);
        reader.spawn(async move {
            while let Some(event) = subscription.next().await {
                counting.fetch_add(u64::from(matches!(event, Event::Message(_))), Relaxed);
            }
        });
        for callers in [0, CALLERS] {
            let mut flood = JoinSet::new();
            for _ in 0..callers {
                let other = other.clone();
                flood.spawn(async move {
                    while other.publish("flood", vec![7; 200], Scope::Global).await.is_ok() {}
                });
            }
            let before = received.load(Relaxed);
            let (mut times, begun) = (Vec::with_capacity(TIMES), Instant::now());
            for n in 0..TIMES {
                let session = sign_in(&there, &format!("user-{callers}-{n}")).await?;
                let revoking = Instant::now();
                let ended = async {
                    session.closed().await;
                    revoking.elapsed()
                };
                let (revoked, ended) =
                    tokio::join!(here.revoke(Revocation::user(format!("user-{callers}-{n}"))), ended);
                revoked?;
                times.push(ended);
            }
            let rate = (received.load(Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
            report(&format!("{}, beside {rate:.0} messages/s: revocation", entry.name()), times);
        }
        (entry.end)();
    }
    Ok(())
}

/// Kills a master while a node posts: the server's own time, and until a node that received there hears again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure, no check"]
async fn fail_over_of_a_classic_cluster_under_load() -> Outcome {
    for round in 0..3 {
        let cluster = RedisCluster::start(RedisConfig::default()).await?;
        let (here, there) = (connect(&cluster.url(&[0], "")).await?, connect(&cluster.url(&[1], "")).await?);
        let mut heard = here.subscribe("news").await?;
        let posting = async {
            loop {
                let _ = there.publish("news", "post", Scope::Global).await;
                sleep(Duration::from_millis(1)).await;
            }
        };
        let listening = async {
            let mut killed = None;
            loop {
                let event = timeout(LIMIT, heard.next()).await?.ok_or("ended")?;
                match (event, killed) {
                    (Event::Message(_), None) => {
                        // The one from which it receives.
                        cluster.member(0).kill().await?;
                        killed = Some(Instant::now());
                    }
                    (Event::Gap(_), Some(killed)) => {
                        println!("round {round}: the gap after {:?}", killed.elapsed());
                    }
                    (Event::Message(_), Some(killed)) if here.health().links > 1 => {
                        println!("round {round}: heard again after {:?}", killed.elapsed());
                        return Outcome::Ok(killed);
                    }
                    _ => {}
                }
            }
        };
        let killed = tokio::select! { () = posting => return Ok(()), killed = listening => killed? };
        while cluster.owner(1, 0).await? == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        println!("round {round}: the servers' own new master after {:?}", killed.elapsed());
    }
    Ok(())
}

/// One of three masters is killed: when every channel of it is live after the map has changed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure, no check"]
async fn twenty_thousand_sharded_channels() -> Outcome {
    let names: Vec<String> = (0..20_000).map(|n| format!("channel-{n}")).collect();
    for round in 0..3 {
        let cluster = RedisCluster::start(RedisConfig::default()).await?;
        let node = connect(&cluster.url(&[0, 1, 2], "?sharded=true")).await?;
        let session = node.session();
        let mut set = session.channel_set();
        set.join_all(names.clone()).await?;
        let mut lost = names.iter().filter(|name| RedisCluster::is_at_first(name, 0)).count();
        let (all, slot) = (
            lost,
            RedisCluster::slot(names.iter().find(|name| RedisCluster::is_at_first(name, 0)).ok_or("none")?),
        );
        let killed = Instant::now();
        cluster.member(0).kill().await?;
        let changed = async {
            while cluster.owner(1, slot).await? == 0 {
                sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, String>(killed.elapsed())
        };
        let mut others = 0;
        let live = async {
            while lost > 0 {
                match timeout(LIMIT, set.next()).await?.ok_or("ended")? {
                    (name, SetEvent::Gap(_)) if RedisCluster::is_at_first(name.as_str(), 0) => lost -= 1,
                    _ => others += 1,
                }
            }
            Outcome::Ok(killed.elapsed())
        };
        let (changed, live) = tokio::join!(changed, live);
        let (changed, live) = (changed?, live?);
        println!(
            "round {round}: map changed after {changed:?}, {all} channels live {:?} later, {others} others told",
            live.saturating_sub(changed)
        );
    }
    Ok(())
}
