//! Recovery: how long until a lost link is detected, until many channels are subscribed again, and until a revoked session is closed.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use broker::{Broker, Event, Identity, Options, Revocation, Scope};
use broker_conformance::{case::Need, harness::Harness};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::Scale,
    servers::started,
};

const LIMIT: Duration = Duration::from_secs(120);
/// How many posters flood a node, each as fast as its posts are taken.
const FLOODERS: usize = 64;

#[derive(Clone, Copy)]
enum What {
    Closed { flooded: bool },
    Again { channels: usize },
    Detected { stalled: bool },
}

impl What {
    fn name(self, backend: &str) -> String {
        match self {
            Self::Closed { flooded: false } => format!("{backend} revocation to closed session, idle"),
            Self::Closed { flooded: true } => format!("{backend} revocation to closed session, flooded"),
            Self::Again { channels } => format!("{backend} {channels} channels subscribed again"),
            Self::Detected { stalled: false } => format!("{backend} detection of a killed server"),
            Self::Detected { stalled: true } => format!("{backend} detection of a stalled line"),
        }
    }
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for backend in ["memory", "redis", "nats", "rabbitmq", "postgres"] {
        // A binding of RabbitMQ's costs it a hundred times what a subscription costs the others.
        let channels = scale.of(if backend == "rabbitmq" { 10_000 } else { 100_000 }, 100);
        let closed = [false, true].map(|flooded| What::Closed { flooded });
        // What ends the server comes last.
        let detected = [true, false].map(|stalled| What::Detected { stalled });
        let all = closed.into_iter().chain([What::Again { channels }]).chain(detected);
        let wanted: Vec<What> = all.filter(|what| report.wants(&what.name(backend))).collect();
        if wanted.is_empty() {
            continue;
        }
        let Some(server) = started(backend, &[Need::OwnServer]).await? else { continue };
        for what in wanted {
            let name = what.name(backend);
            report.starts(&name);
            let row = match what {
                What::Closed { flooded } => {
                    latency_row(name, &revocations(&*server, scale.of(2000, 1), flooded).await?)
                }
                What::Again { channels } => {
                    let target = (backend == "redis").then_some(Target::OursAtMost(1.0));
                    seconds_row(name, subscribed_again(&*server, channels).await?).target(target)
                }
                What::Detected { stalled } => {
                    let mut options = Options::default();
                    if scale.is_smoke() {
                        // As little as one can wait for.
                        (options.heartbeat, options.heartbeat_timeout) =
                            (Duration::from_millis(100), Duration::from_millis(200));
                    }
                    seconds_row(name, red_health(&*server, options, stalled).await?)
                }
            };
            report.add(row);
        }
    }
    Ok(())
}

fn seconds_row(scenario: String, took: Duration) -> Row {
    let (ours, notes) = (took.as_secs_f64(), String::new());
    Row { scenario, unit: "s".into(), ours, peer: None, target: None, notes }
}

fn latency_row(scenario: String, took: &Histogram<u64>) -> Row {
    let micros = |quantile| took.value_at_quantile(quantile) as f64 / 1000.0;
    let notes = format!("p99 and p99.9: {:.0}, {:.0}", micros(0.99), micros(0.999));
    Row { scenario, unit: "µs, p50".into(), ours: micros(0.5), peer: None, target: None, notes }
}

/// What may hang is given up.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> Outcome<T> {
    timeout(LIMIT, work).await.map_err(|_| format!("{what}: not within {LIMIT:?}").into())
}

/// Waits until the node is connected, or not.
async fn connected(node: &Broker, wanted: bool) -> Outcome {
    let mut changes = node.health_changes();
    within("health", async {
        while let Some(health) = changes.next().await {
            if health.is_connected() == wanted {
                return Ok(());
            }
        }
        Err("the broker is closed".into())
    })
    .await?
}

/// From the moment that the line works again until the node is connected, which it is when all are subscribed.
async fn subscribed_again(server: &dyn Harness, channels: usize) -> Outcome<Duration> {
    let line = server.line().await?;
    let mut options = Options::default();
    options.subscribe_timeout = LIMIT;
    options.connect_timeout = LIMIT;
    // The pauses between attempts are not what is measured.
    (options.backoff_min, options.backoff_max) = (Duration::from_millis(10), Duration::from_millis(10));
    let node = broker::connect_with(&line.url(), options).await?;
    let names: Vec<String> = (0..channels).map(|number| format!("channel.{number}")).collect();
    let open = try_join_all(names.iter().map(|name| node.subscribe(name))).await?;
    line.cut();
    connected(&node, false).await?;
    line.heal();
    let healed = Instant::now();
    connected(&node, true).await?;
    let took = healed.elapsed();
    drop(open);
    node.close().await;
    Ok(took)
}

/// From the end of the server, or of everything that comes through the line, until the node is not connected.
async fn red_health(server: &dyn Harness, options: Options, stalled: bool) -> Outcome<Duration> {
    let line = server.line().await?;
    let node = broker::connect_with(&line.url(), options).await?;
    let began = Instant::now();
    if stalled {
        line.stall();
    } else {
        server.kill_server().await?;
    }
    connected(&node, false).await?;
    let took = began.elapsed();
    node.close().await;
    Ok(took)
}

/// From the call on one node until the session on another is closed, in nanoseconds.
async fn revocations(server: &dyn Harness, count: usize, flooded: bool) -> Outcome<Histogram<u64>> {
    let node = async || broker::connect_with(&server.url(), Options::default()).await;
    let (revoker, holder, flooder) = (node().await?, node().await?, node().await?);
    let _flood = if flooded { Some(flood(&flooder, &holder).await?) } else { None };
    let mut took = Histogram::new(3)?;
    for number in 0..count {
        let user = format!("{number} {flooded}");
        let session = holder.session_for(Identity::new(&user, Instant::now())).await?;
        let ended = tokio::spawn(async move {
            session.closed().await;
            Instant::now()
        });
        let called = Instant::now();
        revoker.revoke(Revocation::user(&user)).await?;
        took.record((within("a revocation", ended).await?? - called).as_nanos() as u64)?;
    }
    for broker in [revoker, holder, flooder] {
        broker.close().await;
    }
    Ok(took)
}

/// Posters on one node, and a reader on another that takes everything. It has begun, and ends when it is dropped.
async fn flood(from: &Broker, to: &Broker) -> Outcome<JoinSet<()>> {
    let received = Arc::new(AtomicU64::new(0));
    let mut channel = to.subscribe("flood").await?;
    let (counting, mut tasks) = (Arc::clone(&received), JoinSet::new());
    tasks.spawn(async move {
        while let Some(event) = channel.next().await {
            let missed = if let Event::Gap(gap) = event { gap.missed.unwrap_or(0) } else { 1 };
            counting.fetch_add(missed, Relaxed);
        }
    });
    for _ in 0..FLOODERS {
        let from = from.clone();
        tasks.spawn(async move {
            while from.publish("flood", vec![b'x'; 64], Scope::Global).await.is_ok() {
                // A post that never has to wait would keep its worker.
                tokio::task::consume_budget().await;
            }
        });
    }
    within("a flood", async {
        while received.load(Relaxed) < 1000 {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    Ok(tasks)
}
