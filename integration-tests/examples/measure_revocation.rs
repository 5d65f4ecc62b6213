//! Measures revocation: how long until a session on another node is closed, and what a million of them leave behind.
//!
//! ```text
//! cargo run --release -p integration-tests --example measure_revocation -- latency
//! cargo run --release -p integration-tests --example measure_revocation -- memory
//! ```

use std::{
    error::Error,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use broker::{Broker, Event, Identity, Options, Revocation, Scope};
use clap::{Parser, Subcommand};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use integration_tests::harness::{Entry, HARNESSES, Harness};
use tokio::task::JoinHandle;

/// Measures what revocation costs.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From the call on one node to the closed session on another, with nothing else going on and beside a flood
    Latency {
        /// The backends: memory, redis, nats, rabbitmq; all that can be started, if none is named
        backends: Vec<String>,
        /// How many revocations for each figure
        #[arg(long, default_value_t = 2000)]
        count: u64,
        /// How many posters flood the session's node, each as fast as its posts are taken
        #[arg(long, default_value_t = 64)]
        posters: usize,
    },
    /// A node's memory while a million revocations of as many users go through it
    Memory {
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
        /// For how long they are kept, in seconds
        #[arg(long, default_value_t = 5)]
        retention: u64,
    },
}

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    match Args::parse().what {
        What::Latency { backends, count, posters } => {
            println!(
                "{:<10} {:<8} {:>8} {:>8} {:>8} {:>8} {:>8}  beside",
                "µs", "", "p50", "p90", "p99", "p99.9", "max"
            );
            let wanted =
                |entry: &&Entry| backends.is_empty() || backends.iter().any(|name| name == entry.name());
            for entry in HARNESSES.iter().filter(wanted) {
                if let Err(reason) = (entry.available)().await {
                    println!("{:<10} left out: {reason}", entry.name());
                    continue;
                }
                let cluster = (entry.start)(&[]).await?;
                latency(entry.name(), &*cluster, count, posters).await?;
                drop(cluster);
                (entry.end)();
            }
            Ok(())
        }
        What::Memory { count, retention } => memory(count, Duration::from_secs(retention)).await,
    }
}

/// A node on the server itself, with no proxy between.
async fn node(cluster: &dyn Harness) -> Outcome<Broker> {
    Ok(broker::connect_with(&cluster.url(), Options::default()).await?)
}

async fn latency(name: &str, cluster: &dyn Harness, count: u64, posters: usize) -> Outcome {
    let (revoker, holder, flooder) = (node(cluster).await?, node(cluster).await?, node(cluster).await?);
    let idle = revocations(&revoker, &holder, "idle", count).await?;
    report(name, "idle", &idle, "");
    let flood = Flood::start(&flooder, &holder, posters).await?;
    let (before, began) = (flood.heard.load(Relaxed), Instant::now());
    let flooded = revocations(&revoker, &holder, "flooded", count).await?;
    let rate = (flood.heard.load(Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    flood.stop();
    report(name, "flooded", &flooded, &format!("{rate:.0} messages/s of 64 bytes to the same node"));
    for broker in [revoker, holder, flooder] {
        broker.close().await;
    }
    Ok(())
}

/// From the call on one node to the session's end on the other, in microseconds.
async fn revocations(revoker: &Broker, holder: &Broker, what: &str, count: u64) -> Outcome<Histogram<u64>> {
    let mut took = Histogram::new(3)?;
    for number in 0..count {
        let user = format!("{what} {number}");
        let session = holder.session_for(Identity::new(&user, Instant::now())).await?;
        let ended = tokio::spawn(async move {
            session.closed().await;
            Instant::now()
        });
        let called = Instant::now();
        revoker.revoke(Revocation::user(&user)).await?;
        took.record((ended.await? - called).as_micros() as u64)?;
    }
    Ok(took)
}

fn report(name: &str, what: &str, took: &Histogram<u64>, beside: &str) {
    let at = |quantile| took.value_at_quantile(quantile);
    let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
    println!("{name:<10} {what:<8} {p50:>8} {p90:>8} {p99:>8} {p999:>8} {:>8}  {beside}", took.max());
}

/// Posters on one node, and a reader on another that takes everything.
struct Flood {
    heard: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Flood {
    async fn start(from: &Broker, to: &Broker, posters: usize) -> Outcome<Self> {
        let heard = Arc::new(AtomicU64::new(0));
        let mut channel = to.subscribe("flood").await?;
        let counting = Arc::clone(&heard);
        let mut tasks = vec![tokio::spawn(async move {
            while let Some(event) = channel.next().await {
                let missed = if let Event::Gap(gap) = event { gap.missed.unwrap_or(0) } else { 1 };
                counting.fetch_add(missed, Relaxed);
            }
        })];
        for _ in 0..posters {
            let from = from.clone();
            tasks.push(tokio::spawn(async move {
                while from.publish("flood", vec![b'x'; 64], Scope::Global).await.is_ok() {}
            }));
        }
        while heard.load(Relaxed) < 1000 {
            tokio::task::yield_now().await;
        }
        Ok(Self { heard, tasks })
    }

    fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn memory(count: u64, retention: Duration) -> Outcome {
    let mut options = Options::default();
    options.revocation_retention = retention;
    let broker = broker::connect_with("memory:", options).await?;
    let step = (count / 20).max(1);
    let began = Instant::now();
    println!("{:>10} {:>8} {:>10}   kept for {retention:?}", "revoked", "s", "RSS, MB");
    for start in (0..count).step_by(step as usize) {
        for chunk in (start..count.min(start + step)).collect::<Vec<_>>().chunks(64) {
            let revoked =
                chunk.iter().map(|number| broker.revoke(Revocation::user(format!("user {number}"))));
            join_all(revoked).await.into_iter().collect::<broker::Result<Vec<_>>>()?;
        }
        let done = count.min(start + step);
        println!("{done:>10} {:>8.1} {:>10.1}", began.elapsed().as_secs_f64(), resident()?);
    }
    Ok(())
}

/// The memory of this process, in MB.
fn resident() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}
