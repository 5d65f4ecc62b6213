//! `cargo xtask release-check`: what must hold before a release. What a missing tool keeps from running is named.

use std::{fmt, process::Command};

use clap::{Args, ValueEnum};

use crate::{
    lint::DENY,
    packages::Published,
    run::{cargo, root, run as run_command, succeeds},
};

/// Which checks to run.
#[derive(Args)]
pub(crate) struct Options {
    /// The checks; every one without it.
    #[arg(value_name = "CHECK")]
    only: Vec<Check>,
    /// What is skipped because a tool is missing counts as failed.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Package every published crate in the order of their dependencies, and build each from its package.
    Package,
    /// Build with the oldest toolchain that the manifests promise.
    Msrv,
    /// Build with the oldest versions of the dependencies that the manifests allow.
    MinimalVersions,
    /// Compare the public API with that of the last release.
    Semver,
    /// Licences and sources of the dependencies.
    Deny,
    /// Known vulnerabilities of the dependencies.
    Advisories,
    /// Spelling.
    Typos,
    /// Lint the published crates with no feature, with each alone, and with every pair: a build of everything hides what
    /// one of them lacks.
    Features,
    /// Build the documentation as docs.rs does, with the badges of features.
    Docs,
}

/// What a check came to.
enum Outcome {
    Passed,
    Failed(String),
    /// Did not run: why.
    Skipped(String),
    /// Does not apply: why.
    NotApplicable(String),
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let published = Published::read()?;
    let chosen: Vec<Check> = match &options.only[..] {
        [] => Check::value_variants().to_vec(),
        only => only.to_vec(),
    };
    let outcomes: Vec<(Check, Outcome)> =
        chosen.into_iter().map(|check| (check, check.run(&published))).collect();
    println!();
    for (check, outcome) in &outcomes {
        println!("{:18}{outcome}", name(*check));
    }
    let bad = |outcome: &Outcome| match outcome {
        Outcome::Failed(_) => true,
        Outcome::Skipped(_) => options.strict,
        Outcome::Passed | Outcome::NotApplicable(_) => false,
    };
    let bad: Vec<String> =
        outcomes.iter().filter(|(_, outcome)| bad(outcome)).map(|(check, _)| name(*check)).collect();
    if bad.is_empty() { Ok(()) } else { Err(format!("not ready for a release: {}", bad.join(", "))) }
}

fn name(check: Check) -> String {
    check.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Check {
    fn run(self, published: &Published) -> Outcome {
        if let Some((_, _, install)) = self.tools(published).into_iter().find(|(program, args, _)| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            !succeeds(program, &args)
        }) {
            return Outcome::Skipped(format!("needs `{install}`"));
        }
        if self == Self::Semver && last_release().is_none() {
            return Outcome::NotApplicable("there is no tag v* of a release to compare with".to_owned());
        }
        match run_command(&mut self.command(published)) {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// What it needs: a command that succeeds where it is installed, and the one that installs it.
    fn tools(self, published: &Published) -> Vec<(&'static str, Vec<String>, String)> {
        let subcommand = |name: &str| {
            (
                "cargo",
                vec![name.to_owned(), "--version".to_owned()],
                format!("cargo install --locked cargo-{name}"),
            )
        };
        let toolchain = |version: &str| {
            let args = ["run", version, "cargo", "--version"].map(str::to_owned).to_vec();
            ("rustup", args, format!("rustup toolchain install {version} --profile minimal"))
        };
        match self {
            Self::Package => Vec::new(),
            Self::Msrv => vec![toolchain(&published.rust_version)],
            Self::MinimalVersions => {
                vec![toolchain("nightly"), subcommand("hack"), subcommand("minimal-versions")]
            }
            Self::Semver => vec![subcommand("semver-checks")],
            Self::Deny | Self::Advisories => vec![subcommand("deny")],
            Self::Typos => {
                vec![("typos", vec!["--version".to_owned()], "cargo install --locked typos-cli".to_owned())]
            }
            Self::Features => vec![subcommand("hack")],
            Self::Docs => vec![toolchain("nightly")],
        }
    }

    fn command(self, published: &Published) -> Command {
        let with_selection = |args: &[&str]| {
            let mut command = cargo(args);
            command.args(published.selection());
            command
        };
        match self {
            // A tree that is not committed is refused: its package would be of no commit.
            Self::Package => with_selection(&["package"]),
            Self::Msrv => {
                let mut command = with(&published.rust_version, &["check", "--all-features"], "target/msrv");
                command.args(published.selection());
                command
            }
            // Of direct dependencies: what those require of theirs is their promise.
            Self::MinimalVersions => {
                let mut command =
                    with_selection(&["minimal-versions", "check", "--direct", "--all-features"]);
                command.args(["--target-dir", "target/minimal-versions"]);
                command
            }
            Self::Semver => {
                let mut command = with_selection(&["semver-checks"]);
                command.args(["--baseline-rev", &last_release().unwrap_or_default()]);
                command
            }
            Self::Deny => cargo(&["deny", "check", "bans", "licenses", "sources"]),
            Self::Advisories => cargo(&["deny", "check", "advisories"]),
            Self::Typos => {
                let mut command = Command::new("typos");
                command.current_dir(root());
                command
            }
            Self::Features => {
                let mut command = with_selection(&["hack", "clippy", "--feature-powerset", "--depth", "2"]);
                command.args(["--exclude-features", "default,full"]).args(DENY);
                command
            }
            Self::Docs => {
                let mut command = with("nightly", &["doc", "--no-deps", "--all-features"], "target/docsrs");
                command.args(published.selection()).env("RUSTDOCFLAGS", "-Dwarnings --cfg docsrs");
                command
            }
        }
    }
}

/// Cargo of another toolchain. Its artifacts are of no use to ours, so they stay apart.
fn with(toolchain: &str, args: &[&str], target: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo"]).args(args).args(["--target-dir", target]).current_dir(root());
    // Chosen by rustup for this program; they would be chosen for that one too.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    command
}

/// The tag of the last release.
fn last_release() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--tags", "--abbrev=0", "--match", "v*"]).current_dir(root());
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "passed"),
            Self::Failed(reason) => write!(f, "FAILED: {reason}"),
            Self::Skipped(reason) => write!(f, "SKIPPED: {reason}"),
            Self::NotApplicable(reason) => write!(f, "not applicable: {reason}"),
        }
    }
}
