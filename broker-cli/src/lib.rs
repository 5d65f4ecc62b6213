//! The command `broker`: what its subcommands are, and where they read and write.
//!
//! A library with a thin program around it, so that tests run two commands in one process, as the backend `memory:`
//! needs.

mod call;
mod conformance;
mod console;
mod doctor;
mod failure;
mod hidden;
mod load;
mod migrate;
mod pages;
mod publish;
mod revoke;
mod show;
mod sub;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use console::Console;
pub use failure::status;

/// Whatever can go wrong ends a command with a sentence.
pub type Outcome<T = ExitCode> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Work with a message broker from a terminal: subscribe, publish, revoke, call methods, and check a backend.
///
/// A URL names the backend: redis://localhost, nats://localhost, amqp://localhost, or memory: for this process only.
/// Options of the broker are set in its query, as in redis://localhost/?prefix=shop. In scripts, take the URL from a
/// variable to keep its password out of the shell's history.
#[derive(Debug, Parser)]
#[command(name = "broker", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sub(sub::Sub),
    Pub(publish::Pub),
    Revoke(revoke::Revoke),
    Call(call::Call),
    Doctor(doctor::Doctor),
    Conformance(conformance::Conformance),
    Bench(load::Bench),
    Migrate(migrate::Migrate),
    Completions(pages::Completions),
    Man(pages::Man),
}

/// Runs one command.
///
/// # Errors
/// Why the command failed; [`status`] is what to exit with. `doctor` reports its findings by the exit status and fails only if it cannot check at all.
pub async fn run(cli: Cli, mut console: Console) -> Outcome {
    let outcome = match cli.command {
        Command::Sub(sub) => sub.run(&mut console).await,
        Command::Pub(publish) => publish.run(&mut console).await,
        Command::Revoke(revoke) => revoke.run(&mut console).await,
        Command::Call(call) => call.run(&mut console).await,
        Command::Doctor(doctor) => doctor.run(&mut console).await,
        Command::Conformance(conformance) => conformance.run(&mut console).await,
        Command::Bench(bench) => bench.run(&mut console).await,
        Command::Migrate(migrate) => migrate.run(&mut console).await,
        Command::Completions(completions) => completions.run(&mut console).await,
        Command::Man(man) => man.run(&mut console).await,
    };
    match outcome {
        // `broker sub … | head` has seen enough.
        Err(error) if console::is_closed_pipe(&*error) => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}
