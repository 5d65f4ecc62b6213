//! Measures what short-lived channels leave behind: for minutes each is subscribed, posted to by another node, received, and
//! left, 100,000 a minute; the memory of both sides must stay flat.
//!
//! ```text
//! cargo run --release -p integration-tests --example measure_channels -- --backend redis --minutes 10
//! ```

use std::{
    error::Error,
    io::Read,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use broker::{Broker, Event, Options, Scope};
use broker_conformance::{case::Need, harness::Harness};
use clap::{Parser, Subcommand};
use futures_util::future::try_join_all;
use integration_tests::harness::ENTRIES;
use tokio::{process::Command, time::timeout};

/// Measures what short-lived channels leave behind.
#[derive(Parser)]
struct Args {
    /// memory, redis, nats or rabbitmq
    #[arg(long, default_value = "redis")]
    backend: String,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How many channels a minute
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// The posting side, a process of its own: it posts on each channel that it is told of
    #[command(hide = true)]
    Poster { url: String },
}

/// How many channels live at once.
const BATCH: u64 = 200;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let args = Args::parse();
    match &args.role {
        Some(Role::Poster { url }) => {
            // It ends with the other side.
            std::thread::spawn(|| {
                let _ = std::io::stdin().read(&mut [0]);
                std::process::exit(0);
            });
            post(broker::connect(url).await?).await
        }
        None => {
            let entry = ENTRIES.iter().find(|entry| entry.name() == args.backend);
            let entry = entry.ok_or_else(|| format!("no backend is called `{}`", args.backend))?;
            let harness: Arc<dyn Harness> = (entry.start)(&[Need::OwnServer]).await?.into();
            let outcome = measure(&args, &*harness).await;
            drop(harness);
            (entry.end)();
            integration_tests::servers::end();
            outcome
        }
    }
}

/// Posts one message on each channel named in a message on `wanted`.
async fn post(node: Broker) -> Outcome {
    let mut wanted = node.subscribe("wanted").await?;
    while let Some(event) = wanted.next().await {
        let Event::Message(message) = event else { continue };
        let names = String::from_utf8(message.payload()?.to_vec())?;
        try_join_all(names.lines().map(|name| node.publish(name, "hello", Scope::Global))).await?;
    }
    Ok(())
}

async fn measure(args: &Args, harness: &dyn Harness) -> Outcome {
    let mut options = Options::default();
    options.unsubscribe_delay = Duration::from_millis(100);
    let node = broker::connect_with(&harness.url(), options).await?;
    let in_process = args.backend == "memory";
    let mut child = None;
    if in_process {
        tokio::spawn(post(broker::connect(&harness.url()).await?));
    } else {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["poster", &harness.url()]).stdin(Stdio::piped()).kill_on_drop(true);
        child = Some(command.spawn()?);
    }
    let poster = child.as_ref().and_then(tokio::process::Child::id);
    // It listens once a first message comes back.
    let mut ready = node.subscribe("ready").await?;
    while timeout(Duration::from_millis(200), ready.next()).await.is_err() {
        node.publish("wanted", "ready", Scope::Global).await?;
    }
    let (started, done) = (Instant::now(), AtomicU64::new(0));
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let mut next_line = Duration::ZERO;
    println!("   s    channels  gaps  subscriber kB  poster kB");
    let mut gaps = 0;
    while started.elapsed() < length {
        gaps += round(&node, done.fetch_add(BATCH, Relaxed)).await?;
        if started.elapsed() >= next_line {
            next_line += length / 20;
            let (here, there) = (resident(None)?, resident(poster)?);
            let seconds = started.elapsed().as_secs();
            println!("{seconds:4} {:11} {gaps:5} {here:14} {there:10}", done.load(Relaxed));
        }
        let due = Duration::from_secs_f64(done.load(Relaxed) as f64 * 60.0 / args.rate as f64);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
    }
    println!("{} channels in {:.0} s", done.load(Relaxed), started.elapsed().as_secs_f64());
    node.close().await;
    Ok(())
}

/// A batch of channels that nobody has used before: subscribed, posted to, received, left. How many gaps were delivered.
async fn round(node: &Broker, from: u64) -> Outcome<u64> {
    let names: Vec<String> = (from..from + BATCH).map(|number| format!("room.{number}")).collect();
    let mut rooms = try_join_all(names.iter().map(|name| node.subscribe(name))).await?;
    node.publish("wanted", names.join("\n"), Scope::Global).await?;
    let mut gaps = 0;
    for room in &mut rooms {
        loop {
            match timeout(LIMIT, room.next()).await? {
                Some(Event::Message(_)) => break,
                Some(Event::Gap(_)) => gaps += 1,
                other => return Err(format!("{other:?}").into()),
            }
        }
    }
    Ok(gaps)
}

/// The memory that a process has, in kB: this one, or another.
fn resident(pid: Option<u32>) -> Outcome<u64> {
    let who = pid.map_or("self".to_owned(), |pid| pid.to_string());
    let status = std::fs::read_to_string(format!("/proc/{who}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
