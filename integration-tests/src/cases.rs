//! The list of cases: one slice for each subject.

use crate::case::Case;

mod subscribing;

/// Every case, by subject.
const SUBJECTS: &[&[Case]] = &[subscribing::CASES];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    SUBJECTS.iter().copied().flatten()
}
