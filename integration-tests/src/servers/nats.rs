//! NATS: a server of a test's own, wherever it runs.

use std::{net::SocketAddr, sync::LazyLock};

use async_trait::async_trait;

use super::{Needs, Server, Source};

pub mod cluster;
pub mod config;
pub mod control;
#[cfg(feature = "docker")]
pub mod docker;
pub mod process;

use config::NatsConfig;

/// What these tests need.
pub static NEEDS: LazyLock<Needs> = LazyLock::new(|| Needs::read("nats", include_str!("nats/server.toml")));

/// A NATS server, wherever it runs.
#[async_trait]
pub trait Nats: Server {
    /// Where it tells about itself, over HTTP.
    fn monitor(&self) -> SocketAddr;

    /// Gives it another configuration while it runs, and waits until that is in force.
    async fn reconfigure(&self, config: NatsConfig) -> Result<(), String>;

    /// Tells it to end in a while, and to let its clients know (lame duck mode).
    async fn retire(&self) -> Result<(), String>;
}

/// Whether a NATS server can be had.
///
/// # Errors
/// Why not, and what to do about it: the reason to show for ignored cases.
pub async fn available() -> Result<(), String> {
    match Source::from_env()? {
        Source::Process => process::program().map(drop),
        #[cfg(feature = "docker")]
        Source::Docker => super::docker::available().await,
    }
}

/// Starts a NATS server and waits until it answers.
///
/// # Errors
/// It did not start.
pub async fn start(config: NatsConfig) -> Result<Box<dyn Nats>, String> {
    match Source::from_env()? {
        Source::Process => Ok(Box::new(process::NatsServer::start(config).await?)),
        #[cfg(feature = "docker")]
        Source::Docker => Ok(Box::new(docker::DockerNats::start(config).await?)),
    }
}
