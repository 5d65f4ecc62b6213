//! RedisServer: a private `redis-server` process for one test.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
};

use async_trait::async_trait;
use broker_conformance::{free_port, wait::eventually};
use redis::ConnectionAddr;
use tempfile::TempDir;

use crate::servers::{
    Host, LIMIT, Server,
    files::replace,
    process::{Process, last_lines, on_path},
    redis::{NEEDS, Redis, config::RedisConfig, control::control},
};

/// Whether this machine has the program.
///
/// # Errors
/// It has not: how to get it.
pub fn available() -> Result<(), String> {
    on_path(&NEEDS)
}

/// A `redis-server` process with a directory of its own. Dropping it kills the process.
///
/// It listens on a loopback port, the same after a restart, and on a Unix socket, over which the tests
/// control it: `CLIENT LIST` shows that connection as user `control`.
#[derive(Debug)]
pub struct RedisServer {
    config: RedisConfig,
    addr: SocketAddr,
    process: Process,
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// The program is missing, refused the configuration, or did not answer in time. The message has the
    /// last lines of its log.
    pub async fn start(config: RedisConfig) -> Result<Self, String> {
        available()?;
        let mut attempts = 0;
        loop {
            let dir = tempfile::Builder::new().prefix("redis-").tempdir();
            let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            let server = Self { config: config.clone(), addr, process: Process::new(&NEEDS.program), dir };
            server.write_config()?;
            attempts += 1;
            match server.start_again().await {
                Ok(()) => return Ok(server),
                // Somebody took the port between the question and the start.
                Err(reason) if reason.contains("Address already in use") && attempts < 10 => {}
                Err(reason) => return Err(reason),
            }
        }
    }

    /// The Unix socket on which the server listens beside its port.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Whether the process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.ended().is_ok_and(|ended| ended.is_none())
    }

    fn write_config(&self) -> Result<(), String> {
        let (port, data) = (self.addr.port(), self.data());
        fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        let ports =
            if self.config.is_tls() { format!("port 0\ntls-port {port}") } else { format!("port {port}") };
        let mut text = self.config.render();
        text += &format!("bind 127.0.0.1\n{ports}\ndir \"{}\"\n", data.display());
        text += &format!("unixsocket \"{}\"\nunixsocketperm 700\n", self.socket().display());
        for (setting, file) in self.config.tls_files() {
            text += &format!("{setting} \"{}\"\n", file.display());
        }
        fs::write(self.dir.path().join("redis.conf"), text).map_err(|error| format!("redis.conf: {error}"))
    }

    async fn start_once(&self) -> Result<(), String> {
        let mut command = Command::new(&NEEDS.program);
        command.arg(self.dir.path().join("redis.conf")).stdin(Stdio::null());
        command.args(self.config.is_sentinel().then_some("--sentinel"));
        self.process.start(&mut command, &self.log())?;

        // The answer comes over this server's own socket: whoever else has the port cannot give it.
        let answer = eventually("redis-server to answer", LIMIT, || async {
            match self.process.ended()? {
                Some(status) => Ok(Err(format!("redis-server ended with {status}"))),
                None => self.command(&[b"PING"]).await.map(Ok),
            }
        });
        match answer.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(reason)) | Err(reason) => {
                let log = last_lines(&self.log());
                self.kill().await?;
                Err(format!("{reason}\n{log}"))
            }
        }
    }

    /// What it keeps on disk.
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn saved(&self) -> PathBuf {
        self.dir.path().join("saved")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("redis.log")
    }
}

#[async_trait]
impl Server for RedisServer {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        self.config.url_at(addr)
    }

    fn host(&self) -> &dyn Host {
        &self.process
    }

    async fn start_again(&self) -> Result<(), String> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.start_once().await {
                // A child of a killed server may have its port for a moment.
                Err(reason) if reason.contains("Address already in use") && attempts < 50 => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                done => return done,
            }
        }
    }

    async fn save_data(&self) -> Result<(), String> {
        replace(&self.saved(), &self.data())
    }

    async fn restore_data(&self) -> Result<(), String> {
        if !self.saved().is_dir() {
            return Err("nothing was saved".to_owned());
        }
        self.kill().await?;
        replace(&self.data(), &self.saved())?;
        self.start_again().await
    }
}

#[async_trait]
impl Redis for RedisServer {
    async fn command(&self, args: &[&[u8]]) -> Result<redis::Value, String> {
        control(ConnectionAddr::Unix(self.socket()), RedisConfig::control_user(), args).await
    }
}

#[cfg(test)]
mod tests;
