//! Measures the broker beside the raw clients and other channels: alternating rounds of one run, ratios first.
//!
//! ```text
//! cargo xtask bench                    # everything, minutes
//! cargo xtask bench --quick redis      # what has `redis` in its name, under a minute
//! ```

mod agreement;
mod allocations;
mod channels;
mod footprint;
mod in_flight;
mod interest;
mod local;
mod pair;
mod readers;
mod recovery;
mod report;
mod rounds;
mod servers;
mod streams;
mod wire;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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
    /// Three rounds of everything in each of four processes, up to twenty minutes. What is done unless something else is asked
    /// for
    #[arg(long)]
    full: bool,
    /// Few and short rounds: a first impression, in minutes; name scenarios for one in seconds
    #[arg(long, conflicts_with_all = ["full", "smoke"])]
    quick: bool,
    /// Every scenario once, tiny: shows that the program works, and says nothing about speed
    #[arg(long, conflicts_with = "full")]
    smoke: bool,
    /// One of the passes of `--full`
    #[arg(long, hide = true, conflicts_with_all = ["full", "quick", "smoke"])]
    pass: bool,
    /// Say at the end whether the ratios lie within the spread of an earlier run, which `--json` wrote into this file
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
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
    let mut words = env::args().skip(1);
    let first = words.next();
    if first.as_deref() == Some(streams::idle::MEASURE) {
        return runtime.block_on(streams::idle::measure(words));
    }
    if first.as_deref() == Some(interest::LISTEN) {
        let (Some(url), Some(subscribed)) = (words.next(), words.next()) else {
            return Err("for the benchmark alone".into());
        };
        return runtime.block_on(interest::listen(&url, subscribed.parse()?));
    }
    if first.is_some_and(|first| first == pair::PAIR) {
        return runtime.block_on(pair::process(&words.collect::<Vec<_>>()));
    }
    let args = Args::parse();
    let scale = if args.smoke {
        Scale::SMOKE
    } else if args.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    let earlier = args.against.as_deref().map(read).transpose()?;
    let report = if args.pass || scale.passes == 1 {
        pass(&runtime, scale, &args.scenarios)?
    } else {
        let passes = (0..scale.passes).map(|_| elsewhere(&args.scenarios)).collect::<Outcome<Vec<_>>>()?;
        Report::of_passes(&passes)
    };
    if report.rows.is_empty() {
        return Err(format!("no scenario has {:?} in its name", args.scenarios).into());
    }
    println!("\n{}", report.table());
    if let Some(earlier) = &earlier {
        println!("{}", agreement::text(earlier, &report));
    }
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

/// What an earlier run has written. Before a run begins: it takes minutes.
fn read(path: &Path) -> Outcome<Report> {
    let explained =
        |error: &dyn Error| format!("{}: {error}; give a file that `--json` wrote", path.display());
    let text = fs::read_to_string(path).map_err(|error| explained(&error))?;
    Ok(serde_json::from_str(&text).map_err(|error| explained(&error))?)
}

/// Everything once.
fn pass(runtime: &Runtime, scale: Scale, scenarios: &[String]) -> Outcome<Report> {
    let mut report = Report::new(scenarios.to_vec());
    footprint::run(scale, &mut report)?;
    allocations::run(scale, &mut report)?;
    let outcome = runtime.block_on(async {
        local::run(scale, &mut report).await?;
        channels::run(scale, &mut report).await?;
        readers::run(scale, &mut report).await?;
        wire::run(scale, &mut report).await?;
        in_flight::run(scale, &mut report).await?;
        interest::run(scale, &mut report).await?;
        pair::run(scale, &mut report).await?;
        recovery::run(scale, &mut report).await?;
        streams::run(scale, &mut report).await
    });
    runtime.block_on(async { servers::end() });
    integration_tests::servers::end();
    outcome.map(|()| report)
}

/// Everything once, in a process of its own.
fn elsewhere(scenarios: &[String]) -> Outcome<Report> {
    let rows = tempfile::NamedTempFile::new()?;
    let mut process = Command::new(env::current_exe()?);
    let done = process.args(["--pass", "--json"]).arg(rows.path()).args(scenarios).status()?;
    if !done.success() {
        return Err("one of the passes has failed; see above".into());
    }
    Ok(serde_json::from_reader(rows.reopen()?)?)
}
