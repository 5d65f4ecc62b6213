//! Servers: what every test server can do, and the one place that decides where servers come from.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `BROKER_TEST_SERVERS=process` | Server programs of this machine, each on a free loopback port (the default). |
//! | `BROKER_TEST_SERVERS=docker` | Containers; needs the feature `docker`. |
//! | `BROKER_TEST_REDIS_VERSION=valkey-8.1`, … | Which of a backend's versions its containers run; otherwise the first. |
//! | `BROKER_TEST_REDIS_URL=redis://…` | One Redis that runs already. It is never stopped: such cases are ignored. |
//!
//! Each backend has a folder below this one, with its `server.toml`, which says what its tests need; see [`Needs`].
//! Servers end when they are dropped. A `static`, or `std::process::exit` while one is alive, leaves it running.

use std::{env, fmt, fs, net::SocketAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;

pub mod certificates;
pub(crate) mod delay;
#[cfg(feature = "docker")]
pub(crate) mod docker;
pub(crate) mod files;
pub mod haproxy;
pub mod nats;
pub mod postgres;
pub(crate) mod process;
pub mod rabbitmq;
pub mod redis;

/// How long a server may take to start, stop or answer, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Why a case about a server's data needs another.
pub(crate) const NO_DATA: &str =
    "the data of this server are out of reach: it must be a process of this machine";

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

    /// Keeps a copy of the data that it has on disk, in the place of an earlier one.
    async fn save_data(&self) -> Result<(), String> {
        Err(NO_DATA.to_owned())
    }

    /// Kills it, puts that copy in the place of its data, and starts it again.
    async fn restore_data(&self) -> Result<(), String> {
        Err(NO_DATA.to_owned())
    }

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
    /// The backend's name.
    #[serde(skip)]
    pub backend: &'static str,
    /// The program that the tests start.
    pub program: String,
    /// The system package that has it, where there is one that is recent enough.
    pub apt: Option<String>,
    /// Where that package has the program, if not on the `PATH`: in `bin` of a folder for each version below this one.
    pub below: Option<PathBuf>,
    /// A Python wheel that has it, where there is none.
    pub wheel: Option<Wheel>,
    /// What the suite runs on in containers. The first serves where one is enough.
    pub versions: Vec<Version>,
}

/// A Python wheel with a program among its scripts.
#[derive(Clone, Debug, Deserialize)]
pub struct Wheel {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
}

/// A version of a server, as a container image has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    /// Its name in commands.
    pub name: String,
    /// The image.
    pub image: Image,
    /// The program in the image, where it has another name.
    pub program: Option<String>,
    /// What is enabled once the server runs.
    #[serde(default)]
    pub feature_flags: Vec<String>,
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
    /// Reads the `server.toml` of a backend.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn read(backend: &'static str, text: &str) -> Self {
        Self { backend, ..toml::from_str(text).expect("a server.toml") }
    }

    /// The folders with the programs of each installed version, if they have such; the newest first.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = self.below.iter().filter_map(|below| fs::read_dir(below).ok()).flatten().flatten();
        let mut folders: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
            .collect();
        folders.sort_unstable();
        folders.into_iter().rev().map(|(_, folder)| folder.join("bin"))
    }

    /// The version that the environment asks for, or else the first.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn version(&self) -> Result<&Version, String> {
        let variable = format!("BROKER_TEST_{}_VERSION", self.backend.to_uppercase());
        self.find(&variable, env::var(&variable).ok().as_deref())
    }

    fn find(&self, variable: &str, name: Option<&str>) -> Result<&Version, String> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return self.versions.first().ok_or_else(|| format!("no image has {}", self.program));
        };
        self.versions.iter().find(|version| version.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.versions.iter().map(|version| &*version.name).collect();
            format!("{variable} is `{name}`: must be one of {}", names.join(", "))
        })
    }
}

/// Ends the servers that are still held by a case that hangs. Programs end with this process, containers do not.
pub fn end() {
    #[cfg(feature = "docker")]
    docker::end();
}

#[cfg(test)]
mod tests {
    use super::{nats, postgres, rabbitmq, redis};

    #[test]
    fn the_first_version_serves_unless_another_of_the_table_is_named() {
        for needs in [&redis::NEEDS, &nats::NEEDS, &rabbitmq::NEEDS, &postgres::NEEDS] {
            let name = |wanted| needs.find("VARIABLE", wanted).map(|version| &*version.name);
            let [first, .., last] = &needs.versions[..] else { panic!("one version only: {needs:?}") };
            assert_eq!(name(None), Ok(&*first.name));
            assert_eq!(name(Some("")), Ok(&*first.name));
            assert_eq!(name(Some(&last.name)), Ok(&*last.name));
            let error = name(Some("redis-5.0")).unwrap_err();
            assert!(error.contains("VARIABLE is `redis-5.0`") && error.contains(&last.name), "{error}");
        }
    }
}
