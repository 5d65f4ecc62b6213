//! Inspection: what a server reports about itself to an operator, by a link that is opened for it alone.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use crate::{
    Options, Result,
    driver::{CLOSE_LIMIT, ConnectContext, Driver, Inbox, LogSpec, open_link},
    runtime::Runtime,
};

/// What a server reports about itself to an operator. A broker never asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// What the server's clock showed at some moment of the inspection. `None`: it does not say.
    pub clock: Option<SystemTime>,
    /// Whether the server writes the revocation log to a disk, so that it is still there when the server has started
    /// again. `None`: it does not say.
    pub log_on_disk: Option<bool>,
    /// How long a connection may be idle before the server closes it. `None`: for ever, or it does not say.
    pub idle_limit: Option<Duration>,
    /// What an operator should change.
    pub warnings: Vec<Warning>,
}

/// Something that an operator should change at the server, or in the URL. None of it has a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// What is wrong, and what follows from it.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Warning {
    /// For drivers.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl Inspection {
    /// For drivers.
    #[must_use]
    pub const fn new(clock: Option<SystemTime>, log_on_disk: Option<bool>) -> Self {
        Self { clock, log_on_disk, idle_limit: None, warnings: Vec::new() }
    }

    /// The same, of a server that closes idle connections.
    #[must_use]
    pub const fn with_idle_limit(mut self, limit: Option<Duration>) -> Self {
        self.idle_limit = limit;
        self
    }

    /// The same, with what an operator should change.
    #[must_use]
    pub fn with_warnings(mut self, warnings: Vec<Warning>) -> Self {
        self.warnings = warnings;
        self
    }

    /// Opens a link, asks, and closes it. Looks at the revocation log of the prefix in the options, and makes none.
    /// Cancel safe.
    ///
    /// # Errors
    /// Why no link could be opened; [`InvalidInput`](crate::ErrorKind::InvalidInput) outside a tokio runtime. What the
    /// server does not want to say is `None`.
    pub async fn of(driver: &dyn Driver, options: &Options) -> Result<Self> {
        Runtime::current("an inspection")?;
        let context = ConnectContext::new(Inbox::discard());
        let connected = open_link(driver, context, options.connect_timeout).await;
        let link = connected.map_err(|error| error.with_operation("inspect").with_backend(driver.name()))?;
        let log = LogSpec::of(&options.prefix, options.revocation_retention, options.revoke_timeout);
        let inspection = timeout(options.revoke_timeout, link.inspect(&log)).await.unwrap_or_default();
        let _late = timeout(CLOSE_LIMIT, link.close()).await;
        Ok(inspection)
    }
}
