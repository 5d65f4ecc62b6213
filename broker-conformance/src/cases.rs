//! The list of cases: one slice for each subject.

use crate::case::Case;

mod channel_sets;
mod cluster;
mod configuration;
mod draining;
mod front;
mod handles;
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
mod lost_replies;
mod models;
mod names;
mod order;
mod outage;
mod publishing;
mod raw;
mod readers;
mod requests;
mod revocation;
mod revocation_outage;
mod senders;
mod serverpod;
mod sessions;
mod several_types;
mod skipped;
mod subscribing;
mod unnumbered;
mod values;

/// Every case, by subject.
const SUBJECTS: &[&[Case]] = &[
    configuration::CASES,
    lifecycle::CASES,
    draining::CASES,
    subscribing::CASES,
    isolation::CASES,
    names::CASES,
    publishing::CASES,
    values::CASES,
    limits::CASES,
    order::CASES,
    lag::CASES,
    readers::CASES,
    channel_sets::CASES,
    loss::CASES,
    skipped::CASES,
    outage::CASES,
    senders::CASES,
    sessions::CASES,
    listeners::CASES,
    hooks::CASES,
    front::CASES,
    several_types::CASES,
    handles::CASES,
    requests::CASES,
    lost_replies::CASES,
    revocation::CASES,
    revocation_outage::CASES,
    cluster::CASES,
    health::CASES,
    hostile::CASES,
    unnumbered::CASES,
    raw::CASES,
    serverpod::CASES,
    log::CASES,
];

/// Every case that is for all backends.
pub fn all() -> impl Iterator<Item = Case> {
    SUBJECTS.iter().copied().flatten().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::all;

    #[test]
    fn every_case_has_a_unique_sentence_and_existing_promises() {
        let mut names = HashSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} twice", case.name);
            assert!(case.name.split('_').count() > 2, "{} is no sentence", case.name);
            assert!(case.promises.iter().all(|promise| (1..=12).contains(promise)), "{}", case.name);
            assert!(!case.promises.is_empty(), "{}", case.name);
        }
    }
}
