//! Ending: how far the end of a broker has come.

use std::sync::{OnceLock, atomic::AtomicBool};

use tokio_util::sync::CancellationToken;

use crate::Error;

/// How far the end of a broker has come.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) draining: AtomicBool,
    pub(super) closing: AtomicBool,
    /// Cancelled when nothing is left.
    pub(super) done: CancellationToken,
    /// Why it ended, if that was by a fault.
    pub(super) failure: OnceLock<Error>,
}
