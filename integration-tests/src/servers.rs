//! Servers: what every test server can do, and the one place that decides where servers come from.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `BROKER_TEST_SERVERS=process` | Server programs of this machine, each on a free loopback port (the default). |
//! | `BROKER_TEST_SERVERS=docker` | Containers; needs the feature `docker`. |
//! | `BROKER_TEST_REDIS_URL=redis://…` | One Redis that runs already. It is never stopped: such cases are ignored. |
//!
//! Each backend has a folder below this one, with its `server.toml`, which says what its tests need; see [`Needs`].
//! Servers end when they are dropped. A `static`, or `std::process::exit` while one is alive, leaves it running.

use std::{env, fmt, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;

pub mod certificates;
#[cfg(feature = "docker")]
pub(crate) mod docker;
pub(crate) mod files;
pub mod nats;
pub(crate) mod process;
pub mod rabbitmq;
pub mod redis;

/// How long a server may take to start, stop or answer, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a server runs in: a process, or a container.
#[async_trait]
pub trait Host: fmt::Debug + Send + Sync {
    /// Stops it in good order and waits until it is gone. Nothing happens if it is gone already.
    async fn stop(&self) -> Result<(), String>;

    /// Kills it at once and waits until it is gone. Nothing happens if it is gone already.
    async fn kill(&self) -> Result<(), String>;

    /// Freezes it: connections stay open, nothing answers.
    async fn pause(&self) -> Result<(), String>;

    /// Ends a [`pause`](Self::pause).
    async fn resume(&self) -> Result<(), String>;
}

/// A running server that a test may break. Shared by reference; every call states its own failure.
#[async_trait]
pub trait Server: fmt::Debug + Send + Sync {
    /// Where clients reach it now. Read it again after [`start_again`](Self::start_again).
    fn addr(&self) -> SocketAddr;

    /// The URL of this server as reached through `addr`: its own address, or that of a proxy before it.
    fn url_at(&self, addr: SocketAddr) -> String;

    /// What it runs in.
    fn host(&self) -> &dyn Host;

    /// Starts the server after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it answers. It is empty,
    /// unless it was set up to keep its data.
    async fn start_again(&self) -> Result<(), String>;

    /// As [`Host::stop`].
    async fn stop(&self) -> Result<(), String> {
        self.host().stop().await
    }

    /// As [`Host::kill`].
    async fn kill(&self) -> Result<(), String> {
        self.host().kill().await
    }

    /// As [`Host::pause`].
    async fn pause(&self) -> Result<(), String> {
        self.host().pause().await
    }

    /// As [`Host::resume`].
    async fn resume(&self) -> Result<(), String> {
        self.host().resume().await
    }
}

/// Where test servers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Server programs of this machine.
    Process,
    /// Containers.
    #[cfg(feature = "docker")]
    Docker,
}

impl Source {
    /// The source that the environment asks for.
    ///
    /// # Errors
    /// The variable has a value that means nothing, or this build has no containers.
    pub fn from_env() -> Result<Self, String> {
        match env::var("BROKER_TEST_SERVERS").as_deref() {
            Err(_) | Ok("" | "process") => Ok(Self::Process),
            #[cfg(feature = "docker")]
            Ok("docker") => Ok(Self::Docker),
            #[cfg(not(feature = "docker"))]
            Ok("docker") => {
                Err("built without the feature `docker`: run `cargo xtask test --docker`".to_owned())
            }
            Ok(other) => Err(format!("BROKER_TEST_SERVERS is `{other}`: must be `process` or `docker`")),
        }
    }

    /// Whether servers are processes of this machine.
    #[must_use]
    pub fn is_process() -> bool {
        Self::from_env() == Ok(Self::Process)
    }
}

/// What the tests of a backend need, as its `server.toml` says. `cargo xtask test` reads the same file.
#[derive(Clone, Debug, Deserialize)]
pub struct Needs {
    /// The program that the tests start.
    pub program: String,
    /// The system package that has it, where there is one that is recent enough.
    pub apt: Option<String>,
    /// A Python wheel that has it, where there is none.
    pub wheel: Option<Wheel>,
    /// The container image that serves instead.
    pub image: Option<Image>,
}

/// A Python wheel with a program among its scripts.
#[derive(Clone, Debug, Deserialize)]
pub struct Wheel {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
}

/// A container image.
#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// The version of the server. An image's own default is years old.
    pub tag: String,
}

impl Needs {
    /// Reads a `server.toml`.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn read(text: &str) -> Self {
        toml::from_str(text).expect("a server.toml")
    }
}

/// Ends the servers that are still held by a case that hangs. Programs end with this process, containers do not.
pub fn end() {
    #[cfg(feature = "docker")]
    docker::end();
}
