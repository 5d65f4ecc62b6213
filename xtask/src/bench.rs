//! `cargo xtask bench`: the benchmark program, with the servers it needs. Its options are those of the program `bench`.

use clap::Args;

use crate::{
    run::{cargo, run as run_command},
    servers::{SERVERS, provide},
};

/// What the benchmark is asked for.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--quick --smoke --json FILE --markdown FILE --svg FILE`, parts of names; `--help` says more.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    if !options.arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        provide(&SERVERS.iter().collect::<Vec<_>>(), false)?;
    }
    let mut command = cargo(&["run", "--release", "--package", "bench", "--"]);
    run_command(command.args(&options.arguments))
}
