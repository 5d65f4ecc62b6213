//! Servers: the one a scenario runs against.

use std::ops::Deref;

use integration_tests::{
    case::Need,
    harness::{HARNESSES, Harness},
};

use crate::Outcome;

/// A server, ended when this is dropped.
pub(crate) struct Started {
    harness: Box<dyn Harness>,
    /// Dropped after it.
    _end: End,
}

struct End(fn());

impl Drop for End {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Deref for Started {
    type Target = dyn Harness;

    fn deref(&self) -> &Self::Target {
        &*self.harness
    }
}

/// Starts a backend's server; `None`, and a line that says why, where that is not possible.
pub(crate) async fn started(backend: &str, needs: &'static [Need]) -> Outcome<Option<Started>> {
    let entry = HARNESSES.iter().find(|entry| entry.name() == backend).ok_or("no such backend")?;
    if let Err(reason) = (entry.available)().await {
        eprintln!("{backend} is left out: {reason}");
        return Ok(None);
    }
    Ok(Some(Started { harness: (entry.start)(needs).await?, _end: End(entry.end) }))
}
