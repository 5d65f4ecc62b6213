//! DockerRedis: the same Redis in a container, for machines that have Docker but not the program.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
};

use async_trait::async_trait;
use redis::ConnectionAddr;
use testcontainers_modules::{
    redis::Redis,
    testcontainers::{
        ContainerAsync, ContainerRequest, ImageExt,
        core::{IntoContainerPort, client::docker_client_instance},
        runners::AsyncRunner,
    },
};
use tokio::runtime::Handle;

use crate::{
    redis_config::RedisConfig,
    redis_control::control,
    server::{LIMIT, Server, eventually, free_port},
};

/// Every image of the suite: the backend and the tag. The images' own defaults are years old.
pub const IMAGES: &[(&str, &str)] = &[("redis", "7.0")];

/// The plain port inside the container, over which the tests control it.
const PLAIN: u16 = 6379;
/// The port for TLS inside the container.
const TLS: u16 = 6380;

fn tag(backend: &str) -> Result<&'static str, String> {
    let image = IMAGES.iter().find(|(name, _)| *name == backend);
    image.map(|(_, tag)| *tag).ok_or_else(|| format!("no image for `{backend}`"))
}

/// Whether a Docker engine answers.
///
/// # Errors
/// None does: why.
pub async fn available() -> Result<(), String> {
    let no_engine = |error: &dyn fmt::Display| format!("no Docker engine answers: {error}");
    let docker = docker_client_instance().await.map_err(|error| no_engine(&error))?;
    docker.ping().await.map(drop).map_err(|error| no_engine(&error))
}

/// A Redis in a container, on loopback ports of this machine. Dropping it removes the container.
///
/// Use it on one Tokio runtime, which must still run when it is dropped.
#[derive(Debug)]
pub struct DockerRedis {
    config: RedisConfig,
    /// Taken out by `drop` only.
    container: Option<ContainerAsync<Redis>>,
    plain: AtomicU16,
    tls: AtomicU16,
    runtime: Handle,
}

impl DockerRedis {
    /// Starts a container and waits until the server answers on this machine's side.
    ///
    /// # Errors
    /// No engine, no image, a refused configuration, or no answer in time.
    pub async fn start(config: RedisConfig) -> Result<Self, String> {
        let mut attempts = 0;
        let container = loop {
            attempts += 1;
            match request(&config)?.start().await {
                Ok(container) => break container,
                // Somebody took a port between the question and the start.
                Err(error) if error.to_string().contains("already allocated") && attempts < 10 => {}
                Err(error) => return Err(format!("redis container: {error}")),
            }
        };
        let server = Self {
            config,
            container: Some(container),
            plain: AtomicU16::new(0),
            tls: AtomicU16::new(0),
            runtime: Handle::current(),
        };
        server.ready().await?;
        Ok(server)
    }

    fn container(&self) -> Result<&ContainerAsync<Redis>, String> {
        self.container.as_ref().ok_or_else(|| "the container is gone".to_owned())
    }

    /// Reads the ports and waits for an answer.
    async fn ready(&self) -> Result<(), String> {
        let container = self.container()?;
        for (inside, port) in [(PLAIN, &self.plain), (TLS, &self.tls)] {
            let outside = container.get_host_port_ipv4(inside.tcp()).await;
            port.store(outside.map_err(|error| format!("redis container: {error}"))?, Ordering::SeqCst);
        }
        eventually("the redis container to answer", LIMIT, || self.command(&[b"PING"])).await.map(drop)
    }

    async fn is_running(&self) -> Result<bool, String> {
        self.container()?.is_running().await.map_err(|error| format!("redis container: {error}"))
    }

    async fn wait_until_gone(&self) -> Result<(), String> {
        eventually("the redis container to end", LIMIT, || async {
            if self.is_running().await? { Err("still running".to_owned()) } else { Ok(()) }
        })
        .await
    }
}

/// A container with the configuration, and the certificates, copied into it.
fn request(config: &RedisConfig) -> Result<ContainerRequest<Redis>, String> {
    let mut text = config.render();
    text += &format!("protected-mode no\nport {PLAIN}\n");
    let mut request = Redis::default().with_tag(tag("redis")?);
    for (setting, file) in config.tls_files() {
        let inside = format!("/{setting}.pem");
        text += &format!("{setting} {inside}\n");
        let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        request = request.with_copy_to(inside, bytes);
    }
    if config.is_tls() {
        text += &format!("tls-port {TLS}\n");
    }
    let request = request
        .with_mapped_port(free_port()?, PLAIN.tcp())
        .with_mapped_port(free_port()?, TLS.tcp())
        .with_host_config_modifier(|host| {
            // Without an address the engine publishes a port to the whole network.
            for binding in
                host.port_bindings.iter_mut().flat_map(|ports| ports.values_mut()).flatten().flatten()
            {
                binding.host_ip = Some(Ipv4Addr::LOCALHOST.to_string());
            }
        })
        .with_copy_to("/redis.conf", text.into_bytes())
        .with_cmd(["redis-server", "/redis.conf"]);
    Ok(request)
}

#[async_trait]
impl Server for DockerRedis {
    fn addr(&self) -> SocketAddr {
        let port = if self.config.is_tls() { &self.tls } else { &self.plain };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.load(Ordering::SeqCst)))
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        self.config.url_at(addr)
    }

    async fn stop(&self) -> Result<(), String> {
        if !self.is_running().await? {
            return Ok(());
        }
        // A paused container cannot be stopped; one that is not paused refuses to go on.
        let _ = self.container()?.unpause().await;
        let limit = i32::try_from(LIMIT.as_secs()).ok();
        self.container()?
            .stop_with_timeout(limit)
            .await
            .map_err(|error| format!("redis container: {error}"))?;
        self.wait_until_gone().await
    }

    async fn kill(&self) -> Result<(), String> {
        if !self.is_running().await? {
            return Ok(());
        }
        let container = self.container()?;
        let _ = container.unpause().await;
        let docker = docker_client_instance().await.map_err(|error| error.to_string())?;
        docker
            .kill_container(container.id(), None)
            .await
            .map_err(|error| format!("redis container: {error}"))?;
        self.wait_until_gone().await
    }

    async fn start_again(&self) -> Result<(), String> {
        if self.is_running().await? {
            return Err("the redis container is still running".to_owned());
        }
        self.container()?.start().await.map_err(|error| format!("redis container: {error}"))?;
        self.ready().await
    }

    async fn pause(&self) -> Result<(), String> {
        self.container()?.pause().await.map_err(|error| format!("redis container: {error}"))
    }

    async fn resume(&self) -> Result<(), String> {
        self.container()?.unpause().await.map_err(|error| format!("redis container: {error}"))
    }

    async fn command(&self, args: &[&[u8]]) -> Result<redis::Value, String> {
        let addr = ConnectionAddr::Tcp(Ipv4Addr::LOCALHOST.to_string(), self.plain.load(Ordering::SeqCst));
        control(addr, RedisConfig::control_user(), args).await
    }
}

impl Drop for DockerRedis {
    fn drop(&mut self) {
        // Removing a container takes a runtime, and a drop may come from any thread.
        let _entered = self.runtime.enter();
        drop(self.container.take());
    }
}

#[cfg(test)]
mod tests;
