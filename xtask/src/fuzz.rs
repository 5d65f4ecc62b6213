//! `cargo xtask fuzz`: everything that reads untrusted bytes, against bytes made to break it.

use std::fs;

use clap::{Args, value_parser};

use crate::run::{cargo, root, run as run_command, succeeds};

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Minutes for each target.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// The target (frame, digest, revocation, channel_name, postgres_pieces, stream_frame, stream_socket, url); every one, one after the other, without it.
    #[arg(value_name = "TARGET")]
    target: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let targets = targets()?;
    let chosen: Vec<&String> =
        targets.iter().filter(|name| options.target.as_ref().is_none_or(|target| target == *name)).collect();
    if chosen.is_empty() {
        return Err(format!("no such target: must be one of {}", targets.join(", ")));
    }
    let nightly = succeeds("cargo", &["+nightly", "--version"]);
    if !nightly {
        println!(
            "there is no nightly toolchain (rustup toolchain install nightly): the stable compiler is told to allow what \
             only nightly allows, by RUSTC_BOOTSTRAP=1"
        );
    }
    if !succeeds("cargo", &["fuzz", "--version"]) {
        run_command(&mut cargo(&["install", "--locked", "cargo-fuzz"]))?;
    }
    for name in chosen {
        // What it determines goes into a folder that is not kept; the seeds stay few.
        let found = root().join("fuzz/target/corpus").join(name);
        fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        let limit = format!("-max_total_time={}", options.minutes * 60);
        let mut command = std::process::Command::new("cargo");
        command.current_dir(root());
        if nightly {
            command.arg("+nightly");
        } else {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command.args(["fuzz", "run", name]).arg(&found);
        command.arg(format!("fuzz/corpus/{name}"));
        command.args(["--", &limit, "-max_len=4096", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        // Chosen by rustup for this program; it would be chosen for that one too.
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        run_command(&mut command)?;
    }
    Ok(())
}

/// Every target has a file.
fn targets() -> Result<Vec<String>, String> {
    let dir = root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let names =
        files.flatten().filter_map(|file| Some(file.path().file_stem()?.to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}
