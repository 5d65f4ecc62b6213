//! The list of cases: one slice for each subject.

use crate::case::Case;

mod cluster;
mod health;
mod hostile;
mod lag;
mod listeners;
mod loss;
mod outage;
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
];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    SUBJECTS.iter().copied().flatten()
}
