//! `cargo xtask bench`: the benchmark program, with the servers it needs. Its options are those of the program `bench`, and
//! `--instructions`, which counts instead of measuring, and `--peers`, which installs other programs and measures beside them.

use crate::{
    instructions, peers,
    run::{Passed, cargo, run as run_command},
    servers::{SERVERS, provide},
};

pub(crate) fn run(options: &Passed) -> Result<(), String> {
    if options.arguments.iter().any(|argument| argument == instructions::OPTION) {
        return instructions::run();
    }
    if !options.ask_for_help() {
        provide(&SERVERS.iter().collect::<Vec<_>>(), false)?;
    }
    let mut command = cargo(&["run", "--release", "--package", "bench", "--"]);
    let (asked, arguments): (Vec<&String>, _) =
        options.arguments.iter().partition(|argument| *argument == peers::OPTION);
    if !asked.is_empty() {
        peers::provide();
        command.arg(peers::SCENARIO);
    }
    run_command(command.args::<Vec<_>, _>(arguments))
}
