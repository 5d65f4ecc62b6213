//! DockerPostgres: a PostgreSQL in a container.

use std::net::SocketAddr;

use async_trait::async_trait;
use broker_conformance::wait::eventually;
use testcontainers_modules::testcontainers::{GenericImage, ImageExt, core::Mount};

use super::{
    NEEDS, Postgres,
    config::{APP, CONTROL, PostgresConfig, USERS, hosts, tls_files},
    control::PostgresControl,
};
use crate::servers::{
    Host, LIMIT, Server,
    certificates::Certificates,
    docker::{Container, Request, with_file},
};

/// The port inside the container.
const PORT: u16 = 5432;
/// A database that every server has.
const FIRST: &str = "postgres";

/// A PostgreSQL in a container, on a loopback port of this machine. Dropping it removes the container.
#[derive(Debug)]
pub struct DockerPostgres {
    container: Container,
    certificates: Certificates,
}

impl DockerPostgres {
    /// Starts a container and waits until the server answers on this machine's side.
    ///
    /// # Errors
    /// No engine, no image, a refused configuration, or no answer in time.
    pub async fn start(config: PostgresConfig) -> Result<Self, String> {
        let certificates = Certificates::new()?;
        let container =
            Container::start(&NEEDS, &[PORT], |_, image| request(&config, &certificates, image)).await?;
        let server = Self { container, certificates };
        server.ready().await?;
        Ok(server)
    }

    /// Waits for an answer, and makes the users: its data are empty.
    async fn ready(&self) -> Result<(), String> {
        let control = self.control();
        eventually("the postgres container to answer", LIMIT, || control.ask(FIRST, "SELECT 1")).await?;
        for statement in USERS {
            control.run(FIRST, statement).await?;
        }
        Ok(())
    }
}

/// A container with the configuration, and the certificates, copied into it.
fn request(
    config: &PostgresConfig,
    certificates: &Certificates,
    image: GenericImage,
) -> Result<Request, String> {
    // The server takes a key only from a file of its own, closed to others.
    let mut script = "install -d -o postgres /own && install -o postgres -m 600 /given/* /own/ && exec docker-entrypoint.sh postgres".to_owned();
    for (setting, _) in tls_files(certificates) {
        script += &format!(" -c {setting}=/own/{setting}");
    }
    script += " -c hba_file=/own/hosts";
    for (setting, value) in config.settings() {
        script += &format!(" -c {setting}='{value}'");
    }
    // Its data are kept in memory, so that it starts again empty. Newer images have them elsewhere: both are named.
    let mut request = image
        .with_entrypoint("sh")
        .with_cmd(["-c".to_owned(), script])
        .with_env_var("POSTGRES_USER", CONTROL)
        .with_env_var("POSTGRES_DB", FIRST)
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_env_var("PGDATA", "/memory/data")
        .with_mount(Mount::tmpfs_mount("/memory"));
    for (setting, file) in tls_files(certificates) {
        request = with_file(request, &file, &format!("/given/{setting}"))?;
    }
    Ok(request.with_copy_to("/given/hosts", hosts("all").into_bytes()))
}

#[async_trait]
impl Server for DockerPostgres {
    fn addr(&self) -> SocketAddr {
        self.container.addr(PORT)
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        format!("postgres://{APP}@{addr}/{APP}")
    }

    fn host(&self) -> &dyn Host {
        &self.container
    }

    async fn start_again(&self) -> Result<(), String> {
        self.container.start_again().await?;
        self.ready().await
    }
}

#[async_trait]
impl Postgres for DockerPostgres {
    fn control(&self) -> PostgresControl {
        PostgresControl::at(self.container.addr(PORT))
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }
}
