//! DockerRabbit: a RabbitMQ in a container.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use broker_conformance::wait::eventually;
use testcontainers_modules::testcontainers::{GenericImage, ImageExt, core::Mount};

use crate::servers::{
    Host, LIMIT, Server,
    certificates::Certificates,
    docker::{Container, Request, with_file},
    rabbitmq::{
        NEEDS, Rabbit,
        config::{demanding_listener, tls_files, tls_lines},
        control::RabbitControl,
    },
};

const PLAIN: u16 = 5672;
const TLS: u16 = 5671;
const DEMANDING_TLS: u16 = 5673;
const CONTROL: u16 = 15672;
/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A RabbitMQ in a container, on loopback ports of this machine. Dropping it removes the container.
#[derive(Debug)]
pub struct DockerRabbit {
    container: Container,
    certificates: Certificates,
}

impl DockerRabbit {
    /// Starts a container and waits until the server answers on this machine's side.
    ///
    /// # Errors
    /// No engine, no image, or no answer in time.
    pub async fn start() -> Result<Self, String> {
        let certificates = Certificates::new()?;
        let ports = [PLAIN, TLS, DEMANDING_TLS, CONTROL];
        let container = Container::start(&NEEDS, &ports, |_, image| request(&certificates, image));
        let server = Self { container: container.await?, certificates };
        server.ready().await?;
        Ok(server)
    }

    /// Waits for an answer, and enables what the chosen version has beyond its defaults: its data are empty.
    async fn ready(&self) -> Result<(), String> {
        let control = self.control();
        eventually("the rabbitmq container to answer", START_LIMIT, || async {
            control.listens(PLAIN).await?;
            control.listens(TLS).await
        })
        .await?;
        for flag in &NEEDS.version()?.feature_flags {
            self.enable(flag).await?;
        }
        Ok(())
    }

    /// Enables a feature flag. A version may ask for consent to an experimental one, another does not take it.
    async fn enable(&self, flag: &str) -> Result<(), String> {
        let consenting = ["rabbitmqctl", "enable_feature_flag", "--opt-in", flag];
        if self.container.execute(&consenting).await.is_ok() {
            return Ok(());
        }
        self.container.execute(&["rabbitmqctl", "enable_feature_flag", flag]).await
    }
}

/// Where a file for TLS is inside the container.
fn inside(certificates: &Certificates) -> [(&'static str, PathBuf); 3] {
    tls_files(certificates).map(|(setting, _)| (setting, format!("/etc/rabbitmq/{setting}.pem").into()))
}

/// A container with the configuration, and the certificates, copied into it.
fn request(certificates: &Certificates, image: GenericImage) -> Result<Request, String> {
    // Its data is kept in memory, so that it starts again empty.
    let mut request = image.with_mount(Mount::tmpfs_mount("/var/lib/rabbitmq"));
    for ((_, file), (_, inside)) in tls_files(certificates).iter().zip(inside(certificates)) {
        request = with_file(request, file, &inside.display().to_string())?;
    }
    let config = tls_lines(&TLS.to_string(), &inside(certificates));
    Ok(request.with_copy_to("/etc/rabbitmq/conf.d/90-tests.conf", config.into_bytes()))
}

#[async_trait]
impl Server for DockerRabbit {
    fn addr(&self) -> SocketAddr {
        self.container.addr(PLAIN)
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        format!("amqp://{addr}")
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
impl Rabbit for DockerRabbit {
    fn control(&self) -> RabbitControl {
        RabbitControl::new(self.container.addr(CONTROL))
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn tls(&self) -> SocketAddr {
        self.container.addr(TLS)
    }

    async fn demanding_tls(&self) -> Result<SocketAddr, String> {
        // To ask for it twice does no harm.
        self.evaluate(&demanding_listener("0.0.0.0", DEMANDING_TLS, &inside(&self.certificates))).await?;
        let control = self.control();
        eventually("one more port for TLS", LIMIT, || control.listens(DEMANDING_TLS)).await?;
        Ok(self.container.addr(DEMANDING_TLS))
    }

    async fn evaluate(&self, expression: &str) -> Result<(), String> {
        self.container.execute(&["rabbitmqctl", "eval", &format!("{expression}.")]).await
    }

    async fn is_alive(&self) -> Result<bool, String> {
        self.container.is_running().await
    }
}
