//! `cargo xtask test`: unit and documentation tests, then the conformance suite, with the servers it needs.

use std::{fs, path::Path, process::Command, time::Instant};

use clap::{Args, value_parser};

use crate::{
    model,
    run::{cargo, root, run as run_command, run_by_line},
    servers::{BROWSER, SERVERS, Server, Source, WITHOUT_SERVER, provide},
};

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Run the conformance suite on this backend only (memory, redis, nats, rabbitmq, …), and nothing else.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Run the conformance cases whose name contains this, and nothing else. With --backend, whose sentence
    /// begins with it.
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Run the conformance suite this many times, and stop at the first round that fails.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    repeat: u32,
    /// Take the servers from containers. Runs the backends that have an image, and the tests of the
    /// containers themselves.
    #[arg(long)]
    docker: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let wanted = wanted_servers(options)?;
    let source = provide(&wanted, options.docker)?;
    let suite = Suite { source, wanted };
    if options.backend.is_none() && options.case.is_none() {
        if options.docker {
            suite.container_tests()?;
        } else {
            provide(&[&BROWSER], false)?;
            suite.unit_tests()?;
        }
    }
    for filter in filters(options) {
        suite.conformance(filter.as_deref(), options.repeat)?;
    }
    Ok(())
}

/// The servers that the chosen cases need.
fn wanted_servers(options: &Options) -> Result<Vec<&'static Server>, String> {
    if let Some(name) = &options.backend {
        let known: Vec<&str> =
            WITHOUT_SERVER.iter().copied().chain(SERVERS.iter().map(|s| s.backend)).collect();
        if !known.contains(&name.as_str()) {
            return Err(format!("no backend is called `{name}`: must be one of {}", known.join(", ")));
        }
    }
    let chosen = |server: &&Server| options.backend.as_deref().is_none_or(|name| name == server.backend);
    let wanted: Vec<&Server> =
        SERVERS.iter().filter(chosen).filter(|s| s.has_image || !options.docker).collect();
    if options.docker && wanted.is_empty() {
        let name = options.backend.as_deref().unwrap_or_default();
        return Err(format!("no container image for the backend `{name}`"));
    }
    Ok(wanted)
}

/// What the conformance binary is asked for, one run each. Its cases are called `<backend>::<sentence>`.
fn filters(options: &Options) -> Vec<Option<String>> {
    let of = |backend: &str| Some(format!("{backend}::{}", options.case.as_deref().unwrap_or_default()));
    match &options.backend {
        Some(backend) => vec![of(backend)],
        None if options.docker => SERVERS.iter().filter(|s| s.has_image).map(|s| of(s.backend)).collect(),
        None => vec![options.case.clone()],
    }
}

struct Suite {
    source: Source,
    wanted: Vec<&'static Server>,
}

impl Suite {
    /// `cargo test`, always with the same packages and features, so that every step shares one build.
    fn cargo_test(&self) -> Command {
        let mut command = cargo(&["test", "--workspace", "--features"]);
        if self.source == Source::Docker {
            command.arg("broker/full,integration-tests/docker").env("BROKER_TEST_SERVERS", "docker");
        } else {
            command.arg("broker/full");
        }
        let backends: Vec<&str> = self.wanted.iter().map(|server| server.backend).collect();
        if !backends.is_empty() {
            // They are there: cases that cannot find them have failed.
            command.env("BROKER_REQUIRE", backends.join(","));
        }
        command
    }

    /// Everything but the conformance suite.
    fn unit_tests(&self) -> Result<(), String> {
        let mut command = self.cargo_test();
        // As with the servers: it is there, so a test that cannot find it has failed.
        let required = self.wanted.iter().map(|server| server.backend).chain([BROWSER.backend]);
        command.env("BROKER_REQUIRE", required.collect::<Vec<_>>().join(","));
        command.args(["--lib", "--bins", "--examples"]);
        for name in test_targets()?.iter().filter(|name| *name != "conformance") {
            command.args(["--test", name]);
        }
        run_command(&mut command)?;
        run_command(self.cargo_test().arg("--doc"))?;
        model::run()
    }

    /// The tests of the containers themselves.
    fn container_tests(&self) -> Result<(), String> {
        run_command(self.cargo_test().args(["--lib", "--", "docker::"]))
    }

    fn conformance(&self, filter: Option<&str>, repeat: u32) -> Result<(), String> {
        let started = Instant::now();
        if repeat > 1 {
            run_command(self.cargo_test().args(["--test", "conformance", "--no-run"]))?;
        }
        for round in 1..=repeat {
            let mut command = self.cargo_test();
            command.args(["--test", "conformance"]);
            command.args(filter.map(|filter| ["--", filter]).into_iter().flatten());
            let outcome = one_round(&mut command, repeat > 1);
            if repeat == 1 {
                outcome?;
                continue;
            }
            match outcome {
                Ok(result) => println!("round {round} of {repeat}: {result}"),
                Err(reason) => return Err(format!("round {round} of {repeat}: {reason}")),
            }
        }
        if repeat > 1 {
            println!("all {repeat} rounds passed in {:.1} s", started.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

/// Runs the suite once and returns its summary. A quiet round prints its output only when it fails.
fn one_round(command: &mut Command, quiet: bool) -> Result<String, String> {
    let mut held = Vec::new();
    let mut result = None;
    let outcome = run_by_line(command, |line| {
        if let Some(counts) = line.strip_prefix("test result: ") {
            result = Some(counts.to_owned());
        }
        if quiet { held.push(line.to_owned()) } else { println!("{line}") }
    });
    if outcome.is_err() {
        held.iter().for_each(|line| println!("{line}"));
    }
    outcome?;
    let result = result.ok_or("the conformance suite gave no result")?;
    // A filter that matches nothing is a mistake, not a success.
    if result.contains(" 0 passed; 0 failed; 0 ignored") {
        return Err("no case matches".to_owned());
    }
    Ok(result)
}

/// The names of all integration tests: `<member>/tests/<name>.rs` or `<member>/tests/<name>/main.rs`.
fn test_targets() -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for member in entries(root())?.into_iter().chain(entries(&root().join("examples"))?) {
        let tests = member.join("tests");
        if !(member.join("Cargo.toml").is_file() && tests.is_dir()) {
            continue;
        }
        for test in entries(&tests)? {
            if test.extension().is_some_and(|extension| extension == "rs") || test.join("main.rs").is_file() {
                names.extend(test.file_stem().map(|name| name.to_string_lossy().into_owned()));
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let read = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(read.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::{Options, filters, test_targets, wanted_servers};

    fn options(backend: Option<&str>, case: Option<&str>, docker: bool) -> Options {
        Options { backend: backend.map(str::to_owned), case: case.map(str::to_owned), repeat: 1, docker }
    }

    #[test]
    fn a_filter_names_backend_and_case() {
        let filter = |backend, case, docker| filters(&options(backend, case, docker));
        assert_eq!(filter(None, None, false), [None]);
        assert_eq!(filter(None, Some("gap"), false), [Some("gap".to_owned())]);
        assert_eq!(filter(Some("redis"), None, false), [Some("redis::".to_owned())]);
        assert_eq!(filter(Some("redis"), Some("gap"), false), [Some("redis::gap".to_owned())]);
        let in_containers = filter(None, Some("gap"), true);
        assert!(in_containers.contains(&Some("redis::gap".to_owned())), "{in_containers:?}");
        assert!(!in_containers.contains(&Some("memory::gap".to_owned())), "{in_containers:?}");
    }

    #[test]
    fn only_the_servers_of_the_chosen_cases_are_wanted() {
        let wanted =
            |backend, docker| wanted_servers(&options(backend, None, docker)).map(|servers| servers.len());
        assert_eq!(wanted(Some("memory"), false), Ok(0));
        assert_eq!(wanted(Some("redis"), false), Ok(1));
        assert!(wanted(None, false).unwrap() >= 1);
        wanted(Some("memory"), true).unwrap_err();
        for name in ["", "redis,nats", "Redis"] {
            let error = wanted(Some(name), false).unwrap_err();
            assert!(error.contains(&format!("`{name}`")) && error.contains("memory, redis"), "{error}");
        }
    }

    #[test]
    fn the_conformance_suite_is_among_the_test_targets() {
        assert!(test_targets().unwrap().contains(&"conformance".to_owned()));
    }
}
