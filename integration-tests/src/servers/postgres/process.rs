//! PostgresServer: a private `postgres` process, with a copy of the run's template for its data.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use broker_conformance::{free_port, wait::eventually};
use tempfile::TempDir;

use super::{
    NEEDS, Postgres,
    account::Account,
    config::{APP, CONTROL, PostgresConfig, hosts, tls_files},
    control::PostgresControl,
    postmaster::Postmaster,
    template,
};
use crate::servers::{
    Host, LIMIT, Server,
    certificates::Certificates,
    files::remove,
    process::{find, last_lines},
};

/// Whether this machine has the programs, and a user to run them as.
///
/// # Errors
/// It has not: how to get them.
pub fn available() -> Result<(), String> {
    find(&NEEDS)?;
    Account::find().map(drop)
}

/// The directory of the server's programs.
pub(crate) fn programs() -> Result<PathBuf, String> {
    let server = find(&NEEDS)?;
    // One on the `PATH` may be a link to where the others are.
    let server = server.canonicalize().map_err(|error| format!("{}: {error}", server.display()))?;
    server.parent().map(Path::to_owned).ok_or_else(|| format!("{}: in no directory", server.display()))
}

/// A `postgres` process with a directory of its own, on a loopback port, another after each start, and on a Unix socket,
/// over which the tests control it. Dropping it kills the server; it also ends when the process of the test does.
#[derive(Debug)]
pub struct PostgresServer {
    // First: the processes end before their directory does.
    postmaster: Postmaster,
    config: PostgresConfig,
    account: Account,
    certificates: Certificates,
    addr: Mutex<SocketAddr>,
    dir: TempDir,
}

impl PostgresServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// The programs are missing, or it did not answer in time. The message has the last lines of its log.
    pub async fn start(config: PostgresConfig) -> Result<Self, String> {
        let server = Self::new(config)?;
        server.start_again().await?;
        Ok(server)
    }

    /// Starts a standby of another one, which follows it from here on.
    ///
    /// # Errors
    /// As [`start`](Self::start), or no copy of the other could be had.
    pub(crate) async fn standby_of(primary: &Self, config: PostgresConfig) -> Result<Self, String> {
        let server = Self::new(config)?;
        server.follow(primary).await?;
        Ok(server)
    }

    /// Starts it, while it does not run, as a standby of another one with a copy of its data.
    ///
    /// # Errors
    /// As [`start`](Self::start), or no copy could be had.
    pub(crate) async fn follow(&self, primary: &Self) -> Result<(), String> {
        let data = self.data();
        let mut copy = self.account.command(&programs()?.join("pg_basebackup"));
        copy.args(["-U", CONTROL, "-h"]).arg(primary.dir.path());
        copy.args(["-p", &primary.addr().port().to_string(), "--write-recovery-conf", "--checkpoint=fast"]);
        copy.args(["--no-sync", "-D"]).arg(&data);
        let copied = tokio::task::spawn_blocking(move || {
            remove(&data)?;
            template::finish(&mut copy)
        });
        copied.await.map_err(|error| error.to_string())??;
        self.start_with_data().await
    }

    fn new(config: PostgresConfig) -> Result<Self, String> {
        available()?;
        let account = Account::find()?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Self {
            postmaster: Postmaster::new(),
            config,
            account,
            certificates: Certificates::new()?,
            addr: Mutex::new(nowhere),
            dir: template::new_dir(account)?,
        };
        server.write_files()?;
        Ok(server)
    }

    /// The certificates as the server wants them, its own and closed to others; and who may come.
    fn write_files(&self) -> Result<(), String> {
        for (setting, file) in tls_files(&self.certificates) {
            self.write(setting, &fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?)?;
        }
        self.write("hosts", hosts("127.0.0.1/32").as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.dir.path().join(name);
        let failed = |error| format!("{}: {error}", path.display());
        fs::write(&path, bytes).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        self.account.own(&path)
    }

    /// Whether it was started and has not ended.
    pub(crate) fn is_running(&self) -> Result<bool, String> {
        Ok(self.postmaster.ended()?.is_none())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn saved(&self) -> PathBuf {
        self.dir.path().join("saved")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("postgres.log")
    }

    fn command(&self, port: u16) -> Result<Command, String> {
        let mut command = self.account.command(&programs()?.join(&NEEDS.program));
        command.stdin(Stdio::null()).arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        let files =
            tls_files(&self.certificates).map(|(setting, _)| (setting, self.dir.path().join(setting)));
        for (setting, file) in files.into_iter().chain([("hba_file", self.dir.path().join("hosts"))]) {
            command.args(["-c", &format!("{setting}={}", file.display())]);
        }
        for (setting, value) in self.config.settings() {
            command.args(["-c", &format!("{setting}={value}")]);
        }
        Ok(command)
    }

    /// Starts it with the data that it has, and waits until it answers.
    async fn start_with_data(&self) -> Result<(), String> {
        if self.postmaster.ended()?.is_none() {
            return Err("the postgres is still running".to_owned());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Err(reason) = self.start_once().await else { return Ok(()) };
            self.postmaster.kill().await?;
            // Somebody took the port between the question and the start; or what a killed server shared among its
            // processes is not free yet.
            let passes = ["Address already in use", "still in use", "is already in use"];
            if !passes.iter().any(|part| reason.contains(part)) || attempts == 50 {
                return Err(reason);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn start_once(&self) -> Result<(), String> {
        let port = match self.addr().port() {
            port if port != 0 && self.config.stays_at_its_port() => port,
            _ => free_port()?,
        };
        self.postmaster.start(&mut self.command(port)?, &self.log())?;
        let control = PostgresControl::at_socket(self.dir.path(), port);
        // The answer comes over this server's own socket: whoever else has the port cannot give it.
        let answer = eventually("postgres to answer", LIMIT, || async {
            match self.postmaster.ended()? {
                Some(status) => Ok(Err(format!("postgres ended with {status}"))),
                None => control.ask(CONTROL_DATABASE, "SELECT 1").await.map(Ok),
            }
        });
        match answer.await {
            Ok(Ok(_)) => {
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                *self.addr.lock().unwrap_or_else(PoisonError::into_inner) = addr;
                Ok(())
            }
            Ok(Err(reason)) | Err(reason) => Err(format!("{reason}\n{}", last_lines(&self.log()))),
        }
    }
}

/// A database that every server has.
const CONTROL_DATABASE: &str = "postgres";

#[async_trait]
impl Server for PostgresServer {
    /// Elsewhere after each start, unless it is to stay, so that nobody finds it before it is set up.
    fn addr(&self) -> SocketAddr {
        *self.addr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        format!("postgres://{APP}@{addr}/{APP}")
    }

    fn host(&self) -> &dyn Host {
        &self.postmaster
    }

    async fn start_again(&self) -> Result<(), String> {
        if self.postmaster.ended()?.is_none() {
            return Err("the postgres is still running".to_owned());
        }
        if !(self.config.is_durable() && self.data().is_dir()) {
            template::copy_to(self.data(), programs()?, self.account).await?;
        }
        self.start_with_data().await
    }

    /// As they are if it is killed now.
    async fn save_data(&self) -> Result<(), String> {
        self.pause().await?;
        let copied = template::replace(self.saved(), self.data()).await;
        self.resume().await?;
        copied
    }

    async fn restore_data(&self) -> Result<(), String> {
        if !self.saved().is_dir() {
            return Err("nothing was saved".to_owned());
        }
        self.kill().await?;
        template::replace(self.data(), self.saved()).await?;
        self.start_with_data().await
    }
}

#[async_trait]
impl Postgres for PostgresServer {
    fn control(&self) -> PostgresControl {
        PostgresControl::at_socket(self.dir.path(), self.addr().port())
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }
}

#[cfg(test)]
mod tests;
