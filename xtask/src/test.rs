//! `cargo xtask test`: the conformance suite, then all other tests, with the servers they need.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use clap::{Args, value_parser};

use crate::{
    model,
    report::{Done, Report, Summary, minutes},
    run::{cargo, cargo_of_custom_backend, root, run as run_command, run_by_line},
    servers::{BACKENDS, BROWSER, SERVERS, Server, Source, Version, provide},
};

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Run the conformance suite on this backend only (memory, redis, nats, rabbitmq, …), and nothing else.
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
}

impl Options {
    /// Whether only cases of the suite are wanted.
    fn only_the_suite(&self) -> bool {
        self.backend.is_some() || self.case.is_some() || self.server.is_some()
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut wanted = wanted_servers(options)?;
    let versions = wanted_versions(options, &wanted)?;
    if options.server.is_some() {
        wanted.retain(|server| versions.iter().any(|(of, _)| of.backend == server.backend));
    }
    let source = provide(&wanted, options.docker)?;
    if !options.docker && !options.only_the_suite() {
        provide(&[&*BROWSER], false)?;
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
    {
        return Err(format!("no backend is called `{name}`: must be one of {}", BACKENDS.join(", ")));
    }
    let chosen = |server: &&Server| options.backend.as_deref().is_none_or(|name| name == server.backend);
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

/// The backends that the suite shall run on; all without any.
fn backends(options: &Options) -> Option<String> {
    match &options.backend {
        Some(backend) => Some(backend.clone()),
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
        let mut command = self.cargo_test();
        command.arg("--no-run");
        if options.only_the_suite() {
            command.args(["--test", "conformance"]);
            return vec![command];
        }
        if options.docker {
            return vec![command];
        }
        vec![command, cargo_of_custom_backend(&["test", "--no-run"])]
    }

    /// `cargo test`, always with the same packages and features, so that every step shares one build.
    fn cargo_test(&self) -> Command {
        let mut command = cargo(&["test", "--no-fail-fast", "--workspace", "--features"]);
        if self.source == Source::Docker {
            command.arg("broker-rs/full,integration-tests/docker").env("BROKER_TEST_SERVERS", "docker");
        } else {
            command.arg("broker-rs/full");
        }
        let backends: Vec<&str> = self.wanted.iter().map(|server| &*server.backend).collect();
        if !backends.is_empty() {
            // They are there: cases that cannot find them have failed.
            command.env("BROKER_REQUIRE", backends.join(","));
        }
        command
    }

    /// The same, where the browser is required as well.
    fn with_browser(&self, arguments: &[&str]) -> Command {
        let mut command = self.cargo_test();
        let required = self.wanted.iter().map(|server| &*server.backend).chain([&*BROWSER.backend]);
        command.env("BROKER_REQUIRE", required.collect::<Vec<_>>().join(","));
        command.args(arguments);
        command
    }
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
mod tests {
    use std::process::Command;

    use super::{Options, Source, Step, Suite, once, rounds, test_targets, wanted_servers, wanted_versions};

    fn options(backend: Option<&str>, case: Option<&str>, docker: bool) -> Options {
        Options {
            backend: backend.map(str::to_owned),
            case: case.map(str::to_owned),
            repeat: 1,
            docker,
            server: None,
        }
    }

    /// The commands of all steps, each as its arguments behind the features, and `BROKER_TEST_BACKENDS`.
    fn steps(backend: Option<&str>, case: Option<&str>, docker: bool) -> Vec<(String, Option<String>)> {
        let source = if docker { Source::Docker } else { Source::Process };
        let steps = Suite { source, wanted: Vec::new(), versions: Vec::new() }
            .steps(&options(backend, case, docker))
            .unwrap();
        let text = |step: &Step| {
            let arguments = step.command.get_args().map(|argument| argument.to_string_lossy().into_owned());
            let mut variables = step.command.get_envs().filter(|(name, _)| *name == "BROKER_TEST_BACKENDS");
            let backends =
                variables.next().and_then(|(_, value)| Some(value?.to_string_lossy().into_owned()));
            let arguments: Vec<_> =
                arguments.skip_while(|argument| !argument.starts_with("broker-rs/full")).collect();
            (arguments.get(1..).unwrap_or_default().join(" "), backends)
        };
        steps.iter().map(text).collect()
    }

    #[test]
    fn part_of_a_name_means_the_same_with_and_without_a_backend() {
        let redis = Some("redis".to_owned());
        let part = "--test conformance -- gap".to_owned();
        assert_eq!(steps(None, Some("gap"), false), [(part.clone(), None)]);
        assert_eq!(steps(Some("redis"), Some("gap"), false), [(part.clone(), redis.clone())]);
        assert_eq!(steps(Some("redis"), None, false), [("--test conformance".to_owned(), redis)]);
        let [(arguments, Some(backends))] = &steps(None, Some("gap"), true)[..] else { panic!("one step") };
        assert_eq!(*arguments, part);
        assert!(backends.contains("redis") && !backends.contains("memory"), "{backends}");
    }

    #[test]
    fn the_suite_comes_first_and_every_test_target_has_a_step() {
        let steps = steps(None, None, false);
        assert_eq!(steps[0], ("--test conformance".to_owned(), None));
        for name in test_targets().unwrap() {
            let argument = format!("--test {name}");
            assert_eq!(steps.iter().filter(|(arguments, _)| *arguments == argument).count(), 1, "{name}");
        }
    }

    /// A step that prints this, and ends with this status.
    fn prints(text: &str, status: u8) -> Step {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("printf '{text}'; exit {status}")]);
        Step { name: "a step".to_owned(), of_the_suite: true, command }
    }

    #[test]
    fn a_step_fails_by_its_status_or_when_no_case_matches() {
        let error = |text, status| once(&mut prints(text, status), true).error;
        assert_eq!(error("test memory::gap ... ok\\n", 0), None);
        assert!(error("test memory::gap ... FAILED\\n", 101).is_some_and(|error| error.contains("101")));
        assert_eq!(error("running 0 tests\\n", 0), Some("no case matches".to_owned()));
    }

    #[test]
    fn rounds_end_with_the_first_that_fails() {
        let dir = std::env::temp_dir().join(format!("xtask-rounds-{}", std::process::id()));
        let file = dir.display().to_string();
        // Succeeds as long as fewer than three have run.
        let mut step = prints("", 0);
        step.command = Command::new("sh");
        step.command
            .args(["-c", &format!("echo test a::b ... ok; echo x >>{file}; test $(wc -l <{file}) -lt 3")]);
        let failed = rounds(&mut step, 10).error.is_some();
        let ran = std::fs::read_to_string(&dir).unwrap().lines().count();
        std::fs::remove_file(&dir).unwrap();
        assert!(failed);
        assert_eq!(ran, 3);
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
            assert!(error.contains(&format!("`{name}`")) && error.contains("memory, nats"), "{error}");
        }
    }

    #[test]
    fn a_version_is_a_step_of_its_own_and_its_tests_receive_it() {
        let steps = |backend, server: &str| {
            let options = Options { server: Some(server.to_owned()), ..options(backend, Some("gap"), true) };
            let wanted = wanted_servers(&options)?;
            let versions = wanted_versions(&options, &wanted)?;
            Suite { source: Source::Docker, wanted, versions }.steps(&options)
        };
        let [valkey] = &steps(None, "valkey-8.1").unwrap()[..] else { panic!("one step") };
        assert_eq!(valkey.name, "valkey-8.1");
        let variables: Vec<_> =
            valkey.command.get_envs().filter_map(|(name, value)| Some((name, value?))).collect();
        for (name, value) in [("BROKER_TEST_BACKENDS", "redis"), ("BROKER_TEST_REDIS_VERSION", "valkey-8.1")]
        {
            assert!(variables.contains(&(name.as_ref(), value.as_ref())), "{variables:?}");
        }
        assert!(valkey.command.get_args().any(|argument| argument == "gap"));
        let (all, of_one) = (steps(None, "all").unwrap(), steps(Some("nats"), "all").unwrap());
        assert!(of_one.len() >= 2 && all.len() > of_one.len() && all.iter().all(|step| step.of_the_suite));
        for (backend, server) in [(None, "redis-5.0"), (Some("nats"), "valkey-8.1")] {
            let error = steps(backend, server).map(|steps| steps.len()).unwrap_err();
            assert!(error.contains(server) && error.contains("nats-2.10"), "{error}");
        }
    }

    #[test]
    fn the_conformance_suite_is_among_the_test_targets() {
        assert!(test_targets().unwrap().contains(&"conformance".to_owned()));
    }
}
