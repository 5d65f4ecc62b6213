//! The program `broker`.

use std::process::ExitCode;

use broker_cli::{Cli, Console, run, status};
use clap::Parser;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("broker: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli, Console::standard()));
    // A read of standard input may be under way, which nothing ends but a key.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| {
        eprintln!("broker: {error}");
        status(&*error)
    })
}
