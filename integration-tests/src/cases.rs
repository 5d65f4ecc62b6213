//! The list of cases: one slice for each subject.

use crate::case::Case;

mod configuration;
mod lifecycle;
mod models;
mod subscribing;

/// Every case, by subject.
const SUBJECTS: &[&[Case]] = &[configuration::CASES, lifecycle::CASES, subscribing::CASES];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    SUBJECTS.iter().copied().flatten()
}
