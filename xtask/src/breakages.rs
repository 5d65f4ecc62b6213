//! `cargo xtask breakages`: breaks one thing in the library at a time, and requires that a test notices.
//!
//! The drivers of FAULTS.md show that the suite notices a backend that is wrong. What only core can do wrong is broken
//! here: each entry of `breakages.toml` puts a text into the place of another, in a copy of the sources, and names the
//! tests that must fail then. It takes a build for each, so it is not part of `cargo xtask test`.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Deserialize;

use crate::run::{cargo, root};

/// How long one of them may take, with its build.
const LIMIT: Duration = Duration::from_secs(900);

/// Which to try.
#[derive(Args)]
pub(crate) struct Options {
    /// Only those whose name contains this.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Breakages {
    breakage: Vec<Breakage>,
}

/// One thing that is broken.
#[derive(Deserialize)]
struct Breakage {
    /// What the broken library does: `a broker without a supervisor stays connected`.
    name: String,
    file: PathBuf,
    /// Stands there exactly once.
    find: String,
    replace: String,
    /// The arguments of `cargo test` that select tests which fail then.
    test: Vec<String>,
    /// More compiler flags: `--cfg shuttle`.
    #[serde(default)]
    flags: String,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let all = read()?;
    let wanted = |breakage: &&Breakage| options.name.as_ref().is_none_or(|name| breakage.name.contains(name));
    let chosen: Vec<&Breakage> = all.iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err("no breakage has such a name".to_owned());
    }
    let copy = root().join("target/breakages/sources");
    copy_sources(&copy)?;
    let mut unnoticed = Vec::new();
    for (number, breakage) in chosen.iter().enumerate() {
        let begun = Instant::now();
        let outcome = breakage.try_in(&copy);
        let said = match &outcome {
            Ok(()) => "noticed".to_owned(),
            Err(why) => format!("NOT NOTICED: {why}"),
        };
        let (at, of, name) = (number + 1, chosen.len(), &breakage.name);
        println!("[{at}/{of}] {name}: {said} ({:.0?})", begun.elapsed());
        unnoticed.extend(outcome.err().map(|_| name.as_str()));
    }
    if unnoticed.is_empty() { Ok(()) } else { Err(format!("not noticed: {}", unnoticed.join("; "))) }
}

fn read() -> Result<Vec<Breakage>, String> {
    let path = root().join("xtask/breakages.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let read: Breakages = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(read.breakage)
}

impl Breakage {
    /// The text of the file with the breakage in it.
    fn broken(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            count => Err(format!("{} has its text {count} times", self.file.display())),
        }
    }

    /// Breaks the copy, runs the tests, and mends it again. Ok when they failed.
    fn try_in(&self, copy: &Path) -> Result<(), String> {
        let path = copy.join(&self.file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        write(&path, &self.broken(&text)?)?;
        let output = within_limit(self.command(copy));
        write(&path, &text)?;
        let output =
            output.map_err(|error| format!("cargo: {error}"))?.ok_or("a test hangs; give it a limit")?;
        let said = String::from_utf8_lossy(&output.stdout);
        // A test that aborts its process gives no result.
        let built = said.lines().any(|line| line.starts_with("running "));
        match (output.status.success(), built) {
            (false, true) => Ok(()),
            (true, _) => Err("every test passed".to_owned()),
            (false, false) => {
                let why = String::from_utf8_lossy(&output.stderr);
                let why = why.lines().find(|line| line.starts_with("error")).unwrap_or("no test ran");
                Err(format!("it does not build: {why}"))
            }
        }
    }

    fn command(&self, copy: &Path) -> Command {
        let target = if self.flags.is_empty() { "plain" } else { "flags" };
        let mut command = cargo(&["test", "--quiet"]);
        command.args(&self.test).current_dir(copy).stdin(Stdio::null());
        command.env("CARGO_TARGET_DIR", root().join("target/breakages").join(target));
        if !self.flags.is_empty() {
            command.env("RUSTFLAGS", &self.flags);
        }
        command
    }
}

/// What a command printed, or `None` when it took longer than [`LIMIT`]; then it has ended with all that it started.
fn within_limit(mut command: Command) -> io::Result<Option<Output>> {
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let group = format!("-{}", child.id());
    let (done, finished) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    if let Ok(output) = finished.recv_timeout(LIMIT) {
        return output.map(Some);
    }
    Command::new("kill").args(["-KILL", "--", &group]).status()?;
    Ok(None)
}

/// Every file that git knows, where it is not the same already: cargo builds what is newer.
fn copy_sources(to: &Path) -> Result<(), String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = listed.map_err(|error| format!("git: {error}"))?;
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|name| !name.is_empty()) {
        let Ok(bytes) = fs::read(root().join(name)) else { continue };
        let path = to.join(name);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{read, root};

    /// An entry whose text has gone says so here, and not in the run that takes long.
    #[test]
    fn every_breakage_matches_its_text_once() {
        for breakage in read().unwrap() {
            let text = std::fs::read_to_string(root().join(&breakage.file)).unwrap();
            let broken = breakage.broken(&text).unwrap_or_else(|why| panic!("{}: {why}", breakage.name));
            assert_ne!(broken, text, "{}", breakage.name);
            assert!(!breakage.test.is_empty(), "{}", breakage.name);
        }
    }
}
