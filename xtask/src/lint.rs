//! `cargo xtask lint`: what must be clean before a change lands.

use crate::{
    packages::Published,
    run::{cargo, cargo_of_custom_backend, run as run_command},
};

pub(crate) fn run() -> Result<(), String> {
    let published = Published::read()?;
    run_command(&mut cargo(&["fmt", "--all", "--check"]))?;
    run_command(cargo(&["clippy", "--workspace", "--all-targets", "--all-features"]).args(DENY))?;
    run_command(&mut cargo_of_custom_backend(&["fmt", "--check"]))?;
    run_command(cargo_of_custom_backend(&["clippy", "--all-targets"]).args(DENY))?;
    run_command(
        cargo(&["doc", "--workspace", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-Dwarnings"),
    )?;
    // Whether a registry would take them. `release-check` also builds what is packaged.
    let mut package = cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
    run_command(package.args(published.selection()))?;
    Ok(())
}

/// For clippy: every warning is an error.
pub(crate) const DENY: [&str; 3] = ["--", "-D", "warnings"];
