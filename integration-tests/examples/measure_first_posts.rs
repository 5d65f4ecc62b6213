//! Measures a cluster of NATS: how many first posts at another server are lost, and how long a subscription takes beside
//! one round trip to that server.
//!
//! `cargo run -p integration-tests --features broker/full --example measure_first_posts [POSTS] [DISTANT_POSTS]`

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use broker::{Broker, Event, Options, Scope};
use futures_util::future::{join_all, try_join_all};
use integration_tests::servers::nats::{cluster::NatsCluster, config::NatsConfig};
use tokio::time::timeout;

/// How long it takes from one distant server to another.
const DISTANCE: Duration = Duration::from_millis(5);
/// So long after everything was posted nothing more arrives.
const SILENCE: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = env::args().skip(1).filter_map(|text| text.parse().ok());
    let (posts, distant): (usize, usize) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(1000));
    let near = NatsCluster::start(NatsConfig::default()).await?;
    for callers in [1, 16] {
        measure("near", &near, posts, callers).await?;
    }
    let far = NatsCluster::start_apart(NatsConfig::default(), Some(DISTANCE)).await?;
    measure("5 ms apart", &far, distant, 1).await
}

async fn measure(what: &str, cluster: &NatsCluster, posts: usize, callers: usize) -> Result<(), Failure> {
    let here = broker::connect_with(&cluster.url(0), Options::default()).await?;
    let there = broker::connect_with(&cluster.url(1), Options::default()).await?;
    let round_trip = round_trip(&here, &there).await?;
    let caller = async |caller: usize| {
        let (mut all, mut took) = (Vec::new(), Vec::new());
        for n in 0..posts / callers {
            let name = format!("first.{caller}.{n}");
            let began = Instant::now();
            let subscription = here.subscribe(&name).await?;
            took.push(began.elapsed());
            there.publish(&name, "first", Scope::Global).await?;
            all.push(subscription);
        }
        Ok::<_, broker::Error>((all, took))
    };
    let done = try_join_all((0..callers).map(caller)).await?;
    let (subscriptions, took): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let heard = join_all(subscriptions.into_iter().flatten().map(async |mut subscription| {
        matches!(timeout(SILENCE, subscription.next()).await, Ok(Some(Event::Message(_))))
    }))
    .await;
    let lost = heard.iter().filter(|heard| !**heard).count();
    let mut took: Vec<Duration> = took.into_iter().flatten().collect();
    took.sort_unstable();
    println!(
        "{what}, {callers} at a time: {lost} of {} lost; subscribing takes {:?} (p50), {:?} (p99); a round trip {:?} (p50)",
        heard.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        round_trip
    );
    here.close().await;
    there.close().await;
    Ok(())
}

/// From one node to another and back: the half of a post there and a post back.
async fn round_trip(here: &Broker, there: &Broker) -> Result<Duration, Failure> {
    let (mut back, mut out) = (here.subscribe("back").await?, there.subscribe("out").await?);
    let mut all = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        // A post returns when its own server has it.
        let (posted, arrived) = tokio::join!(here.publish("out", "", Scope::Global), out.next());
        posted?;
        arrived.ok_or("the node has ended")?;
        let (posted, arrived) = tokio::join!(there.publish("back", "", Scope::Global), back.next());
        posted?;
        arrived.ok_or("the node has ended")?;
        all.push(began.elapsed());
    }
    all.sort_unstable();
    Ok(all[all.len() / 2])
}
