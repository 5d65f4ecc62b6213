//! `cargo xtask bench --instructions`: counts the instructions of the hot paths, and compares them with
//! `bench/instructions.toml`.
//!
//! Callgrind counts what a program executes, whatever the machine is and whatever else it does, so that a slower machine
//! changes no verdict. Another compiler does, a little.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use serde::{Deserialize, Serialize};

use crate::run::{cargo, root, run as run_command, succeeds};

/// The option of `cargo xtask bench`.
pub(crate) const OPTION: &str = "--instructions";
/// What callgrind runs on here, and what was counted elsewhere is not compared with.
const TARGET: &str = "x86_64-linux";
const PACKAGE: &str = "instructions";
const HEAD: &str = "\
# Instructions for each message of the hot paths, counted by callgrind: post, delivery and reading. In user space, on one
# thread, x86_64 Linux. See bench/instructions for what each does.
#
#     cargo xtask bench --instructions          # compares; fails beyond the tolerance, in either direction
#     BLESS=1 cargo xtask bench --instructions  # writes what it counts
";

/// The file.
#[derive(Debug, Deserialize, Serialize)]
struct Counts {
    /// The compiler that they were counted with.
    rust: String,
    /// By how many percent a count may differ.
    tolerance: f64,
    instructions: BTreeMap<String, f64>,
}

/// Counts, and compares or writes.
pub(crate) fn run() -> Result<(), String> {
    let target = format!("{}-{}", env::consts::ARCH, env::consts::OS);
    if target != TARGET {
        return Err(format!("{OPTION} counts on {TARGET} only, and this is {target}"));
    }
    if !succeeds("valgrind", &["--version"]) {
        return Err(format!("{OPTION} needs valgrind; as root: apt-get install -y valgrind"));
    }
    // Incremental builds, which are compiled in smaller parts, execute other instructions.
    run_command(cargo(&["build", "--release", "--package", PACKAGE]).env("CARGO_INCREMENTAL", "0"))?;
    let program = target_directory().join("release").join(PACKAGE);
    let names = output(&mut Command::new(&program))?;
    let mut now = BTreeMap::new();
    for name in names.lines() {
        eprintln!("… {name}");
        now.insert(name.to_owned(), counted(&program, name)?);
    }
    let path = root().join("bench/instructions.toml");
    let before = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let before: Counts = toml::from_str(&before).map_err(|error| format!("{}: {error}", path.display()))?;
    let rust = output(Command::new("rustc").arg("--version"))?;
    let rust = rust.split(' ').nth(1).unwrap_or_default().to_owned();
    let (table, beyond) = compare(&before, &now);
    print!("{table}");
    if env::var_os("BLESS").is_some() {
        let counts = Counts { rust, tolerance: before.tolerance, instructions: now };
        let text = toml::to_string(&counts).map_err(|error| error.to_string())?;
        return fs::write(&path, format!("{HEAD}\n{text}")).map_err(|error| error.to_string());
    }
    if rust != before.rust {
        println!(
            "counted with Rust {rust}, and before with {}: a difference may be the compiler's",
            before.rust
        );
    }
    if beyond.is_empty() {
        return Ok(());
    }
    Err(format!(
        "beyond {} %: {}\nif that is meant: BLESS=1 cargo xtask bench {OPTION}",
        before.tolerance,
        beyond.join("; ")
    ))
}

/// A line for each count, and the names of those that differ by more than is tolerated, are new, or are gone.
fn compare(before: &Counts, now: &BTreeMap<String, f64>) -> (String, Vec<String>) {
    let mut names: Vec<&String> = before.instructions.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let (mut table, mut beyond) = (String::new(), Vec::new());
    for name in names {
        let line = match (before.instructions.get(name), now.get(name)) {
            (Some(before_it), Some(now)) => {
                let change = (now / before_it - 1.0) * 100.0;
                if change.abs() > before.tolerance {
                    beyond.push(name.clone());
                }
                format!("{now:>9.1}  before {before_it:>9.1}  {change:+.1} %")
            }
            (None, Some(now)) => {
                beyond.push(format!("{name} (new)"));
                format!("{now:>9.1}")
            }
            (_, None) => {
                beyond.push(format!("{name} (gone)"));
                "gone".to_owned()
            }
        };
        table.push_str(&format!("{name:<40} {line}\n"));
    }
    (table, beyond)
}

/// Instructions for each message of a scenario, to a tenth.
fn counted(program: &PathBuf, name: &str) -> Result<f64, String> {
    let file = target_directory().join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--quiet",
        "--collect-atstart=no",
        "--toggle-collect=instructions::counted*",
    ]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display())).arg(program).arg(name);
    let messages = output(&mut valgrind)?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<f64>().ok());
    match (total, messages.trim().parse::<f64>()) {
        (Some(total), Ok(messages)) if total > 0.0 => Ok((total / messages * 10.0).round() / 10.0),
        _ => Err(format!("{name}: callgrind has counted nothing: {}", file.display())),
    }
}

fn target_directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// What a program prints, if it succeeds.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| format!("{program}: {why}");
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Counts, compare};

    #[test]
    fn what_differs_by_too_much_in_either_direction_or_is_new_or_gone_is_named() {
        let counts = |counts: &[(&str, f64)]| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let before = counts(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("d", 100.0)]);
        let before = Counts { rust: "1.95.0".to_owned(), tolerance: 3.0, instructions: before };
        let now = counts(&[("a", 102.9), ("b", 103.1), ("c", 96.9), ("e", 7.0)]);
        let (table, beyond) = compare(&before, &now);
        assert_eq!(beyond, ["b", "c", "d (gone)", "e (new)"]);
        assert_eq!(table.lines().count(), 5, "{table}");
        assert!(table.contains("103.1  before     100.0  +3.1 %"), "{table}");
    }
}
