//! Failure: an error with an exit status of its own.

use std::{error::Error, fmt, process::ExitCode};

/// Why a command failed, and what it exits with.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    /// What the command line says cannot be done. Clap exits with the same.
    pub(crate) const USAGE: u8 = 2;

    pub(crate) fn new(status: u8, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Self::USAGE, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

/// The exit status for an error of [`run`](crate::run): 1, where the command does not say more.
#[must_use]
pub fn status(error: &(dyn Error + Send + Sync + 'static)) -> ExitCode {
    error.downcast_ref::<Failure>().map_or(ExitCode::FAILURE, |failure| ExitCode::from(failure.status))
}
