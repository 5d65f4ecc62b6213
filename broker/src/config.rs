//! Config: URL and options as one value of a configuration file.

use std::fmt;

use broker_core::{Broker, Options, Result};
use serde::Deserialize;

/// What a configuration file says about the broker.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: broker::Config = toml::from_str(r#"
///     url = "memory:" # in production: "redis://broker.internal/"
///
///     [options]
///     prefix = "shop"
///     heartbeat = "2s"
/// "#)?;
/// let broker = config.connect().await?;
/// # Ok(()) }
/// ```
///
/// An unknown key is an error that lists the valid ones. `Debug` does not show the URL, which may hold a password.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The backend: see [`connect`](crate::connect). Default `memory:`.
    #[serde(default = "memory")]
    pub url: String,
    /// Limits and times.
    #[serde(default)]
    pub options: Options,
}

fn memory() -> String {
    "memory:".to_owned()
}

impl Default for Config {
    fn default() -> Self {
        Self { url: memory(), options: Options::default() }
    }
}

impl Config {
    /// Connects as [`connect_with`](crate::connect_with) does.
    ///
    /// # Errors
    /// As [`connect`](crate::connect).
    pub async fn connect(&self) -> Result<Broker> {
        crate::connect_with(&self.url, self.options.clone()).await
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn a_password_in_the_url_is_not_shown() {
        let config = Config { url: "redis://ada:s3cret@localhost".to_owned(), ..Config::default() };
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
