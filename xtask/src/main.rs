//! The project's own commands: `cargo xtask test`, `cargo xtask soak`, `cargo xtask lint`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod breakages;
mod fuzz;
mod instructions;
mod lint;
mod model;
mod mutants;
mod node;
mod packages;
mod peers;
mod release;
mod report;
mod run;
mod servers;
mod soak;
mod test;
#[cfg(test)]
mod versions;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own commands.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests: the conformance suite on every backend, then all other tests.
    ///
    /// Every step runs, whatever fails before it. A table at the end says what passed, failed and was skipped.
    ///
    /// Missing server programs are installed with apt-get when this runs as root. Otherwise a Docker engine
    /// serves, if one answers.
    Test(test::Options),
    /// Post and receive for minutes on several nodes while faults happen, and check that nothing is lost in silence.
    Soak(run::Passed),
    /// Measure the broker beside raw clients and other channels. Builds for release; minutes.
    ///
    /// With `--instructions`: count the instructions of the hot paths with valgrind, and compare them with
    /// `bench/instructions.toml`; `BLESS=1` writes it. With `--peers`: install
    /// Socket.IO's Redis adapter and `channels_redis`, and measure two processes beside two of theirs.
    Bench(run::Passed),
    /// Run all cases on every faulty driver, and print which of them notice. Takes many minutes.
    MutantsOfTheSuite(mutants::Options),
    /// Break one thing in the library at a time, and require that a test notices. Takes many minutes.
    Breakages(breakages::Options),
    /// Fuzz everything that reads untrusted bytes. Needs a nightly toolchain; installs cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Run the hub and sessions in thousands of orders of its steps, drawn by a model checker.
    Model,
    /// Check the formatting, the lints with all features and with each alone, the documentation, and the packages.
    ///
    /// Installs cargo-hack.
    Lint,
    /// Check what must hold before a release. A check whose tool is missing is skipped, and named at the end.
    ReleaseCheck(release::Options),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::MutantsOfTheSuite(options) => mutants::run(&options),
        Command::Breakages(options) => breakages::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Model => model::run(),
        Command::Lint => lint::run(),
        Command::ReleaseCheck(options) => release::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
