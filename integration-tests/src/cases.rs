//! The list of cases: one slice for each subject.

use crate::case::Case;

mod cluster;
mod configuration;
mod health;
mod hooks;
mod hostile;
mod isolation;
mod lag;
mod lifecycle;
mod limits;
mod listeners;
mod log;
mod loss;
mod models;
mod names;
mod nats_limits;
mod nats_log;
mod nats_log_refusals;
mod nats_only;
mod nats_unlogged;
mod only;
mod order;
mod outage;
mod publishing;
mod rabbitmq_faults;
mod rabbitmq_limits;
mod rabbitmq_log;
mod rabbitmq_only;
mod reaching;
mod redis_idle;
mod redis_log;
mod redis_log_refusals;
mod redis_only;
mod revocation;
mod revocation_outage;
mod sessions;
mod skipped;
mod steps;
mod subscribing;
mod values;

/// Every case, by subject.
const SUBJECTS: &[&[Case]] = &[
    configuration::CASES,
    lifecycle::CASES,
    subscribing::CASES,
    isolation::CASES,
    names::CASES,
    publishing::CASES,
    values::CASES,
    limits::CASES,
    order::CASES,
    lag::CASES,
    loss::CASES,
    skipped::CASES,
    outage::CASES,
    sessions::CASES,
    listeners::CASES,
    hooks::CASES,
    revocation::CASES,
    revocation_outage::CASES,
    cluster::CASES,
    health::CASES,
    hostile::CASES,
    log::CASES,
];

/// Cases about one backend alone, by its name.
const ONLY: &[(&str, &[Case])] = &[
    ("nats", nats_only::CASES),
    ("nats", nats_limits::CASES),
    ("nats", nats_unlogged::CASES),
    ("nats", nats_log::CASES),
    ("nats", nats_log_refusals::CASES),
    ("nats", reaching::NATS),
    ("rabbitmq", rabbitmq_only::CASES),
    ("rabbitmq", rabbitmq_faults::CASES),
    ("rabbitmq", rabbitmq_limits::CASES),
    ("rabbitmq", rabbitmq_log::CASES),
    ("rabbitmq", reaching::RABBITMQ),
    ("redis", redis_only::CASES),
    ("redis", redis_idle::CASES),
    ("redis", redis_log::CASES),
    ("redis", redis_log_refusals::CASES),
    ("redis", reaching::REDIS),
];

/// Every case for a backend.
pub fn of(backend: &str) -> impl Iterator<Item = &'static Case> {
    let only = ONLY.iter().filter(move |(name, _)| *name == backend).flat_map(|(_, cases)| *cases);
    all().chain(only)
}

/// Every case that is for all backends.
pub fn all() -> impl Iterator<Item = &'static Case> {
    SUBJECTS.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::all;

    #[test]
    fn every_case_is_one_sentence_about_promises_that_exist() {
        let mut names = HashSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} twice", case.name);
            assert!(case.name.split('_').count() > 2, "{} is no sentence", case.name);
            assert!(case.promises.iter().all(|promise| (1..=12).contains(promise)), "{}", case.name);
            assert!(!case.promises.is_empty(), "{}", case.name);
        }
    }
}
