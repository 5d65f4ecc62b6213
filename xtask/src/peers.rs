//! `cargo xtask bench --peers`: installs the programs of others that `bench/peers` runs, below `target/peers`. Whatever cannot be
//! installed is said, and the benchmark leaves it out by name.

use std::{fs, process::Command};

use crate::run::{root, run};

/// The option of `cargo xtask bench`.
pub(crate) const OPTION: &str = "--peers";
/// What is measured with it.
pub(crate) const SCENARIO: &str = "two processes";

pub(crate) fn provide() {
    for (what, installed) in [("npm", modules()), ("pip", packages())] {
        if let Err(reason) = installed {
            println!("SKIPPED: what {what} installs: {reason}");
        }
    }
}

fn modules() -> Result<(), String> {
    let directory = root().join("target/peers/node");
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(&directory).map_err(failed)?;
    fs::copy(root().join("bench/peers/package.json"), directory.join("package.json")).map_err(failed)?;
    let mut npm = Command::new("npm");
    run(npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&directory))
}

fn packages() -> Result<(), String> {
    let directory = root().join("target/peers/python");
    let python = directory.join("bin/python");
    if !python.is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    // Without its packages it would look as if it were there.
    run(pip.arg(root().join("bench/peers/requirements.txt")))
        .inspect_err(|_| drop(fs::remove_dir_all(&directory)))
}
