//! Databases: one for each case on a server that cases share.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{config::APP, control::PostgresControl};

/// See the module.
#[derive(Debug)]
pub(crate) struct Databases {
    made: AtomicU64,
    /// Those of cases that have ended.
    ended: Mutex<Vec<String>>,
}

impl Databases {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self { made: AtomicU64::new(0), ended: Mutex::new(Vec::new()) }
    }

    /// Makes a database for a case, and removes those of cases that have ended.
    pub(crate) async fn make(&self, control: &PostgresControl) -> Result<String, String> {
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for name in ended {
            control.run(APP, &format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await?;
        }
        let name = format!("case-{}", 1 + self.made.fetch_add(1, Ordering::Relaxed));
        control.run(APP, &format!("CREATE DATABASE \"{name}\" OWNER {APP}")).await?;
        Ok(name)
    }

    /// The case of this database has ended.
    pub(crate) fn end(&self, name: String) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}
