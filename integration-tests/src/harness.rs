//! Harness: our entries of the suite, a file below this one for each backend.

use broker_conformance::{Entry, harness::Harness};

use crate::faulty::faults::Wrong;

pub mod clusters;
pub mod memory;
pub mod nats;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;

/// Every backend of the suite.
pub const ENTRIES: &[Entry] = &[memory::ENTRY, nats::ENTRY, redis::ENTRY, rabbitmq::ENTRY, postgres::ENTRY];

/// A cluster on the memory bus whose nodes have a driver with something wrong. For tests of the suite itself.
#[must_use]
pub fn faulty_memory(wrong: Wrong) -> Box<dyn Harness> {
    Box::new(memory::MemoryHarness::new(wrong))
}

#[cfg(test)]
mod tests {
    use super::ENTRIES;

    #[tokio::test]
    async fn every_backend_is_among_those_that_the_suite_is_built_with() {
        for entry in ENTRIES {
            let url = format!("{}://localhost", entry.backend.schemes[0].name);
            let opened = broker::open(&url, broker::Options::default());
            assert!(opened.is_ok(), "{}: {opened:?}; is it in `full` in broker/Cargo.toml?", entry.name());
        }
    }
}
