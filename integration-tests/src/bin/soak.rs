//! The soak as a program: `cargo xtask soak`. With `node` as its first argument it is one node of a soak.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use broker_conformance::{Entry, case::Need, required};
use clap::{Parser, Subcommand, builder::PossibleValuesParser, value_parser};
use integration_tests::{
    harness::{ENTRIES, clusters::CLUSTERS},
    servers,
    soak::{self, Plan, node},
};

/// Posts and receives for minutes on several nodes while faults happen, and checks that nothing is lost in silence.
#[derive(Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Args {
    /// The backend; `all` for every one, side by side.
    #[arg(long, default_value = "all", value_parser = backends())]
    backend: String,
    /// A backend's own cluster of several members instead; `all` for every one, side by side.
    #[arg(long, conflicts_with = "backend", value_parser = clusters())]
    cluster: Option<String>,
    /// How long faults go on, in minutes.
    #[arg(long, default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// Decides which faults happen. A random one, if none is given; it is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=20))]
    nodes: u32,
    /// How many channels; every node posts and listens on each.
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u32).range(1..=1000))]
    channels: u32,
    /// How many messages a second each node posts at most.
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// When it fails, do not run it again and again, each time half as long, for the shortest run that still fails.
    #[arg(long)]
    no_shrink: bool,
    #[command(subcommand)]
    node: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// One node of a soak: orders on standard input, what it received on standard output.
    #[command(hide = true)]
    Node { url: String, id: u32, channels: u32, rate: u32 },
}

fn backends() -> PossibleValuesParser {
    PossibleValuesParser::new(["all"].into_iter().chain(ENTRIES.iter().map(Entry::name)))
}

fn clusters() -> PossibleValuesParser {
    PossibleValuesParser::new(["all"].into_iter().chain(CLUSTERS.iter().map(Entry::name)))
}

impl Args {
    /// Among what to choose, and the choice.
    fn choice(&self) -> (&'static [Entry], &str) {
        self.cluster.as_deref().map_or((ENTRIES, &self.backend), |name| (CLUSTERS, name))
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.05..=24.0 * 60.0).contains(&minutes) => Ok(minutes),
        _ => Err("a number from 0.05 to 1440".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Role::Node { url, id, channels, rate }) = args.node {
        let task = node::Task { url, id, channels, rate };
        return exit(node::run_as_process(task).await.map(|()| true));
    }
    let outcome = run(&args).await;
    ENTRIES.iter().chain(CLUSTERS).for_each(|entry| (entry.end)());
    servers::end();
    exit(outcome)
}

fn exit(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("soak: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<bool, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let plan = Plan {
        length: Duration::from_secs_f64(args.minutes * 60.0),
        seed: args.seed.unwrap_or(now),
        nodes: args.nodes as usize,
        channels: args.channels,
        rate: args.rate,
    };
    let mut runs = tokio::task::JoinSet::new();
    let (entries, chosen) = args.choice();
    for entry in entries.iter().filter(|entry| chosen == "all" || chosen == entry.name()) {
        let own = (entry.lacks)(Need::OwnServer).map_or(Ok(()), |reason| Err(reason.to_owned()));
        let server = match own {
            Ok(()) => (entry.available)().await,
            lacking => lacking,
        };
        if let Err(reason) = server {
            let reason = format!("{}: no server: {reason}", entry.name());
            if chosen != "all" || required(entry.name()) {
                return Err(reason);
            }
            println!("{reason}");
            continue;
        }
        runs.spawn(on(entry, plan.clone(), !args.no_shrink));
    }
    let mut good = true;
    while let Some(ended) = runs.join_next().await {
        good &= ended.map_err(|error| error.to_string())?;
    }
    Ok(good)
}

/// One backend, and if it fails the same with less, until it does not fail any more.
async fn on(entry: &'static Entry, mut plan: Plan, shrink: bool) -> bool {
    let good = once(entry, &plan).await;
    if good {
        return true;
    }
    while shrink && plan.length > Duration::from_secs(6) {
        let shorter = Plan { length: plan.length / 2, ..plan.clone() };
        if once(entry, &shorter).await {
            break;
        }
        plan = shorter;
    }
    let Plan { length, seed, nodes, channels, rate } = plan;
    let option =
        if CLUSTERS.iter().any(|cluster| cluster.name() == entry.name()) { "cluster" } else { "backend" };
    println!(
        "{}: the shortest that failed: cargo xtask soak --{option} {} --minutes {:.2} --seed {seed} --nodes {nodes} \
         --channels {channels} --rate {rate}",
        entry.name(),
        entry.name(),
        length.as_secs_f64() / 60.0
    );
    false
}

async fn once(entry: &'static Entry, plan: &Plan) -> bool {
    let seed = plan.seed;
    match soak::run(*entry, plan.clone(), |line| println!("{:14} {line}", entry.name())).await {
        Ok(report) => {
            println!("{report}");
            report.is_good()
        }
        Err(reason) => {
            println!("{}: seed {seed}: {reason}\n", entry.name());
            false
        }
    }
}
