//! NatsServer: a private `nats-server` process for one test.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use broker_conformance::{free_port, wait::eventually};
use tempfile::TempDir;

use crate::servers::{
    Host, LIMIT, Server,
    files::{remove, replace},
    nats::{
        NEEDS, Nats,
        config::NatsConfig,
        control::{ask, greets},
    },
    process::{Process, last_lines},
};

/// The program: on the `PATH`, or where `cargo xtask test` puts it.
///
/// # Errors
/// This machine has none: how to get it.
pub fn program() -> Result<PathBuf, String> {
    let (program, path) = (&NEEDS.program, env::var_os("PATH").unwrap_or_default());
    let installed = NEEDS.wheel.as_ref().map(|wheel| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        root.join(format!("target/servers/{program}-{}", wheel.version)).join(program)
    });
    let mut places = env::split_paths(&path).map(|dir| dir.join(program)).chain(installed);
    places.find(|place| place.is_file()).ok_or_else(|| {
        format!(
            "no `{program}` on the PATH: run `cargo xtask test`, which installs it, or install it yourself"
        )
    })
}

/// A `nats-server` process with a directory of its own. Dropping it kills the process.
///
/// It listens on two loopback ports, the same after a restart: for clients, and for questions over HTTP.
#[derive(Debug)]
pub struct NatsServer {
    config: Mutex<NatsConfig>,
    addr: SocketAddr,
    monitor: SocketAddr,
    process: Process,
    dir: TempDir,
}

impl NatsServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// The program is missing, refused the configuration, or did not answer in time. The message has the
    /// last lines of its log.
    pub async fn start(config: NatsConfig) -> Result<Self, String> {
        let mut attempts = 0;
        loop {
            let dir = tempfile::Builder::new().prefix("nats-").tempdir();
            let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
            let [addr, monitor] =
                [free_port()?, free_port()?].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            let process = Process::new(&NEEDS.program);
            let server = Self { config: Mutex::new(config.clone()), addr, monitor, process, dir };
            attempts += 1;
            match server.start_again().await {
                Ok(()) => return Ok(server),
                // Somebody took a port between the question and the start; that for the cluster is not ours to choose.
                Err(reason) if reason.contains("router port") => return Err(reason),
                Err(reason) if reason.contains("address already in use") && attempts < 10 => {}
                Err(reason) => return Err(reason),
            }
        }
    }

    fn config(&self) -> MutexGuard<'_, NatsConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_config(&self) -> Result<(), String> {
        let files = self.config().tls_files();
        let files: Vec<_> =
            files.iter().map(|(setting, file)| (*setting, file.display().to_string())).collect();
        let [addr, monitor] = [self.addr, self.monitor].map(|addr| addr.to_string());
        let mut text = self.config().render(&addr, &monitor, &self.store().display().to_string(), &files);
        // By its name it is known from whoever else may have the port.
        text += &format!("server_name: {:?}\n", self.dir.path().display().to_string());
        fs::write(self.dir.path().join("nats.conf"), text).map_err(|error| format!("nats.conf: {error}"))
    }

    /// Where JetStream keeps its data.
    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Where a copy of them is.
    fn copy(&self) -> PathBuf {
        self.dir.path().join("copy")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("nats.log")
    }

    /// When the configuration in force was read.
    async fn config_time(&self) -> Result<String, String> {
        let page = ask(self.monitor, "varz").await?;
        if page["server_name"] != self.dir.path().display().to_string() {
            return Err("somebody else answers".to_owned());
        }
        Ok(page["config_load_time"].to_string())
    }

    async fn until_it_answers(&self) -> Result<(), String> {
        let answer = eventually("nats-server to answer", LIMIT, || async {
            match self.process.ended()? {
                Some(status) => Ok(Err(format!("nats-server ended with {status}"))),
                None => self.config_time().await.map(Ok),
            }
        });
        answer.await?.map(drop)?;
        let config = self.config().clone();
        tokio::select! {
            greeted = greets(self.addr, &config) => greeted,
            // One that has no port for the other members of a cluster answers before it ends.
            Ok(()) = self.process.wait_until_gone() => Err("nats-server has ended".to_owned()),
        }
    }
}

#[async_trait]
impl Server for NatsServer {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        self.config().url_at(addr)
    }

    fn host(&self) -> &dyn Host {
        &self.process
    }

    async fn start_again(&self) -> Result<(), String> {
        self.write_config()?;
        if !self.config().is_durable() {
            remove(&self.store())?;
        }
        let mut command = Command::new(program()?);
        command.arg("--config").arg(self.dir.path().join("nats.conf")).stdin(Stdio::null());
        self.process.start(&mut command, &self.log())?;
        match self.until_it_answers().await {
            Ok(()) => Ok(()),
            Err(reason) => {
                let log = last_lines(&self.log());
                self.kill().await?;
                Err(format!("{reason}\n{log}"))
            }
        }
    }

    async fn save_data(&self) -> Result<(), String> {
        self.stop().await?;
        replace(&self.copy(), &self.store())?;
        self.start_again().await
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.kill().await?;
        replace(&self.store(), &self.copy())?;
        self.start_again().await
    }
}

#[async_trait]
impl Nats for NatsServer {
    fn monitor(&self) -> SocketAddr {
        self.monitor
    }

    async fn reconfigure(&self, config: NatsConfig) -> Result<(), String> {
        let before = self.config_time().await?;
        *self.config() = config;
        self.write_config()?;
        self.process.signal("HUP")?;
        eventually("the new configuration", LIMIT, || async {
            if self.config_time().await? == before { Err(last_lines(&self.log())) } else { Ok(()) }
        })
        .await
    }

    async fn retire(&self) -> Result<(), String> {
        self.process.signal("USR2")
    }
}

#[cfg(test)]
mod tests;
