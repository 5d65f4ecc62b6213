//! PostgreSQL: a server of a test's own, wherever it runs.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::{Needs, Server, Source, certificates::Certificates};

pub(crate) mod account;
pub mod config;
pub mod control;
pub(crate) mod databases;
#[cfg(feature = "docker")]
pub mod docker;
pub(crate) mod pair;
pub(crate) mod pieces;
pub(crate) mod pooler;
pub(crate) mod postmaster;
pub mod process;
pub(crate) mod template;

use config::PostgresConfig;
use control::PostgresControl;

/// What these tests need.
pub static NEEDS: LazyLock<Needs> =
    LazyLock::new(|| Needs::read("postgres", include_str!("postgres/server.toml")));

/// A PostgreSQL, wherever it runs. It speaks plainly and encrypted at one port; see [`config`] for its users.
#[async_trait]
pub trait Postgres: Server {
    /// Statements around any proxy, by the one user that may do everything.
    fn control(&self) -> PostgresControl;

    /// Its certificate's, and a client's.
    fn certificates(&self) -> &Certificates;
}

/// Whether a PostgreSQL can be had.
///
/// # Errors
/// Why not, and what to do about it: the reason to show for ignored cases.
pub async fn available() -> Result<(), String> {
    match Source::from_env()? {
        Source::Process => process::available(),
        #[cfg(feature = "docker")]
        Source::Docker => super::docker::available().await,
    }
}

/// Starts a PostgreSQL and waits until it answers.
///
/// # Errors
/// It did not start.
pub async fn start(config: PostgresConfig) -> Result<Box<dyn Postgres>, String> {
    match Source::from_env()? {
        Source::Process => Ok(Box::new(process::PostgresServer::start(config).await?)),
        #[cfg(feature = "docker")]
        Source::Docker => Ok(Box::new(docker::DockerPostgres::start(config).await?)),
    }
}
