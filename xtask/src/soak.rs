//! `cargo xtask soak`: minutes of messages under faults, and an oracle. Its options are those of the program `soak`.

use crate::{
    run::{Passed, cargo, run as run_command},
    servers::{SERVERS, provide},
};

pub(crate) fn run(options: &Passed) -> Result<(), String> {
    let choices = ["--backend", "--cluster"];
    let chosen = options.arguments.iter().skip_while(|argument| !choices.contains(&argument.as_str())).nth(1);
    let wanted: Vec<_> = SERVERS
        .iter()
        .filter(|server| chosen.is_none_or(|name| name == "all" || server.is_called(name)))
        .collect();
    if !options.ask_for_help() {
        provide(&wanted, false)?;
    }
    let mut command = cargo(&["run", "--release", "--package", "integration-tests", "--bin", "soak", "--"]);
    run_command(command.args(&options.arguments))
}
