//! The list of cases: one slice for each subject.

use crate::case::Case;

mod configuration;
mod isolation;
mod lifecycle;
mod models;
mod names;
mod publishing;
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
];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    SUBJECTS.iter().copied().flatten()
}
