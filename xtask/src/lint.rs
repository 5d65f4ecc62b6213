//! `cargo xtask lint`: what must be clean before a change lands.

use crate::{
    packages::Published,
    run::{cargo, cargo_of_custom_backend, run as run_command, succeeds},
};

pub(crate) fn run() -> Result<(), String> {
    let published = Published::read()?;
    run_command(&mut cargo(&["fmt", "--all", "--check"]))?;
    run_command(cargo(&["clippy", "--workspace", "--all-targets", "--all-features"]).args(DENY))?;
    run_command(&mut cargo_of_custom_backend(&["fmt", "--check"]))?;
    run_command(cargo_of_custom_backend(&["clippy", "--all-targets"]).args(DENY))?;
    let skipped = each_feature(&published)?;
    run_command(
        cargo(&["doc", "--workspace", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-Dwarnings"),
    )?;
    // Whether a registry would take them. `release-check` also builds what is packaged.
    let mut package = cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
    run_command(package.args(published.selection()))?;
    if let Some(skipped) = skipped {
        println!("\nSKIPPED: {skipped}");
    }
    Ok(())
}

const DENY: [&str; 3] = ["--", "-D", "warnings"];

/// Each feature of the published crates alone, for a build of everything hides what one of them lacks. Returns what was
/// skipped, and why.
fn each_feature(published: &Published) -> Result<Option<String>, String> {
    if !succeeds("cargo", &["hack", "--version"])
        && let Err(error) = run_command(&mut cargo(&["install", "--locked", "cargo-hack"]))
    {
        return Ok(Some(format!(
            "each feature alone: there is no cargo-hack, and it was not installed: {error}"
        )));
    }
    // What has all features was built before.
    let mut hack = cargo(&["hack", "clippy", "--each-feature", "--exclude-all-features"]);
    hack.args(["--exclude-features", "default,full"]);
    run_command(hack.args(published.selection()).args(DENY))?;
    Ok(None)
}
