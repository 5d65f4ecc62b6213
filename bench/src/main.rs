//! Measures the broker beside the raw clients and other channels: alternating rounds of one run, ratios first.
//!
//! ```text
//! cargo xtask bench                    # everything, minutes
//! cargo xtask bench --quick redis      # what has `redis` in its name, under a minute
//! ```

mod allocations;
mod channels;
mod footprint;
mod interest;
mod local;
mod recovery;
mod report;
mod rounds;
mod servers;
mod wire;

use std::{error::Error, fs, path::PathBuf};

use clap::Parser;
use report::Report;
use rounds::Scale;
use tokio::runtime::{Builder, Runtime};

/// Whatever can go wrong here ends the program with a sentence.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures the broker beside raw clients and other channels, in alternating rounds of one run.
///
/// Servers are started when their programs are installed; `cargo xtask bench` installs them.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// Only scenarios whose name contains one of these, as in `redis` or `fan-out`
    scenarios: Vec<String>,
    /// Twelve rounds of everything, in two passes: a quarter of an hour. What is done unless something else is asked for
    #[arg(long)]
    full: bool,
    /// Few and short rounds: a first impression, in minutes; name scenarios for one in seconds
    #[arg(long, conflicts_with_all = ["full", "smoke"])]
    quick: bool,
    /// Every scenario once, tiny: shows that the program works, and says nothing about speed
    #[arg(long, conflicts_with = "full")]
    smoke: bool,
    /// Write the rows as JSON into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table as Markdown into this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Draw the ratios into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> Outcome {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut words = std::env::args().skip(1);
    if words.next().is_some_and(|first| first == interest::LISTEN) {
        let (Some(url), Some(hears)) = (words.next(), words.next()) else {
            return Err("for the benchmark alone".into());
        };
        return runtime.block_on(interest::listen(&url, hears.parse()?));
    }
    let args = Args::parse();
    let scale = if args.smoke {
        Scale::SMOKE
    } else if args.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    let mut report = Report::new(args.scenarios.clone());
    let outcome = (0..scale.passes).try_for_each(|_| pass(&runtime, scale, &mut report));
    runtime.block_on(async { servers::end() });
    integration_tests::server::end();
    outcome?;
    if report.rows.is_empty() {
        return Err(format!("no scenario has {:?} in its name", args.scenarios).into());
    }
    println!("\n{}", report.table());
    for (path, text) in [
        (&args.json, serde_json::to_string_pretty(&report)?),
        (&args.markdown, report.markdown()),
        (&args.svg, report.chart()),
    ] {
        if let Some(path) = path {
            fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Everything once.
fn pass(runtime: &Runtime, scale: Scale, report: &mut Report) -> Outcome {
    footprint::run(scale, report)?;
    allocations::run(scale, report)?;
    runtime.block_on(async {
        local::run(scale, report).await?;
        channels::run(scale, report).await?;
        wire::run(scale, report).await?;
        interest::run(scale, report).await?;
        recovery::run(scale, report).await
    })
}
