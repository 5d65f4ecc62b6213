//! `cargo xtask model`: the hub and sessions in thousands of orders of its steps, drawn by a model checker.

use std::process::Command;

use crate::run::{cargo, run as run_command};

pub(crate) fn run() -> Result<(), String> {
    run_command(&mut command())
}

/// Builds and runs it, apart from everything else: its locks and atomics are the model checker's.
pub(crate) fn command() -> Command {
    let mut command = cargo(&["test", "--package", "broker-core", "--lib", "--target-dir", "target/model"]);
    command.args(["::shuttle_tests::"]).env("RUSTFLAGS", "--cfg shuttle");
    command
}
