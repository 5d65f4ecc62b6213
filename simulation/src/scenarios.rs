//! Scenarios: what is done to a cluster, and the figures of it.

use std::time::Duration;

use broker_core::Result;
use tokio::time::sleep;

use crate::{
    Counts, Kind, Traffic,
    cluster::{Cluster, Shape},
};

/// The traffic of a cluster in which nothing happens but posts.
#[derive(Clone, Debug)]
pub struct Steady {
    /// For so many seconds.
    pub seconds: f64,
    /// Posts of users.
    pub user: Traffic,
    /// Digests.
    pub digests: Traffic,
    /// Heartbeats.
    pub heartbeats: Traffic,
    /// The most bytes of digests that a node was sent within 100 ms.
    pub burst: u64,
    /// Which part of the time the server was at work.
    pub busy: f64,
    /// Gaps that were told though nothing was lost.
    pub needless: u64,
}

/// Waits until the digests have found their pace, then counts for a while.
///
/// # Errors
/// What a node failed with.
pub async fn steady(shape: Shape, warm: Duration, counted: Duration) -> Result<Steady> {
    let cluster = Cluster::start(shape).await?;
    sleep(warm).await;
    cluster.server.count_anew();
    sleep(counted).await;
    let counts = cluster.server.counts();
    let needless = cluster.heard().2;
    cluster.end().await;
    Ok(of(&counts, needless))
}

fn of(counts: &Counts, needless: u64) -> Steady {
    let seconds = counts.seconds();
    Steady {
        seconds,
        user: counts.of(Kind::User),
        digests: counts.of(Kind::Digest),
        heartbeats: counts.of(Kind::Node),
        burst: counts.digest_bytes.iter().copied().max().unwrap_or(0),
        busy: counts.busy.as_secs_f64() / seconds,
        needless,
    }
}

/// A loss of links, and how the nodes come back.
#[derive(Clone, Debug)]
pub struct Storm {
    /// After which time every listener was told of its gap, when its channel was subscribed again; `None`: not within
    /// five minutes.
    pub told: Option<Duration>,
    /// What the server has seen meanwhile, and for ten seconds more.
    pub counts: Counts,
    /// Gaps for other reasons: posts that were under way when their node lost its link.
    pub needless: u64,
}

/// Loses some links at once, after a warm-up, while everybody posts.
///
/// # Errors
/// What a node failed with.
pub async fn storm(shape: Shape, costs: crate::Costs, lost: usize, down: Duration) -> Result<Storm> {
    let mut cluster = Cluster::start(shape).await?;
    sleep(Duration::from_secs(12)).await;
    cluster.server.set_costs(costs);
    cluster.server.count_anew();
    let told = cluster.lose(lost, down).await;
    sleep(Duration::from_secs(10)).await;
    let (counts, needless) = (cluster.server.counts(), cluster.heard().2);
    cluster.end().await;
    Ok(Storm { told, counts, needless })
}

/// Nodes and subscriptions come and go, for a while.
///
/// # Errors
/// What a node failed with.
pub async fn churn(shape: Shape, seconds: usize, nodes: usize, channels: usize) -> Result<(Steady, Counts)> {
    let mut cluster = Cluster::start(shape).await?;
    sleep(Duration::from_secs(12)).await;
    cluster.server.count_anew();
    cluster.churn(seconds, nodes, channels).await?;
    let (counts, needless) = (cluster.server.counts(), cluster.heard().2);
    cluster.end().await;
    Ok((of(&counts, needless), counts))
}
