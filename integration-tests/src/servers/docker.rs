//! Docker: the same servers in containers, for machines that have an engine but not the programs.

use std::{
    collections::BTreeSet,
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use broker_conformance::{free_port, wait::eventually};
use testcontainers_modules::testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    bollard::query_parameters::{KillContainerOptions, RemoveContainerOptions},
    core::{CmdWaitFor, ExecCommand, IntoContainerPort, client::docker_client_instance},
    runners::AsyncRunner,
};
use tokio::runtime::{Builder, Runtime};

use crate::servers::{Host, LIMIT, Needs, Version};

/// What a container is made of.
pub(crate) type Request = ContainerRequest<GenericImage>;

/// A request with a file of this machine copied to where it is inside.
pub(crate) fn with_file(request: Request, file: &Path, inside: &str) -> Result<Request, String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(request.with_copy_to(inside, bytes))
}

/// Whether a Docker engine answers.
///
/// # Errors
/// None does: why.
pub(crate) async fn available() -> Result<(), String> {
    let no_engine = |error: &dyn fmt::Display| format!("no Docker engine answers: {error}");
    let docker = docker_client_instance().await.map_err(|error| no_engine(&error))?;
    docker.ping().await.map(drop).map_err(|error| no_engine(&error))
}

/// Whether a start failed because a port is taken: by another container, or by another program.
fn is_taken(reason: &str) -> bool {
    reason.contains("already allocated") || reason.contains("already in use")
}

/// The names of all containers of this process that are not removed yet.
static NAMES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn names() -> MutexGuard<'static, BTreeSet<String>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name for one more container.
fn new_name(backend: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("broker-test-{backend}-{}-{number}", std::process::id());
    names().insert(name.clone());
    name
}

/// Removes a container, whatever became of it.
async fn remove(name: &str) {
    if let Ok(docker) = docker_client_instance().await {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        // Fails for one that was never made.
        let _ = docker.remove_container(name, Some(options)).await;
    }
    names().remove(name);
}

/// Removes the containers that somebody still holds who will never let go: a case that hangs.
pub(crate) fn end() {
    let left = names().clone();
    if !left.is_empty() {
        ELSEWHERE.block_on(async {
            for name in &left {
                remove(name).await;
            }
        });
    }
}

/// A runtime for what outlives those of the cases. Nobody drives it between times: who removes a container from
/// within it does so on a thread of the client's own, and waits for that.
static ELSEWHERE: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// A container with some of its ports on loopback ports of this machine. Dropping it removes the container,
/// from wherever that happens.
#[derive(Debug)]
pub(crate) struct Container {
    backend: &'static str,
    name: String,
    /// Each port of the container, and where it is on this machine since the last start.
    ports: Vec<(u16, AtomicU16)>,
    /// Taken out by `drop` only.
    inner: Option<ContainerAsync<GenericImage>>,
}

/// Without an address the engine publishes a port to the whole network.
fn on_loopback(request: Request) -> Request {
    request.with_host_config_modifier(|host| {
        for binding in host.port_bindings.iter_mut().flat_map(|ports| ports.values_mut()).flatten().flatten()
        {
            binding.host_ip = Some(Ipv4Addr::LOCALHOST.to_string());
        }
    })
}

impl Container {
    /// Starts the chosen version of a server, as `request` sets its image up, with those ports of it mapped.
    pub(crate) async fn start(
        needs: &Needs,
        ports: &[u16],
        request: impl Fn(&Version, GenericImage) -> Result<Request, String>,
    ) -> Result<Self, String> {
        let (backend, version) = (needs.backend, needs.version()?);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let name = new_name(backend);
            let image = GenericImage::new(&version.image.name, &version.image.tag);
            let mut request = request(version, image)?.with_container_name(name.clone());
            for port in ports {
                request = request.with_mapped_port(free_port()?, port.tcp());
            }
            match on_loopback(request).start().await {
                Ok(inner) => {
                    let ports = ports.iter().map(|port| (*port, AtomicU16::new(0))).collect();
                    let container = Self { backend, name, ports, inner: Some(inner) };
                    container.find_ports().await?;
                    return Ok(container);
                }
                Err(error) => {
                    // It may have been made, and not started.
                    remove(&name).await;
                    // Somebody took a port between the question and the start: then once more.
                    if !is_taken(&error.to_string()) || attempts == 10 {
                        return Err(format!("{backend} container: {error}"));
                    }
                }
            }
        }
    }

    fn inner(&self) -> Result<&ContainerAsync<GenericImage>, String> {
        self.inner.as_ref().ok_or_else(|| "the container is gone".to_owned())
    }

    fn failed(&self, error: &dyn fmt::Display) -> String {
        format!("{} container: {error}", self.backend)
    }

    /// Asks where the ports of the container are on this machine: elsewhere after every start.
    async fn find_ports(&self) -> Result<(), String> {
        for (inside, outside) in &self.ports {
            let found = self.inner()?.get_host_port_ipv4(inside.tcp()).await;
            outside.store(found.map_err(|error| self.failed(&error))?, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Where a port of the container is on this machine.
    pub(crate) fn addr(&self, inside: u16) -> SocketAddr {
        let port = self.ports.iter().find(|(port, _)| *port == inside);
        let outside = port.map_or(0, |(_, outside)| outside.load(Ordering::SeqCst));
        SocketAddr::from((Ipv4Addr::LOCALHOST, outside))
    }

    pub(crate) async fn is_running(&self) -> Result<bool, String> {
        self.inner()?.is_running().await.map_err(|error| self.failed(&error))
    }

    async fn wait_until_gone(&self) -> Result<(), String> {
        eventually(&format!("the {} container to end", self.backend), LIMIT, || async {
            if self.is_running().await? { Err("still running".to_owned()) } else { Ok(()) }
        })
        .await
    }

    pub(crate) async fn signal(&self, name: &str) -> Result<(), String> {
        let docker = docker_client_instance().await.map_err(|error| error.to_string())?;
        let options = KillContainerOptions { signal: name.to_owned() };
        let sent = docker.kill_container(self.inner()?.id(), Some(options)).await;
        sent.map_err(|error| self.failed(&error))
    }

    /// Runs a command in it, and waits until it has succeeded.
    pub(crate) async fn execute(&self, command: &[&str]) -> Result<(), String> {
        let command = ExecCommand::new(command.iter().copied());
        let command = command.with_cmd_ready_condition(CmdWaitFor::exit_code(0));
        self.inner()?.exec(command).await.map(drop).map_err(|error| self.failed(&error))
    }

    pub(crate) async fn start_again(&self) -> Result<(), String> {
        if self.is_running().await? {
            return Err(self.failed(&"still running"));
        }
        self.inner()?.start().await.map_err(|error| self.failed(&error))?;
        self.find_ports().await
    }
}

#[async_trait]
impl Host for Container {
    async fn stop(&self) -> Result<(), String> {
        if !self.is_running().await? {
            return Ok(());
        }
        // A paused container cannot be stopped; one that is not paused refuses to go on.
        let _ = self.inner()?.unpause().await;
        let limit = i32::try_from(LIMIT.as_secs()).ok();
        self.inner()?.stop_with_timeout(limit).await.map_err(|error| self.failed(&error))?;
        self.wait_until_gone().await
    }

    async fn kill(&self) -> Result<(), String> {
        if !self.is_running().await? {
            return Ok(());
        }
        let _ = self.inner()?.unpause().await;
        self.signal("KILL").await?;
        self.wait_until_gone().await
    }

    async fn pause(&self) -> Result<(), String> {
        self.inner()?.pause().await.map_err(|error| self.failed(&error))
    }

    async fn resume(&self) -> Result<(), String> {
        self.inner()?.unpause().await.map_err(|error| self.failed(&error))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _entered = ELSEWHERE.enter();
        drop(self.inner.take());
        names().remove(&self.name);
    }
}

#[cfg(test)]
mod tests;
