//! Redis: a server of a test's own, wherever it runs, or one that runs already.

use std::{env, sync::LazyLock};

use ::redis::Value;
use async_trait::async_trait;

use super::{Needs, Server, Source};

pub mod cluster;
pub mod config;
pub mod control;
#[cfg(feature = "docker")]
pub mod docker;
pub mod process;
pub mod sentinel;

use config::RedisConfig;
use control::ExistingRedis;

/// What these tests need.
pub static NEEDS: LazyLock<Needs> = LazyLock::new(|| Needs::read("redis", include_str!("redis/server.toml")));

/// A Redis, wherever it runs.
#[async_trait]
pub trait Redis: Server {
    /// Runs one command on the server itself, around any proxy, on a connection of its own.
    async fn command(&self, args: &[&[u8]]) -> Result<Value, String>;
}

/// The URL of a Redis that runs already, if the environment names one.
#[must_use]
pub fn existing() -> Option<String> {
    env::var("BROKER_TEST_REDIS_URL").ok()
}

/// Whether a Redis can be had: the one that runs already, or one of a test's own.
///
/// # Errors
/// Why not, and what to do about it: the reason to show for ignored cases.
pub async fn available() -> Result<(), String> {
    match existing() {
        Some(url) => ExistingRedis::connect(&url).await.map(drop),
        None => own_available().await,
    }
}

/// Reaches the Redis that runs already, or starts one and waits until it answers.
///
/// # Errors
/// It did not start, or the existing server would need another configuration.
pub async fn start(config: RedisConfig) -> Result<Box<dyn Redis>, String> {
    match existing() {
        Some(_) if !config.is_default() => {
            Err("this case needs a Redis with a configuration of its own".to_owned())
        }
        Some(url) => Ok(Box::new(ExistingRedis::connect(&url).await?)),
        None => start_own(config).await,
    }
}

/// Whether a Redis of a test's own can be had.
///
/// # Errors
/// As [`available`].
pub async fn own_available() -> Result<(), String> {
    match Source::from_env()? {
        Source::Process => process::available(),
        #[cfg(feature = "docker")]
        Source::Docker => super::docker::available().await,
    }
}

/// Starts a Redis of a test's own, and waits until it answers.
///
/// # Errors
/// It did not start.
pub async fn start_own(config: RedisConfig) -> Result<Box<dyn Redis>, String> {
    match Source::from_env()? {
        Source::Process => Ok(Box::new(process::RedisServer::start(config).await?)),
        #[cfg(feature = "docker")]
        Source::Docker => Ok(Box::new(docker::DockerRedis::start(config).await?)),
    }
}
