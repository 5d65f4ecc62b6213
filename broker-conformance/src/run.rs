//! Run: the suite as a test binary, `<backend>::<sentence>`, each case on a cluster of its own.

use std::{
    env,
    num::NonZero,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread::available_parallelism,
    time::Duration,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    case::{Case, Failure},
    entry::Entry,
    harness::Harness,
};

/// How long a case may take. One that takes longer hangs.
const CASE_LIMIT: Duration = Duration::from_secs(300);
/// How long the tasks of a case may take to end after it.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Cases that run at once for each core. They spend most of their time waiting: for servers to start, and for deadlines.
const CASES_PER_CORE: usize = 2;

/// Runs every case on every backend, as the command line and the environment choose, and prints the outcome as
/// `cargo test` does. It is the `main` of a test with `harness = false`.
///
/// `BROKER_TEST_BACKENDS=acme,…` runs the cases of these entries only; without it, those of all, and few of one that is
/// [on request](Entry::on_request). Where a server cannot be had the cases are
/// ignored, with the reason; with `BROKER_REQUIRE=acme,…`, or with `CI=true`, they fail.
#[must_use]
pub fn main(entries: &[Entry]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cores = available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(cores * CASES_PER_CORE);
    // A second subscriber beside the one that a case may set. With one alone, whichever thread comes first to a
    // line of the log decides for all of them whether it is logged.
    tracing_subscriber::fmt().with_max_level(LevelFilter::OFF).with_writer(std::io::sink).init();
    let chosen = match chosen(entries) {
        Ok(chosen) => chosen,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut trials = Vec::new();
    for (entry, cases) in chosen {
        if cases.is_empty() {
            continue;
        }
        let missing = runtime("probe").and_then(|runtime| runtime.block_on((entry.available)())).err();
        if let Some(reason) = &missing {
            eprintln!("{}: no server: {reason}", entry.name());
        }
        trials.extend(cases.into_iter().map(|case| trial(entry, case, missing.clone())));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Every trial has dropped its own server by now; none outlives this process.
    entries.iter().for_each(|entry| (entry.end)());
    conclusion.exit_code()
}

/// Whether a missing server for this backend is a failure rather than a reason to ignore its cases.
#[must_use]
pub fn required(backend: &str) -> bool {
    let listed = env::var("BROKER_REQUIRE").unwrap_or_default();
    env::var("CI").is_ok_and(|ci| ci == "true") || listed.split(',').any(|name| name.trim() == backend)
}

/// The entries to run, with their cases: those that the environment names, or what need not be named of each.
fn chosen(entries: &[Entry]) -> Result<Vec<(Entry, Vec<Case>)>, String> {
    let Ok(names) = env::var("BROKER_TEST_BACKENDS") else {
        return entries.iter().map(|entry| Ok((*entry, entry.unasked()?))).collect();
    };
    let entry = |name: &str| {
        let found = entries.iter().find(|entry| entry.name() == name.trim());
        found.map(|entry| (*entry, entry.cases().collect())).ok_or_else(|| {
            let known: Vec<_> = entries.iter().map(Entry::name).collect();
            format!("BROKER_TEST_BACKENDS: no backend is called `{name}`: {}", known.join(", "))
        })
    };
    names.split(',').map(entry).collect()
}

fn trial(entry: Entry, case: Case, missing: Option<String>) -> Trial {
    let name = format!("{}::{}", entry.name(), case.name);
    let ignored = match (case.not_applicable(&entry), missing) {
        (Some(reason), _) => {
            eprintln!("{name}: {reason}");
            Some(reason)
        }
        (None, Some(reason)) if required(entry.name()) => {
            return Trial::test(name, move || Err(format!("no server: {reason}").into()));
        }
        (None, missing) => missing,
    };
    let (flag, label) = (ignored.is_some(), name.clone());
    let run = move || match ignored {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => run(entry, case, &label).map(|()| Completion::Completed),
    };
    // Runners take a case that ends as ignored for a pass, but believe the flag.
    Trial::ignorable_test(name, run).with_ignored_flag(flag)
}

fn run(entry: Entry, case: Case, name: &str) -> Result<(), Failed> {
    let runtime = runtime(name)?;
    let outcome = runtime.block_on((entry.start)(case.needs)).and_then(|harness| {
        let harness: Arc<dyn Harness> = harness.into();
        let outcome = watched(&runtime, case, &harness);
        if outcome.is_err() && Arc::strong_count(&harness) > 1 {
            // Somebody still holds it and may do so for ever, and may block every thread of the runtime.
            if let Ok(other) = self::runtime("end") {
                let _ = other.block_on(async { timeout(END_LIMIT, harness.kill_server()).await });
            }
        }
        let _entered = runtime.enter();
        drop(harness);
        outcome
    });
    runtime.shutdown_timeout(END_LIMIT);
    outcome.map_err(|reason| format!("{name}: {reason}").into())
}

/// Runs a case on the runtime, and watches it from this thread: one that blocks its threads stops the clock of
/// its runtime as well.
fn watched(runtime: &Runtime, case: Case, harness: &Arc<dyn Harness>) -> Result<(), String> {
    let running = Arc::clone(harness);
    let (ended, end) = mpsc::channel();
    runtime.spawn(async move {
        // As a task of its own a case may panic. It counts tasks: this one is there before it begins.
        let task = tokio::spawn(async move { (case.run)(&*running).await });
        ended.send(task.await)
    });
    match end.recv_timeout(CASE_LIMIT) {
        Ok(Ok(outcome)) => outcome.map_err(|failure: Failure| format!("{failure:?}")),
        Ok(Err(panic)) => Err(panic.to_string()),
        Err(_) => Err(format!("hangs: not done within {CASE_LIMIT:?}")),
    }
}

/// Two workers for every case. They bear its name, and so does what they print in a panic.
fn runtime(name: &str) -> Result<Runtime, String> {
    let built = Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build();
    built.map_err(|error| format!("no runtime: {error}"))
}
