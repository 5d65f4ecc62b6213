//! RabbitServer: a private `rabbitmq-server` process. It takes some seconds to start: see `pool`.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    process::{Process, last_lines, leashed, on_path},
    rabbitmq_control::RabbitControl,
    server::{LIMIT, eventually, free_port},
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
    on_path("rabbitmq-server", "rabbitmq-server")?;
    on_path("epmd", "erlang-base")
}

/// A `rabbitmq-server` process with a directory of its own, on loopback ports. Dropping it kills the process;
/// it also ends when the process of the test does.
#[derive(Debug)]
pub struct RabbitServer {
    dir: TempDir,
    server: Process,
    /// The Erlang port mapper, which the server would else start as a daemon, and leave behind.
    mapper: Process,
    place: Mutex<Place>,
    starts: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    amqp: SocketAddr,
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
            server: Process::new("rabbitmq-server"),
            mapper: Process::new("epmd"),
            place: Mutex::new(Place { amqp: nowhere, http: nowhere }),
            starts: AtomicU32::new(0),
        };
        server.start_again().await?;
        Ok(server)
    }

    fn place(&self) -> Place {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients reach it now: elsewhere after each start, so that nobody finds it before it is set up.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.place().amqp
    }

    /// Its management interface.
    #[must_use]
    pub fn control(&self) -> RabbitControl {
        RabbitControl::new(self.place().http)
    }

    /// Whether the process is there, running or paused.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.server.ended(), Ok(None))
    }

    /// Closes every connection a user has now, all at the same time. The management interface would close one
    /// after the other, and wait for a long time for one that its client has given up meanwhile.
    ///
    /// # Errors
    /// It is not running, or one does not end.
    pub async fn close_connections(&self, user: &str) -> Result<(), String> {
        let control = self.control();
        let names = control.connections(user).await?;
        self.evaluate(&format!(
            "[spawn(fun() -> rabbit_networking:close_connection(element(6, C), \"test\") end) \
             || C <- rabbit_connection_tracking:list_of_user(<<\"{user}\">>)]"
        ))?;
        eventually("the connections to end", LIMIT, || async {
            let left = control.connections(user).await?;
            if names.iter().any(|name| left.contains(name)) { Err(format!("{left:?}")) } else { Ok(()) }
        })
        .await
    }

    /// Kills the server at once and waits until it is gone. Nothing happens if it is gone already.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill(&self) -> Result<(), String> {
        self.server.kill().await?;
        self.mapper.let_go();
        Ok(())
    }

    /// Has the server evaluate an Erlang expression; the answer goes into its log.
    ///
    /// # Errors
    /// It is not running.
    pub fn evaluate(&self, expression: &str) -> Result<(), String> {
        self.server.tell(&format!("{expression}."))
    }

    /// Freezes the server: connections stay open, nothing answers.
    ///
    /// # Errors
    /// It is not running.
    pub fn pause(&self) -> Result<(), String> {
        self.server.signal("STOP")
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    /// It is not running.
    pub fn resume(&self) -> Result<(), String> {
        self.server.signal("CONT")
    }

    /// Starts the server after [`kill`](Self::kill), empty, and waits until it answers.
    ///
    /// # Errors
    /// It runs already, or did not answer in time.
    pub async fn start_again(&self) -> Result<(), String> {
        if self.is_alive() {
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

    async fn start_once(&self) -> Result<(), String> {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.path().join(start.to_string());
        let [amqp, http, peers, mapper] = [free_port()?, free_port()?, free_port()?, free_port()?];
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        write(&dir.join("rabbitmq.conf"), &config(amqp, http))?;
        write(&dir.join("enabled_plugins"), "[rabbitmq_management].\n")?;

        let mut command = leashed("sh");
        // The mapper itself does not look at its input; the shell does.
        command.args(["-c", &format!("epmd -port {mapper} -address 127.0.0.1 & cat; kill $!")]);
        self.mapper.start(&mut command, &dir.join("epmd.log"))?;

        let log = dir.join("server.log");
        let mut command = leashed(if Path::new(UNWRAPPED).is_file() { UNWRAPPED } else { "rabbitmq-server" });
        environment(&mut command, &dir, amqp, peers, mapper);
        self.server.start(&mut command, &log)?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let place = Place { amqp: at(amqp), http: at(http) };
        let control = RabbitControl::new(place.http);
        let listening = format!("health/checks/port-listener/{amqp}");
        let answer = eventually("rabbitmq-server to answer", START_LIMIT, || async {
            match self.server.ended()? {
                Some(status) => Ok(Err(format!("rabbitmq-server ended with {status}"))),
                None => control.get(&listening).await.map(Ok),
            }
        });
        match answer.await {
            Ok(Ok(_)) => {
                *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
                Ok(())
            }
            Ok(Err(reason)) | Err(reason) => Err(format!("{reason}\n{}", last_lines(&log))),
        }
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        // Killed, the shell before it could not take it along.
        self.mapper.let_go();
    }
}

fn config(amqp: u16, http: u16) -> String {
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {http}\n\
         log.console = true\n\
         log.console.level = warning\n\
         log.file = false\n"
    )
}

fn environment(command: &mut Command, dir: &Path, amqp: u16, peers: u16, mapper: u16) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RABBITMQ_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", dir)
        // Without a shell between us and the server: signals reach it, and it ends with its input.
        .env("RABBITMQ_ALLOW_INPUT", "true")
        .env("RABBITMQ_NODENAME", format!("n{amqp}@localhost"))
        .env("RABBITMQ_NODE_PORT", amqp.to_string())
        .env("RABBITMQ_DIST_PORT", peers.to_string())
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"));
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
