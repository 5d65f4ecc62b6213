//! RedisServer: a private `redis-server` process for one test.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use redis::ConnectionAddr;
use tempfile::TempDir;

use crate::{
    redis_config::RedisConfig,
    redis_control::control,
    server::{LIMIT, Server, eventually, free_port},
};

/// Whether this machine has the program.
///
/// # Errors
/// It has not: how to get it.
pub fn available() -> Result<(), String> {
    let found = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join("redis-server").is_file());
    if found {
        return Ok(());
    }
    Err("no `redis-server` on the PATH: run `cargo xtask test`, which installs it, or install the package \
         redis-server"
        .to_owned())
}

/// A `redis-server` process with a directory of its own. Dropping it kills the process.
///
/// It listens on a loopback port, the same after a restart, and on a Unix socket, over which the tests
/// control it: `CLIENT LIST` shows that connection as user `control`.
#[derive(Debug)]
pub struct RedisServer {
    config: RedisConfig,
    addr: SocketAddr,
    child: Mutex<Option<Child>>,
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
            let server = Self { config: config.clone(), addr, child: Mutex::new(None), dir };
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

    fn write_config(&self) -> Result<(), String> {
        let (port, dir) = (self.addr.port(), self.dir.path().display());
        let ports =
            if self.config.is_tls() { format!("port 0\ntls-port {port}") } else { format!("port {port}") };
        let mut text = self.config.render();
        text += &format!("bind 127.0.0.1\n{ports}\ndir \"{dir}\"\n");
        text += &format!("unixsocket \"{}\"\nunixsocketperm 700\n", self.socket().display());
        for (setting, file) in self.config.tls_files() {
            text += &format!("{setting} \"{}\"\n", file.display());
        }
        fs::write(self.dir.path().join("redis.conf"), text).map_err(|error| format!("redis.conf: {error}"))
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the process ended, if it has.
    fn ended(&self) -> Result<Option<ExitStatus>, String> {
        let mut child = self.child();
        let Some(running) = child.as_mut() else { return Ok(Some(ExitStatus::default())) };
        let status = running.try_wait().map_err(|error| format!("redis-server: {error}"))?;
        if status.is_some() {
            *child = None;
        }
        Ok(status)
    }

    /// Sends a signal. The shell's own `kill` needs no further program and no unsafe code.
    fn signal(&self, name: &str) -> Result<(), String> {
        let Some(pid) = self.child().as_ref().map(Child::id) else {
            return Err("the redis-server is not running".to_owned());
        };
        let status = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill -s {name} {pid}: {status}")),
            Err(error) => Err(format!("sh: {error}")),
        }
    }

    async fn wait_until_gone(&self) -> Result<(), String> {
        eventually("redis-server to end", LIMIT, || async {
            self.ended()?.map(drop).ok_or_else(|| "still running".to_owned())
        })
        .await
    }

    fn last_log_lines(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
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

    async fn stop(&self) -> Result<(), String> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.signal("TERM")?;
        // A paused process gets the signal only when it goes on; one that has ended already is fine.
        let _ = self.signal("CONT");
        self.wait_until_gone().await
    }

    async fn kill(&self) -> Result<(), String> {
        if let Some(child) = self.child().as_mut() {
            child.kill().map_err(|error| format!("redis-server: {error}"))?;
        }
        self.wait_until_gone().await
    }

    async fn start_again(&self) -> Result<(), String> {
        if self.ended()?.is_none() {
            return Err("the redis-server is still running".to_owned());
        }
        let log = fs::File::create(self.dir.path().join("redis.log"));
        let (output, errors) =
            log.and_then(|log| Ok((log.try_clone()?, log))).map_err(|error| format!("redis.log: {error}"))?;
        let child = Command::new("redis-server")
            .arg(self.dir.path().join("redis.conf"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        *self.child() = Some(child.map_err(|error| format!("redis-server: {error}"))?);

        // The answer comes over this server's own socket: whoever else has the port cannot give it.
        let answer = eventually("redis-server to answer", LIMIT, || async {
            match self.ended()? {
                Some(status) => Ok(Err(format!("redis-server ended with {status}"))),
                None => self.command(&[b"PING"]).await.map(Ok),
            }
        });
        match answer.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(reason)) | Err(reason) => {
                let log = self.last_log_lines();
                self.kill().await?;
                Err(format!("{reason}\n{log}"))
            }
        }
    }

    async fn pause(&self) -> Result<(), String> {
        self.signal("STOP")
    }

    async fn resume(&self) -> Result<(), String> {
        self.signal("CONT")
    }

    async fn command(&self, args: &[&[u8]]) -> Result<redis::Value, String> {
        control(ConnectionAddr::Unix(self.socket()), RedisConfig::control_user(), args).await
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            // Either fails only for a process that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests;
