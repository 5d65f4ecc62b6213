//! Tests of what `cargo xtask test` runs for which options.

use std::process::Command;

use super::{Options, Source, Step, Suite, once, rounds, test_targets, wanted_servers, wanted_versions};

fn options(backend: Option<&str>, case: Option<&str>, docker: bool) -> Options {
    Options {
        backend: backend.map(str::to_owned),
        case: case.map(str::to_owned),
        repeat: 1,
        docker,
        ..Options::default()
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
        let backends = variables.next().and_then(|(_, value)| Some(value?.to_string_lossy().into_owned()));
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

#[test]
fn clusters_run_where_they_are_wanted_and_slow_ones_at_night() {
    let topologies = |nightly| {
        let suite = Suite { source: Source::Process, wanted: Vec::new(), versions: Vec::new() };
        let options = Options { clusters: true, nightly, ..options(None, None, false) };
        let [step] = &suite.steps(&options).unwrap()[..] else { panic!("one step") };
        let mut variables = step.command.get_envs().filter(|(name, _)| *name == "BROKER_TEST_BACKENDS");
        variables.next().and_then(|(_, value)| Some(value?.to_string_lossy().into_owned())).unwrap()
    };
    for name in ["redis-sentinel", "redis-cluster", "redis-sharded", "nats-cluster", "postgres-standby"] {
        assert!(topologies(false).contains(name), "{name}");
    }
    assert!(!topologies(false).contains("rabbitmq") && topologies(true).contains("rabbitmq-cluster"));
}

#[test]
fn the_typescript_client_is_among_all_steps_and_can_be_tested_alone() {
    let names = |typescript| {
        let suite = Suite { source: Source::Process, wanted: Vec::new(), versions: Vec::new() };
        let steps = suite.steps(&Options { typescript, ..options(None, None, false) }).unwrap();
        steps.into_iter().map(|step| step.name).collect::<Vec<_>>()
    };
    let alone = names(true);
    assert_eq!(alone, ["clients/typescript", "types of clients/typescript"]);
    assert!(alone.iter().all(|name| names(false).contains(name)));
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
    for (name, value) in [("BROKER_TEST_BACKENDS", "redis"), ("BROKER_TEST_REDIS_VERSION", "valkey-8.1")] {
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
