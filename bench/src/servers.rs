//! Servers: the one a scenario runs against.

use broker_conformance::{case::Need, harness::Harness};
use integration_tests::harness::ENTRIES;

use crate::Outcome;

/// Starts a backend's server, or takes one that is there; `None`, and a line that says why, where that is not possible.
pub(crate) async fn started(backend: &str, needs: &'static [Need]) -> Outcome<Option<Box<dyn Harness>>> {
    let entry = ENTRIES.iter().find(|entry| entry.name() == backend).ok_or("no such backend")?;
    if let Err(reason) = (entry.available)().await {
        eprintln!("{backend} is left out: {reason}");
        return Ok(None);
    }
    Ok(Some((entry.start)(needs).await?))
}

/// Ends those that are kept for the next scenario because they take long to start.
pub(crate) fn end() {
    ENTRIES.iter().for_each(|entry| (entry.end)());
}
