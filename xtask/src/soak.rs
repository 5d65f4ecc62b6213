//! `cargo xtask soak`: minutes of messages under faults, and an oracle. Its options are those of the program `soak`.

use clap::Args;

use crate::{
    run::{cargo, run as run_command},
    servers::{SERVERS, provide},
};

/// What the soak is asked for.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--backend NAME --minutes N --seed N --nodes N --channels N --rate N --no-shrink`; `--help` says more.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let backend = options.arguments.iter().skip_while(|argument| *argument != "--backend").nth(1);
    let wanted: Vec<_> = SERVERS
        .iter()
        .filter(|server| backend.is_none_or(|name| name == "all" || name == server.backend))
        .collect();
    if !options.arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        provide(&wanted, false)?;
    }
    let mut command = cargo(&["run", "--release", "--package", "integration-tests", "--bin", "soak", "--"]);
    run_command(command.args(&options.arguments))
}
