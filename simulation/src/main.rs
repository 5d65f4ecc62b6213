//! Prints the tables of docs/scaling.md.
//!
//! ```text
//! cargo run --release -p simulation              # everything, minutes
//! cargo run --release -p simulation -- restart   # one table
//! ```

use std::time::Duration;

use broker_core::{Options, Result};
use clap::{Parser, ValueEnum};
use simulation::{
    Costs,
    cluster::Shape,
    memory::memory,
    scenarios::{Storm, churn, steady, storm},
    table::{Table, bytes, number},
};
use tokio::runtime::Builder;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Digests against the number of nodes
    Nodes,
    /// Digests against the number of channels that are posted to
    Channels,
    /// All links lost at once
    Restart,
    /// A third of the links lost at once
    Failover,
    /// A server that subscribes slowly
    Slow,
    /// Nodes and subscriptions that come and go
    Churn,
    /// What a node keeps
    Memory,
}

/// Runs brokers against a simulated server, in virtual time, and counts.
#[derive(Parser)]
struct Args {
    /// Only these tables
    parts: Vec<Part>,
    /// The sizes of the clusters
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    nodes: Vec<usize>,
    /// How many channels each node listens to
    #[arg(long, default_value_t = 1000)]
    channels: usize,
    /// How many nodes listen to one channel
    #[arg(long, default_value_t = 10)]
    listeners: usize,
    /// On how many of its channels each node posts, once in five seconds on each
    #[arg(long, default_value_t = 20)]
    active: usize,
    /// The first wait after a lost link
    #[arg(long, default_value_t = 50)]
    backoff_min_ms: u64,
    /// The longest wait between two attempts
    #[arg(long, default_value_t = 3000)]
    backoff_max_ms: u64,
    /// What the run follows
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    fn shape(&self, nodes: usize) -> Shape {
        let options = Options::default().with(|options| {
            options.backoff_min = Duration::from_millis(self.backoff_min_ms);
            options.backoff_max = Duration::from_millis(self.backoff_max_ms);
        });
        let Self { channels, listeners, active, seed, .. } = *self;
        Shape { nodes, channels, listeners, active, seed, options }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!("seed {}", args.seed);
    if args.wants(Part::Nodes) {
        let shapes: Vec<_> = args.nodes.iter().map(|nodes| args.shape(*nodes)).collect();
        digests("Digests against nodes", &shapes)?;
    }
    if args.wants(Part::Channels) {
        let shapes: Vec<_> = [10, 20, 100, 1000].map(|active| Shape { active, ..args.shape(100) }).into();
        digests("Digests against channels that are posted to", &shapes)?;
    }
    let all = |nodes: usize| nodes;
    if args.wants(Part::Restart) {
        let downs = [0, 300, 10_000].map(Duration::from_millis);
        storms("All links lost", &args, Costs::default(), &downs, all)?;
    }
    if args.wants(Part::Failover) {
        let third = |nodes: usize| nodes.div_ceil(3);
        storms("A third of the links lost", &args, Costs::default(), &[Duration::ZERO], third)?;
    }
    if args.wants(Part::Slow) {
        for per_second in [350_000, 50_000, 700] {
            let costs = Costs { name: Duration::from_secs(1) / per_second, ..Costs::default() };
            let title = format!("All links lost, {per_second} names a second");
            storms(&title, &args, costs, &[Duration::ZERO], all)?;
        }
    }
    if args.wants(Part::Churn) {
        changes(&args)?;
    }
    if args.wants(Part::Memory) {
        keeps()?;
    }
    Ok(())
}

/// Runs on one thread, in virtual time.
fn run<R>(work: impl Future<Output = Result<R>>) -> Result<R> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.map_err(|error| {
        broker_core::Error::new(broker_core::ErrorKind::Other, format!("no runtime: {error}"))
    })?;
    runtime.block_on(work)
}

fn digests(title: &str, shapes: &[Shape]) -> Result<()> {
    let mut table = Table::new(
        title,
        &[
            "nodes",
            "channels, in all",
            "posted to, by a node",
            "user posts/s",
            "digests/s",
            "a node's, every",
            "received by a node",
            "most in 100 ms",
            "sent by the server",
            "user messages beside",
            "server busy",
            "other gaps",
        ],
    );
    for shape in shapes {
        let nodes = shape.nodes as f64;
        let pace = Duration::from_millis(10) * shape.nodes as u32;
        let pace = pace.max(Duration::from_secs(5));
        let steady = run(steady(shape.clone(), pace * 3, pace * 2))?;
        let each = |count: u64| count as f64 / steady.seconds;
        table.row(&[
            shape.nodes.to_string(),
            shape.all_channels().to_string(),
            shape.active.to_string(),
            number(each(steady.user.posts)),
            number(each(steady.digests.posts)),
            format!("{:.1} s", nodes * steady.seconds / steady.digests.posts.max(1) as f64),
            format!("{}/s", bytes(each(steady.digests.delivered_bytes) / nodes)),
            bytes(steady.burst as f64),
            format!("{}/s", bytes(each(steady.digests.delivered_bytes))),
            format!("{}/s", bytes(each(steady.user.delivered_bytes))),
            format!("{:.0} %", steady.busy * 100.0),
            steady.needless.to_string(),
        ]);
    }
    Ok(())
}

fn storms(
    title: &str,
    args: &Args,
    costs: Costs,
    downs: &[Duration],
    lost: fn(usize) -> usize,
) -> Result<()> {
    let mut table = Table::new(
        title,
        &[
            "nodes",
            "lost",
            "server down",
            "connects",
            "most in 100 ms",
            "nine tenths within",
            "names",
            "most in 100 ms",
            "digests to a node, 100 ms",
            "all subscribed, all gaps reported",
            "other gaps",
        ],
    );
    for nodes in &args.nodes {
        for down in downs {
            let shape = args.shape(*nodes);
            let Storm { told, counts, needless } = run(storm(shape, costs, lost(*nodes), *down))?;
            let most = |steps: &[u64]| steps.iter().copied().max().unwrap_or(0) as f64;
            table.row(&[
                nodes.to_string(),
                lost(*nodes).to_string(),
                format!("{down:?}"),
                number(counts.connects.iter().sum::<u64>() as f64),
                number(most(&counts.connects)),
                format!("{:.1} s", nine_tenths(&counts.connects)),
                number(counts.names.iter().sum::<u64>() as f64),
                number(most(&counts.names)),
                bytes(most(&counts.digest_bytes)),
                told.map_or_else(|| "not in 300 s".to_owned(), |time| format!("{:.2} s", time.as_secs_f64())),
                needless.to_string(),
            ]);
        }
    }
    Ok(())
}

/// In which time, beginning with the first, nine tenths of them were.
fn nine_tenths(steps: &[u64]) -> f64 {
    let first = steps.iter().position(|count| *count > 0).unwrap_or(0);
    let wanted = steps.iter().sum::<u64>() * 9 / 10;
    let mut sum = 0;
    let last = steps.iter().position(|count| {
        sum += count;
        sum >= wanted
    });
    (last.unwrap_or(first) + 1 - first) as f64 / 10.0
}

fn changes(args: &Args) -> Result<()> {
    let mut table = Table::new(
        "Nodes and subscriptions come and go",
        &[
            "nodes",
            "come and go/s",
            "channels changed/s",
            "names/s",
            "subscribe calls/s",
            "digests/s",
            "received by a node",
            "most in 100 ms",
            "server busy",
            "other gaps",
        ],
    );
    for nodes in &args.nodes {
        let (moving, channels) = (nodes.div_ceil(100), 10);
        let (steady, counts) = run(churn(args.shape(*nodes), 20, moving, channels))?;
        let each = |count: u64| count as f64 / steady.seconds;
        table.row(&[
            nodes.to_string(),
            moving.to_string(),
            number((nodes * channels) as f64),
            number(each(counts.names.iter().sum())),
            number(each(counts.subscribe_calls)),
            number(each(steady.digests.posts)),
            format!("{}/s", bytes(each(steady.digests.delivered_bytes) / *nodes as f64)),
            bytes(steady.burst as f64),
            format!("{:.0} %", steady.busy * 100.0),
            steady.needless.to_string(),
        ]);
    }
    Ok(())
}

fn keeps() -> Result<()> {
    let mut table = Table::new(
        "What a node keeps",
        &[
            "channels",
            "others that post on each",
            "a node",
            "a channel",
            "and each other that posts on it",
            "each other's digests",
            "a channel it posts on",
        ],
    );
    for (channels, peers) in [(1000, 10), (1000, 100), (100, 1000)] {
        let memory = memory(channels, peers)?;
        table.row(&[
            channels.to_string(),
            peers.to_string(),
            bytes(memory.node),
            bytes(memory.channel),
            bytes(memory.peer_on_channel),
            bytes(memory.peer),
            bytes(memory.posted),
        ]);
    }
    Ok(())
}
