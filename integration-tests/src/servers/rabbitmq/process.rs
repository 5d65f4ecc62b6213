//! RabbitServer: a private `rabbitmq-server` process. It takes some seconds to start: see `pool`.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_conformance::{free_port, wait::eventually};
use tempfile::TempDir;

use crate::servers::{
    Host, LIMIT, Server,
    certificates::Certificates,
    files::{remove, replace},
    process::{Process, last_lines, leashed, on_path, on_path_from},
    rabbitmq::{
        NEEDS, Rabbit,
        config::{demanding_listener, tls_files, tls_lines},
        control::RabbitControl,
    },
};

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Where Debian has the program itself. The one on the PATH there is a wrapper that becomes another user, who
/// then owns neither our files nor our cookie.
const UNWRAPPED: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Whether this machine has the program.
///
/// # Errors
/// It has not: how to get it.
pub fn available() -> Result<(), String> {
    on_path(&NEEDS)?;
    on_path_from("epmd", "erlang-base")
}

/// A `rabbitmq-server` process with a directory of its own, on loopback ports. Dropping it kills the process;
/// it also ends when the process of the test does.
#[derive(Debug)]
pub struct RabbitServer {
    dir: TempDir,
    server: Process,
    /// The Erlang port mapper, which the server would else start as a daemon, and leave behind.
    mapper: Process,
    certificates: Certificates,
    place: Mutex<Place>,
    starts: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    amqp: SocketAddr,
    tls: SocketAddr,
    http: SocketAddr,
}

impl RabbitServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// The program is missing, or did not answer in time. The message has the last lines of its log.
    pub async fn start() -> Result<Self, String> {
        available()?;
        let dir = tempfile::Builder::new().prefix("rabbitmq-").tempdir();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Self {
            dir: dir.map_err(|error| format!("no temporary directory: {error}"))?,
            server: Process::new(&NEEDS.program),
            mapper: Process::new("epmd"),
            certificates: Certificates::new()?,
            place: Mutex::new(Place { amqp: nowhere, tls: nowhere, http: nowhere }),
            starts: AtomicU32::new(0),
        };
        server.start_again().await?;
        Ok(server)
    }

    fn place(&self) -> Place {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process is there, running or paused.
    fn has_process(&self) -> bool {
        matches!(self.server.ended(), Ok(None))
    }

    fn config(&self, amqp: u16, tls: u16, http: u16) -> String {
        let tls = tls_lines(&format!("127.0.0.1:{tls}"), &tls_files(&self.certificates));
        format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             {tls}\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {http}\n\
             log.console = true\n\
             log.console.level = warning\n\
             log.file = false\n"
        )
    }

    /// Where its data are, whichever start it is.
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where a copy of them is.
    fn saved(&self) -> PathBuf {
        self.dir.path().join("saved")
    }

    async fn start_once(&self) -> Result<(), String> {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.path().join(start.to_string());
        let [amqp, tls, http, peers, mapper] =
            [free_port()?, free_port()?, free_port()?, free_port()?, free_port()?];
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        write(&dir.join("rabbitmq.conf"), &self.config(amqp, tls, http))?;
        write(&dir.join("enabled_plugins"), "[rabbitmq_management].\n")?;

        let mut command = leashed("sh");
        // The mapper itself does not look at its input; the shell does.
        command.args(["-c", &format!("epmd -port {mapper} -address 127.0.0.1 & cat; kill $!")]);
        self.mapper.start(&mut command, &dir.join("epmd.log"))?;

        let log = dir.join("server.log");
        let mut command = leashed(if Path::new(UNWRAPPED).is_file() { UNWRAPPED } else { &NEEDS.program });
        environment(&mut command, &dir, &self.data(), [amqp, peers, mapper]);
        self.server.start(&mut command, &log)?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let place = Place { amqp: at(amqp), tls: at(tls), http: at(http) };
        let control = RabbitControl::new(place.http);
        let answer = eventually("rabbitmq-server to answer", START_LIMIT, || async {
            match self.server.ended()? {
                Some(status) => Ok(Err(format!("rabbitmq-server ended with {status}"))),
                None => control.listens(amqp).await.map(Ok),
            }
        });
        match answer.await {
            Ok(Ok(())) => {
                *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
                Ok(())
            }
            Ok(Err(reason)) | Err(reason) => Err(format!("{reason}\n{}", last_lines(&log))),
        }
    }
}

#[async_trait]
impl Server for RabbitServer {
    /// Elsewhere after each start, so that nobody finds it before it is set up.
    fn addr(&self) -> SocketAddr {
        self.place().amqp
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        format!("amqp://{addr}")
    }

    fn host(&self) -> &dyn Host {
        &self.server
    }

    async fn stop(&self) -> Result<(), String> {
        self.server.stop().await?;
        self.mapper.let_go();
        Ok(())
    }

    async fn kill(&self) -> Result<(), String> {
        self.server.kill().await?;
        self.mapper.let_go();
        Ok(())
    }

    async fn start_again(&self) -> Result<(), String> {
        if self.has_process() {
            return Err("the rabbitmq-server is still running".to_owned());
        }
        remove(&self.data())?;
        self.start_with_data().await
    }

    /// As they are if it is killed now.
    async fn save_data(&self) -> Result<(), String> {
        self.pause().await?;
        let copied = replace(&self.saved(), &self.data());
        self.resume().await?;
        copied
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.kill().await?;
        replace(&self.data(), &self.saved())?;
        self.start_with_data().await
    }
}

#[async_trait]
impl Rabbit for RabbitServer {
    fn control(&self) -> RabbitControl {
        RabbitControl::new(self.place().http)
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn tls(&self) -> SocketAddr {
        self.place().tls
    }

    async fn demanding_tls(&self) -> Result<SocketAddr, String> {
        let port = free_port()?;
        self.evaluate(&demanding_listener("127.0.0.1", port, &tls_files(&self.certificates))).await?;
        let control = self.control();
        eventually("one more port for TLS", LIMIT, || control.listens(port)).await?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The answer goes into its log. In a function, or its shell would remember variables.
    async fn evaluate(&self, expression: &str) -> Result<(), String> {
        self.server.tell(&format!("(fun() -> {expression} end)()."))
    }

    async fn start_with_data(&self) -> Result<(), String> {
        if self.has_process() {
            return Err("the rabbitmq-server is still running".to_owned());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let outcome = self.start_once().await;
            let Err(reason) = outcome else { return Ok(()) };
            self.kill().await?;
            // Somebody took a port between the question and the start.
            if !reason.contains("eaddrinuse") || attempts == 10 {
                return Err(reason);
            }
        }
    }

    async fn is_alive(&self) -> Result<bool, String> {
        Ok(self.has_process())
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        // Killed, the shell before it could not take it along.
        self.mapper.let_go();
    }
}

fn environment(command: &mut Command, dir: &Path, data: &Path, [amqp, peers, mapper]: [u16; 3]) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RABBITMQ_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", dir)
        // Without a shell between us and the server: signals reach it, and it ends with its input.
        .env("RABBITMQ_ALLOW_INPUT", "true")
        // Data are those of a node of a certain name.
        .env("RABBITMQ_NODENAME", "test@localhost")
        .env("RABBITMQ_NODE_PORT", amqp.to_string())
        .env("RABBITMQ_DIST_PORT", peers.to_string())
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_MNESIA_BASE", data)
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"));
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
