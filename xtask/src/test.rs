//! `cargo xtask test`: the conformance suite, then all other tests, with the servers they need.

use std::{
    env, fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread::available_parallelism,
    time::Instant,
};

use clap::{Args, value_parser};

use crate::{
    model, node,
    report::{Done, Report, Summary, minutes},
    run::{cargo, cargo_of_custom_backend, root, run as run_command, run_by_line},
    servers::{BACKENDS, BROWSER, SERVERS, Server, Source, Version, provide},
};

/// What to test.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Run the conformance suite on this backend only (memory, redis, nats, rabbitmq, …) or on a cluster of it
    /// (redis-sentinel, …), and nothing else.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Run the conformance cases whose name contains this, and nothing else. Their names are
    /// `<backend>::<sentence>`.
    #[arg(long, value_name = "PART")]
    case: Option<String>,
    /// Run the conformance suite this many times, and stop at the first round that fails.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    repeat: u32,
    /// Take the servers from containers. Runs the backends that have an image, and the tests of the
    /// containers themselves.
    #[arg(long)]
    docker: bool,
    /// Run the conformance suite on this version of a server only (redis-8.0, valkey-8.1, …), and nothing else; or on
    /// `all` versions, one after the other. Without it, containers run the first version of each server.
    #[arg(long, value_name = "NAME", requires = "docker")]
    server: Option<String>,
    /// Run the conformance suite on clusters of several members only, and nothing else.
    #[arg(long, conflicts_with_all = ["backend", "docker"])]
    clusters: bool,
    /// Run it on those clusters, too, that take long to start.
    #[arg(long, requires = "clusters")]
    nightly: bool,
    /// Run the tests of the TypeScript client, and nothing else.
    #[arg(long, conflicts_with_all = ["backend", "case", "docker", "clusters"])]
    typescript: bool,
}

impl Options {
    /// Whether only cases of the suite are wanted.
    fn only_the_suite(&self) -> bool {
        self.backend.is_some() || self.case.is_some() || self.server.is_some() || self.clusters
    }

    /// Whether nothing is left out.
    fn everything(&self) -> bool {
        !self.docker && !self.typescript && !self.only_the_suite()
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut wanted = wanted_servers(options)?;
    let versions = wanted_versions(options, &wanted)?;
    if options.server.is_some() {
        wanted.retain(|server| versions.iter().any(|(of, _)| of.backend == server.backend));
    }
    let source = provide(&wanted, options.docker)?;
    if options.everything() {
        provide(&[&*BROWSER], false)?;
    }
    if options.everything() || options.typescript {
        node::provide()?;
    }
    let suite = Suite { source, wanted, versions };
    let steps = suite.steps(options)?;
    let count = steps.len() + 1;
    println!("[1/{count}] compile the tests");
    let started = Instant::now();
    for mut build in suite.builds(options) {
        run_command(&mut build)?;
    }
    let mut all = vec![Done::without_tests("compile", started.elapsed())];
    for (at, mut step) in steps.into_iter().enumerate() {
        println!("\n[{}/{count}] {}", at + 2, step.name);
        let done = if step.of_the_suite { rounds(&mut step, options.repeat) } else { once(&mut step, false) };
        println!("[{}/{count}] {}: {}, {}", at + 2, done.name, done.report.counts(), minutes(done.took));
        all.push(done);
    }
    println!("\n{}", Summary(&all));
    match all.iter().filter(|done| done.error.is_some()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {count} steps failed")),
    }
}

/// The servers that the chosen cases need.
fn wanted_servers(options: &Options) -> Result<Vec<&'static Server>, String> {
    if let Some(name) = &options.backend
        && !BACKENDS.contains(name)
        && !SERVERS.iter().any(|server| server.is_called(name))
    {
        let topologies = SERVERS.iter().flat_map(|server| &server.clusters).map(|topology| &topology.name);
        let known: Vec<&str> = BACKENDS.iter().chain(topologies).map(String::as_str).collect();
        return Err(format!("no backend is called `{name}`: must be one of {}", known.join(", ")));
    }
    if options.typescript {
        return Ok(Vec::new());
    }
    let chosen = |server: &&Server| match &options.backend {
        Some(name) => server.is_called(name),
        None => !options.clusters || !topologies(server, options.nightly).is_empty(),
    };
    let wanted: Vec<&Server> =
        SERVERS.iter().filter(chosen).filter(|s| s.has_image() || !options.docker).collect();
    if options.docker && wanted.is_empty() {
        let name = options.backend.as_deref().unwrap_or_default();
        return Err(format!("no container image for the backend `{name}`"));
    }
    Ok(wanted)
}

/// The versions that the suite shall run on, one after the other; none where the first of each server will do.
fn wanted_versions(options: &Options, wanted: &[&'static Server]) -> Result<Vec<Chosen>, String> {
    let Some(name) = &options.server else { return Ok(Vec::new()) };
    let all = wanted.iter().flat_map(|server| server.versions.iter().map(|version| (*server, version)));
    let chosen: Vec<Chosen> =
        all.clone().filter(|(_, version)| name == "all" || *name == version.name).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.map(|(_, version)| &*version.name).collect();
        return Err(format!("no server is called `{name}`: must be `all` or one of {}", names.join(", ")));
    }
    Ok(chosen)
}

/// The topologies of a server that the suite shall run on.
fn topologies(server: &Server, nightly: bool) -> Vec<&str> {
    let wanted = server.clusters.iter().filter(|topology| nightly || !topology.nightly);
    wanted.map(|topology| &*topology.name).collect()
}

/// The topologies of all servers, for `BROKER_TEST_BACKENDS`.
fn all_topologies(nightly: bool) -> String {
    SERVERS.iter().flat_map(|server| topologies(server, nightly)).collect::<Vec<_>>().join(",")
}

/// The backends that the suite shall run on; all without any.
fn backends(options: &Options) -> Option<String> {
    match &options.backend {
        Some(backend) => Some(backend.clone()),
        None if options.clusters => Some(all_topologies(options.nightly)),
        None if options.docker => {
            let images: Vec<&str> = SERVERS.iter().filter(|s| s.has_image()).map(|s| &*s.backend).collect();
            Some(images.join(","))
        }
        None => None,
    }
}

/// One command of a run, whose tests are counted.
struct Step {
    name: String,
    of_the_suite: bool,
    command: Command,
}

impl Step {
    fn new(name: &str, command: Command) -> Self {
        Self { name: name.to_owned(), of_the_suite: false, command }
    }
}

/// A version to run on, and the server it is of.
type Chosen = (&'static Server, &'static Version);

struct Suite {
    source: Source,
    wanted: Vec<&'static Server>,
    versions: Vec<Chosen>,
}

impl Suite {
    /// Everything that is to run after the build, in order.
    fn steps(&self, options: &Options) -> Result<Vec<Step>, String> {
        if !self.versions.is_empty() {
            return Ok(self.versions.iter().map(|chosen| self.conformance_on(*chosen, options)).collect());
        }
        if options.typescript {
            return typescript();
        }
        let mut steps = vec![self.conformance(options)];
        if options.only_the_suite() {
            return Ok(steps);
        }
        if options.docker {
            let mut containers = self.cargo_test();
            containers.args(["--lib", "--", "docker::"]);
            steps.push(Step::new("the containers themselves", containers));
            return Ok(steps);
        }
        steps.push(custom_backend());
        steps.push(Step::new("unit tests", self.with_browser(&["--lib", "--bins"])));
        for name in test_targets()?.iter().filter(|name| *name != "conformance") {
            steps.push(Step::new(&format!("tests/{name}"), self.with_browser(&["--test", name])));
        }
        steps.push(Step::new("documentation", self.with_browser(&["--doc"])));
        steps.extend(typescript()?);
        steps.push(Step::new("model checker", model::command()));
        Ok(steps)
    }

    fn conformance(&self, options: &Options) -> Step {
        let mut command = self.cargo_test();
        command.args(["--test", "conformance"]);
        if let Some(backends) = backends(options) {
            command.env("BROKER_TEST_BACKENDS", backends);
        }
        command.args(options.case.iter().flat_map(|part| ["--", part]));
        Step { name: "conformance suite".to_owned(), of_the_suite: true, command }
    }

    fn conformance_on(&self, (server, version): Chosen, options: &Options) -> Step {
        let mut step = self.conformance(options);
        step.name = version.name.clone();
        step.command
            .env("BROKER_TEST_BACKENDS", &server.backend)
            .env(server.version_variable(), &version.name);
        step
    }

    /// Compile what the steps run. Examples are among it: tests run them as programs.
    fn builds(&self, options: &Options) -> Vec<Command> {
        if options.typescript {
            let server =
                ["build", "--package", "broker-streams", "--features", "full", "--example", node::SERVER];
            return node::packages().into_iter().chain([cargo(&server)]).collect();
        }
        let mut command = self.cargo_test();
        command.arg("--no-run");
        if options.only_the_suite() {
            command.args(["--test", "conformance"]);
            return vec![command];
        }
        if options.docker {
            return vec![command];
        }
        let mut builds = vec![command, cargo_of_custom_backend(&["test", "--no-run"])];
        builds.extend(node::packages());
        builds
    }

    /// `cargo test`, always with the same packages and features, so that every step shares one build.
    fn cargo_test(&self) -> Command {
        let mut command = cargo(&["test", "--no-fail-fast", "--workspace", "--features"]);
        // Tests spend most of their time waiting, as the cases of the suite do: for servers, and for deadlines.
        if env::var_os("RUST_TEST_THREADS").is_none() {
            let cores = available_parallelism().map_or(1, NonZero::get);
            command.env("RUST_TEST_THREADS", (2 * cores).to_string());
        }
        if self.source == Source::Docker {
            let features = format!("{FEATURES},integration-tests/docker");
            command.arg(features).env("BROKER_TEST_SERVERS", "docker");
        } else {
            command.arg(FEATURES);
        }
        if !self.wanted.is_empty() {
            // They are there: cases that cannot find them have failed.
            command.env("BROKER_REQUIRE", self.required().join(","));
        }
        command
    }

    /// The names of the wanted backends, and of their topologies.
    fn required(&self) -> Vec<&str> {
        let names = |server: &&'static Server| [vec![&*server.backend], topologies(server, true)].concat();
        self.wanted.iter().flat_map(names).collect()
    }

    /// The same, where the browser is required as well.
    fn with_browser(&self, arguments: &[&str]) -> Command {
        let mut command = self.cargo_test();
        let required = [self.required(), vec![&*BROWSER.backend]].concat();
        command.env("BROKER_REQUIRE", required.join(","));
        command.args(arguments);
        command
    }
}

/// What the tests of all packages need.
pub(crate) const FEATURES: &str = "broker-rs/full,broker-streams/full,broker-streams-client/full";

/// The tests of the TypeScript client, and its types.
fn typescript() -> Result<Vec<Step>, String> {
    Ok(vec![
        Step::new("clients/typescript", node::tests()?),
        Step::new("types of clients/typescript", node::types()),
    ])
}

/// The suite on a backend that is no member of this workspace.
fn custom_backend() -> Step {
    let mut command = cargo_of_custom_backend(&["test"]);
    // It names backends of this workspace.
    command.env_remove("BROKER_TEST_BACKENDS");
    Step { name: "examples/custom-backend".to_owned(), of_the_suite: true, command }
}

/// Runs a step, and reads what its tests print. A quiet one prints that only when it fails.
fn once(step: &mut Step, quiet: bool) -> Done {
    let started = Instant::now();
    let (report, held) = (Mutex::new(Report::default()), Mutex::new(Vec::new()));
    let outcome = run_by_line(&mut step.command, |pipe, line| {
        report.lock().unwrap_or_else(PoisonError::into_inner).read(line);
        if quiet {
            held.lock().unwrap_or_else(PoisonError::into_inner).push((pipe, line.to_owned()));
        } else {
            pipe.print(line);
        }
    });
    if outcome.is_err() {
        let held = held.into_inner().unwrap_or_else(PoisonError::into_inner);
        held.iter().for_each(|(pipe, line)| pipe.print(line));
    }
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    // A filter that matches nothing is a mistake, not a success.
    let nothing = (step.of_the_suite && report.is_empty()).then(|| "no case matches".to_owned());
    let error = outcome.err().or(nothing);
    Done { name: step.name.clone(), by_backend: step.of_the_suite, report, took: started.elapsed(), error }
}

/// Runs the suite as often as wanted, until a round fails. What the last round says is kept.
fn rounds(step: &mut Step, rounds: u32) -> Done {
    let started = Instant::now();
    let mut round = 1;
    loop {
        let mut done = once(step, rounds > 1);
        if rounds > 1 {
            println!("round {round} of {rounds}: {}, {}", done.report.counts(), minutes(done.took));
        }
        if round == rounds || done.error.is_some() {
            done.took = started.elapsed();
            return done;
        }
        round += 1;
    }
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

fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let read = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(read.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests;
