//! The list of cases: one slice for each subject.

use crate::case::Case;

mod cluster;
mod configuration;
mod health;
mod isolation;
mod lag;
mod lifecycle;
mod limits;
mod listeners;
mod loss;
mod models;
mod names;
mod order;
mod outage;
mod publishing;
mod sessions;
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
    outage::CASES,
    sessions::CASES,
    listeners::CASES,
    cluster::CASES,
    health::CASES,
];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    SUBJECTS.iter().copied().flatten()
}
