//! The suite tested: every faulty driver must fail in the cases that `FAULTS` names, which pass without the fault.
//!
//! `cargo xtask mutants-of-the-suite` runs all cases on every faulty driver, and prints which of them notice.

use std::{
    collections::BTreeSet,
    env, fs,
    panic::AssertUnwindSafe,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use broker_conformance::case::Case;
use futures_util::FutureExt;
use integration_tests::{
    faulty::faults::{FAULTS, Fault, Wrong},
    harness::{faulty_memory, memory},
};

/// A case that hangs for as long has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// The same for a case that has to pass, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why a case fails with this wrong; `None` when it passes.
fn failure(case: Case, wrong: Wrong) -> Option<String> {
    let limit = if wrong == Wrong::NothingAtAll { PATIENCE } else { LIMIT };
    let (sender, outcomes) = mpsc::channel();
    // Some faults block their thread.
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let outcome = runtime.block_on(async {
            let harness = faulty_memory(wrong);
            let outcome = AssertUnwindSafe((case.run)(&*harness)).catch_unwind();
            match tokio::time::timeout(limit, outcome).await {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(failure))) => Some(format!("{failure:?}")),
                Ok(Err(_)) => Some("it panics".to_owned()),
                Err(_) => Some(format!("not within {limit:?}")),
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        let _ = sender.send(outcome);
    };
    thread::spawn(run);
    outcomes
        .recv_timeout(limit + Duration::from_secs(5))
        .unwrap_or_else(|_| Some("it blocks its thread".to_owned()))
}

fn case(name: &str) -> Case {
    memory::ENTRY.cases().find(|case| case.name == name).unwrap_or_else(|| panic!("no case is called {name}"))
}

/// Does this for each, some at a time, and gives back what came of it, in order.
fn side_by_side<T: Send, R: Send>(all: Vec<T>, at_once: usize, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let (queue, done) =
        (std::sync::Mutex::new(all.into_iter().enumerate()), std::sync::Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panicked").next();
                    let Some((at, item)) = next else { return };
                    let result = work(item);
                    done.lock().expect("nobody panicked").push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panicked");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn every_faulty_driver_is_caught_by_its_cases() {
    let pairs: Vec<(&Fault, &str)> =
        FAULTS.iter().flat_map(|fault| fault.caught_by.iter().map(move |name| (fault, *name))).collect();
    let missed = side_by_side(pairs, 40, |(fault, name)| {
        let caught = failure(case(name), fault.wrong).is_some();
        (!caught).then(|| format!("{name} does not notice a driver that {}", fault.does))
    });
    let missed: Vec<_> = missed.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn the_same_cases_pass_without_a_fault() {
    let names: BTreeSet<&str> = FAULTS.iter().flat_map(|fault| fault.caught_by).copied().collect();
    let failures = side_by_side(names.into_iter().collect(), 4, |name| {
        failure(case(name), Wrong::NothingAtAll).map(|reason| format!("{name}: {reason}"))
    });
    let failures: Vec<_> = failures.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_table_of_faults_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/FAULTS.md");
    let written = fs::read_to_string(path).unwrap_or_default();
    let mut table = "| promise | a driver that … | fails in |\n|---|---|---|\n".to_owned();
    let mut faults: Vec<&Fault> = FAULTS.iter().collect();
    faults.sort_by_key(|fault| fault.promise);
    for Fault { promise, does, caught_by, .. } in faults {
        let names: Vec<_> = caught_by.iter().map(|name| format!("`{name}`")).collect();
        table += &format!("| {promise} | {does} | {} |\n", names.join(", "));
    }
    let (head, _) = written.split_once("| promise |").unwrap_or((&written, ""));
    let whole = format!("{head}{table}");
    if env::var_os("BLESS").is_some() {
        fs::write(path, &whole).unwrap();
    } else {
        assert!(
            written == whole,
            "FAULTS.md is not true any more: BLESS=1 cargo test -p integration-tests --test faulty"
        );
    }
}

/// Takes many minutes: all cases on every faulty driver, or on those that `FAULT` names.
#[test]
#[ignore = "cargo xtask mutants-of-the-suite"]
fn all_cases_on_every_faulty_driver() {
    let chosen = env::var("FAULT").unwrap_or_default();
    let name = |fault: &Fault| format!("{:?}", fault.wrong);
    let faults: Vec<&Fault> = FAULTS.iter().filter(|fault| name(fault).contains(&chosen)).collect();
    assert!(
        !faults.is_empty(),
        "no fault is called {chosen}: {:?}",
        FAULTS.iter().map(name).collect::<Vec<_>>()
    );
    let mut uncaught = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        let started = Instant::now();
        let all: Vec<Case> = memory::ENTRY.cases().collect();
        let caught = side_by_side(all, 24, |case| failure(case, fault.wrong).map(|_| case.name));
        let caught: Vec<_> = caught.into_iter().flatten().collect();
        let seconds = started.elapsed().as_secs();
        println!(
            "{}/{} {} ({}): {} cases, {seconds} s",
            at + 1,
            faults.len(),
            name(fault),
            fault.does,
            caught.len()
        );
        caught.iter().take(5).for_each(|name| println!("      {name}"));
        if caught.is_empty() {
            uncaught.push(name(fault));
        }
    }
    assert!(uncaught.is_empty(), "no case notices: {uncaught:?}");
}
