//! DockerNats: a NATS server in a container.

use std::{
    fs,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use broker_conformance::wait::eventually;
use tempfile::TempDir;
use testcontainers_modules::testcontainers::{ImageExt, core::Mount};

use crate::servers::{
    Host, LIMIT, Server,
    docker::Container,
    nats::{
        NEEDS, Nats,
        config::NatsConfig,
        control::{ask, greets},
    },
};

const CLIENTS: u16 = 4222;
const MONITOR: u16 = 8222;
/// Where the directory with the configuration is inside the container.
const INSIDE: &str = "/etc/nats";
/// Where JetStream keeps its data inside: in memory, so that they are gone with every end of the server.
const STORE: &str = "/store";

/// A NATS server in a container, on loopback ports of this machine. Dropping it removes the container.
///
/// It reads its configuration from a directory that it shares with this machine, so that it can be changed.
#[derive(Debug)]
pub struct DockerNats {
    config: Mutex<NatsConfig>,
    container: Container,
    dir: TempDir,
}

impl DockerNats {
    /// Starts a container and waits until the server answers on this machine's side.
    ///
    /// # Errors
    /// No engine, no image, a refused configuration, or no answer in time.
    pub async fn start(config: NatsConfig) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("nats-").tempdir();
        let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
        write_config(&dir, &config)?;
        let outside = dir.path().display().to_string();
        let container = Container::start(&NEEDS, &[CLIENTS, MONITOR], |_, image| {
            let image = image.with_mount(Mount::bind_mount(&*outside, INSIDE));
            let image = image.with_mount(Mount::tmpfs_mount(STORE));
            Ok(image.with_cmd(["--config".to_owned(), format!("{INSIDE}/nats.conf")]))
        });
        let server = Self { config: Mutex::new(config), container: container.await?, dir };
        server.ready().await?;
        Ok(server)
    }

    fn config(&self) -> MutexGuard<'_, NatsConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an answer.
    async fn ready(&self) -> Result<(), String> {
        eventually("the nats container to answer", LIMIT, || self.config_time()).await?;
        let config = self.config().clone();
        greets(self.addr(), &config).await
    }

    /// When the configuration in force was read.
    async fn config_time(&self) -> Result<String, String> {
        Ok(ask(self.monitor(), "varz").await?["config_load_time"].to_string())
    }
}

/// Writes the configuration, and the certificates, where the container finds them.
fn write_config(dir: &TempDir, config: &NatsConfig) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.path().display());
    let mut files = Vec::new();
    for (setting, file) in config.tls_files() {
        fs::copy(file, dir.path().join(setting)).map_err(failed)?;
        files.push((setting, format!("{INSIDE}/{setting}")));
    }
    let [clients, monitor] = [CLIENTS, MONITOR].map(|port| format!("0.0.0.0:{port}"));
    let text = config.render(&clients, &monitor, STORE, &files);
    fs::write(dir.path().join("nats.conf"), text).map_err(failed)
}

#[async_trait]
impl Server for DockerNats {
    fn addr(&self) -> SocketAddr {
        self.container.addr(CLIENTS)
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        self.config().url_at(addr)
    }

    fn host(&self) -> &dyn Host {
        &self.container
    }

    async fn start_again(&self) -> Result<(), String> {
        self.container.start_again().await?;
        self.ready().await
    }
}

#[async_trait]
impl Nats for DockerNats {
    fn monitor(&self) -> SocketAddr {
        self.container.addr(MONITOR)
    }

    async fn reconfigure(&self, config: NatsConfig) -> Result<(), String> {
        let before = self.config_time().await?;
        write_config(&self.dir, &config)?;
        *self.config() = config;
        self.container.signal("HUP").await?;
        eventually("the new configuration", LIMIT, || async {
            if self.config_time().await? == before { Err("the old one".to_owned()) } else { Ok(()) }
        })
        .await
    }

    async fn retire(&self) -> Result<(), String> {
        self.container.signal("USR2").await
    }
}
