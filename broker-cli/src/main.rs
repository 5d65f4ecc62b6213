//! The program `broker`.

use std::process::ExitCode;

use broker_cli::{Cli, Console, run};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse(), Console::standard()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("broker: {error}");
            ExitCode::FAILURE
        }
    }
}
