//! DockerRedis: a Redis in a container.

use std::net::SocketAddr;

use async_trait::async_trait;
use broker_conformance::wait::eventually;
use redis::ConnectionAddr;
use testcontainers_modules::testcontainers::{GenericImage, ImageExt};

use crate::servers::{
    Host, LIMIT, Server, Version,
    docker::{Container, Request, with_file},
    redis::{NEEDS, Redis, config::RedisConfig, control::control},
};

/// The plain port inside the container, over which the tests control it.
const PLAIN: u16 = 6379;
/// The port for TLS inside the container.
const TLS: u16 = 6380;

/// A Redis in a container, on loopback ports of this machine. Dropping it removes the container.
#[derive(Debug)]
pub struct DockerRedis {
    config: RedisConfig,
    container: Container,
}

impl DockerRedis {
    /// Starts a container and waits until the server answers on this machine's side.
    ///
    /// # Errors
    /// No engine, no image, a refused configuration, or no answer in time.
    pub async fn start(config: RedisConfig) -> Result<Self, String> {
        let container =
            Container::start(&NEEDS, &[PLAIN, TLS], |version, image| request(&config, version, image));
        let server = Self { container: container.await?, config };
        server.ready().await?;
        Ok(server)
    }

    /// Waits for an answer.
    async fn ready(&self) -> Result<(), String> {
        eventually("the redis container to answer", LIMIT, || self.command(&[b"PING"])).await.map(drop)
    }
}

/// A container with the configuration, and the certificates, copied into it.
fn request(config: &RedisConfig, version: &Version, image: GenericImage) -> Result<Request, String> {
    let mut text = config.render();
    text += &format!("protected-mode no\nport {PLAIN}\n");
    let program = version.program.as_ref().unwrap_or(&NEEDS.program);
    let mut request = image.with_cmd([program.as_str(), "/redis.conf"]);
    for (setting, file) in config.tls_files() {
        let inside = format!("/{setting}.pem");
        text += &format!("{setting} {inside}\n");
        request = with_file(request, &file, &inside)?;
    }
    if config.is_tls() {
        text += &format!("tls-port {TLS}\n");
    }
    Ok(request.with_copy_to("/redis.conf", text.into_bytes()))
}

#[async_trait]
impl Server for DockerRedis {
    fn addr(&self) -> SocketAddr {
        self.container.addr(if self.config.is_tls() { TLS } else { PLAIN })
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        self.config.url_at(addr)
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
impl Redis for DockerRedis {
    async fn command(&self, args: &[&[u8]]) -> Result<redis::Value, String> {
        let plain = self.container.addr(PLAIN);
        let addr = ConnectionAddr::Tcp(plain.ip().to_string(), plain.port());
        control(addr, RedisConfig::control_user(), args).await
    }
}
