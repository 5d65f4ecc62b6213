//! Example: the programs that users are shown, built as the tests find them.

use std::{env, path::PathBuf, process::Command};

/// Builds an example of the facade with every backend, and returns the path of its program.
///
/// Cargo builds the examples of a tested package only, and not for every command line. With the packages and features
/// of `cargo xtask test` there is nothing left to compile after its first step.
///
/// # Errors
/// It does not build: what cargo said.
pub fn build(name: &str) -> Result<PathBuf, String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--workspace", "--example", name, "--features", "broker-rs/full"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.args((!cfg!(debug_assertions)).then_some("--release"));
    // Cargo told us which package we are; a build that sees it would be another build than without.
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("CARGO_PKG_") || variable == "CARGO_MANIFEST_DIR" {
            cargo.env_remove(variable);
        }
    }
    let output = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().find_map(|line| line.split_once(r#""executable":""#)?.1.split('"').next());
    program
        .map(PathBuf::from)
        .ok_or_else(|| format!("no {name}: {}", String::from_utf8_lossy(&output.stderr)))
}
