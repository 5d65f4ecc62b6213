//! `cargo xtask model`: the hub and sessions in thousands of orders of its steps, drawn by a model checker.

use crate::run::{cargo, run as run_command};

pub(crate) fn run() -> Result<(), String> {
    let mut command = cargo(&["test", "--package", "broker-core", "--lib", "--target-dir", "target/model"]);
    command.args(["::model::"]).env("RUSTFLAGS", "--cfg shuttle");
    run_command(&mut command)
}
