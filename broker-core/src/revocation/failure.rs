//! Failure: whether a step about the log has found the link broken, or the log alone.

use crate::{Error, Result};

/// Why a step about the log failed.
pub(super) enum Failure {
    /// The link is broken, and is given up.
    Link(Error),
    /// The log refuses it, or is out of reach; the link goes on.
    Log(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Link(error) | Self::Log(error) => error,
        }
    }
}

/// What broke the link during several calls, if something did. It counts more than what became of the others.
pub(super) fn broke_link(outcomes: &[Result<(), Failure>]) -> Result<()> {
    let broken = outcomes.iter().find_map(|outcome| match outcome {
        Err(Failure::Link(error)) => Some(error.clone()),
        _ => None,
    });
    broken.map_or(Ok(()), Err)
}
