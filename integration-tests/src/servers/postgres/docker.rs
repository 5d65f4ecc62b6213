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

/// Starts the server by its programs alone, because images differ in what starts it. It takes a key only from a file of
/// its own, closed to others. Its data are kept in memory, so that it starts again empty. What asks the container to end
/// would let the server wait for its clients.
const SCRIPT: &str = r#"
set -e
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
install -d -o postgres /own /memory/data
install -o postgres -m 600 /given/* /own/
setpriv --reuid=postgres --regid=postgres --clear-groups initdb --no-sync --auth=trust -E UTF8 --locale=C.UTF-8 -U "$CONTROL" -D /memory/data
setpriv --reuid=postgres --regid=postgres --clear-groups postgres -D /memory/data -k /tmp "$@" &
server=$!
trap 'kill -s INT $server' TERM
wait $server || wait $server
"#;

/// A container with the configuration, and the certificates, copied into it.
fn request(
    config: &PostgresConfig,
    certificates: &Certificates,
    image: GenericImage,
) -> Result<Request, String> {
    let inside = tls_files(certificates).map(|(setting, _)| (setting, format!("/own/{setting}")));
    let ours = [("hba_file", "/own/hosts"), ("listen_addresses", "*")];
    let ours = ours.map(|(name, value)| (name, value.to_owned()));
    let mut command = ["-c", SCRIPT, "sh"].map(str::to_owned).to_vec();
    for (setting, value) in inside.into_iter().chain(ours).chain(config.settings()) {
        command.extend(["-c".to_owned(), format!("{setting}={value}")]);
    }
    let mut request = image
        .with_entrypoint("sh")
        .with_cmd(command)
        .with_env_var("CONTROL", CONTROL)
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
