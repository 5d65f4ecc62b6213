//! `cargo xtask mutants-of-the-suite`: all cases on every faulty driver, and which of them notice.

use clap::Args;

use crate::run::{cargo, run as run_command};

/// Which faulty drivers.
#[derive(Args)]
pub(crate) struct Options {
    /// Only those whose name contains this (`HealsInSilence`, `Loses`, …).
    #[arg(value_name = "FAULT")]
    fault: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut command =
        cargo(&["test", "--workspace", "--features", crate::test::FEATURES, "--test", "faulty"]);
    command.args(["--", "--ignored", "--nocapture", "all_cases_on_every_faulty_driver"]);
    // Cases fail on purpose here, most of them by a panic.
    command.env("FAULT", options.fault.as_deref().unwrap_or_default()).env("RUST_BACKTRACE", "0");
    run_command(&mut command)
}
