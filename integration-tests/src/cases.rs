//! The list of cases: one slice for each subject.

use crate::case::Case;

mod cluster;
mod health;
mod hostile;
mod lag;
mod listeners;
mod loss;
mod outage;
mod redis_only;
mod sessions;
mod steps;
mod subscribing;

/// Every case, by subject.
const SUBJECTS: &[&[Case]] = &[
    subscribing::CASES,
    lag::CASES,
    loss::CASES,
    sessions::CASES,
    listeners::CASES,
    outage::CASES,
    cluster::CASES,
    health::CASES,
    hostile::CASES,
];

/// Cases about one backend alone, by its name.
const ONLY: &[(&str, &[Case])] = &[("redis", redis_only::CASES)];

/// Every case for a backend.
pub fn of(backend: &str) -> impl Iterator<Item = &'static Case> {
    let only = ONLY.iter().filter(move |(name, _)| *name == backend).flat_map(|(_, cases)| *cases);
    all().chain(only)
}

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    SUBJECTS.iter().copied().flatten()
}
