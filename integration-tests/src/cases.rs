//! The list of cases: one slice for each subject.

use crate::case::Case;

mod configuration;
mod isolation;
mod lifecycle;
mod limits;
mod models;
mod names;
mod order;
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
    limits::CASES,
    order::CASES,
];

/// Every case.
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
