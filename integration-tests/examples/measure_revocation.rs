//! Measures what revocation leaves behind: a node's memory while a million of them go through it. How long one takes is
//! a scenario of `cargo xtask bench`.
//!
//! ```text
//! cargo run --release -p integration-tests --example measure_revocation
//! ```

use std::{
    error::Error,
    fs,
    time::{Duration, Instant},
};

use broker::{Options, Revocation};
use clap::Parser;
use futures_util::future::join_all;

/// A node's memory while a million revocations of as many users go through it.
#[derive(Parser)]
struct Args {
    /// How many
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// For how long they are kept, in seconds
    #[arg(long, default_value_t = 5)]
    retention: u64,
}

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let Args { count, retention } = Args::parse();
    memory(count, Duration::from_secs(retention)).await
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
