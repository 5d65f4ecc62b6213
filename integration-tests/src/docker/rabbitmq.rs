//! DockerRabbit: a RabbitMQ in a container.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use testcontainers_modules::testcontainers::{
    ContainerRequest, GenericImage, ImageExt,
    core::{CmdWaitFor, ExecCommand, Mount},
};

use super::{Container, tag};
use crate::{
    certificates::Certificates,
    rabbitmq_config::{demanding_listener, tls_files, tls_lines},
    rabbitmq_control::RabbitControl,
    server::{LIMIT, Rabbit, Server, eventually},
};

const PLAIN: u16 = 5672;
const TLS: u16 = 5671;
const DEMANDING_TLS: u16 = 5673;
const CONTROL: u16 = 15672;
/// Why the harness does not call what needs a disk.
const IN_MEMORY: &str = "the container keeps its data in memory";
/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A RabbitMQ in a container, on loopback ports of this machine. Dropping it removes the container.
#[derive(Debug)]
pub struct DockerRabbit {
    container: Container<GenericImage>,
    certificates: Certificates,
    /// Where the ports of the container are now.
    plain: AtomicU16,
    tls: AtomicU16,
    demanding_tls: AtomicU16,
    control: AtomicU16,
}

impl DockerRabbit {
    /// Starts a container and waits until the server answers on this machine's side.
    ///
    /// # Errors
    /// No engine, no image, or no answer in time.
    pub async fn start() -> Result<Self, String> {
        let certificates = Certificates::new()?;
        let ports = [PLAIN, TLS, DEMANDING_TLS, CONTROL];
        let container = Container::start("rabbitmq", &ports, || request(&certificates)).await?;
        let [plain, tls, demanding_tls, control] = [const { AtomicU16::new(0) }; 4];
        let server = Self { container, certificates, plain, tls, demanding_tls, control };
        server.ready().await?;
        Ok(server)
    }

    /// Reads the ports and waits for an answer.
    async fn ready(&self) -> Result<(), String> {
        for (inside, port) in [
            (PLAIN, &self.plain),
            (TLS, &self.tls),
            (DEMANDING_TLS, &self.demanding_tls),
            (CONTROL, &self.control),
        ] {
            port.store(self.container.port(inside).await?, Ordering::SeqCst);
        }
        let control = self.control();
        eventually("the rabbitmq container to answer", START_LIMIT, || async {
            control.listens(PLAIN).await?;
            control.listens(TLS).await
        })
        .await
    }
}

fn at(port: &AtomicU16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.load(Ordering::SeqCst)))
}

/// Where a file for TLS is inside the container.
fn inside(certificates: &Certificates) -> [(&'static str, PathBuf); 3] {
    tls_files(certificates).map(|(setting, _)| (setting, format!("/etc/rabbitmq/{setting}.pem").into()))
}

/// A container with the configuration, and the certificates, copied into it.
fn request(certificates: &Certificates) -> Result<ContainerRequest<GenericImage>, String> {
    let image = GenericImage::new("rabbitmq", tag("rabbitmq")?);
    // Its data is kept in memory, so that it starts again empty.
    let mut request = image.with_mount(Mount::tmpfs_mount("/var/lib/rabbitmq"));
    for ((_, file), (_, inside)) in tls_files(certificates).iter().zip(inside(certificates)) {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        request = request.with_copy_to(inside.display().to_string(), bytes);
    }
    let config = tls_lines(&TLS.to_string(), &inside(certificates));
    Ok(request.with_copy_to("/etc/rabbitmq/conf.d/90-tests.conf", config.into_bytes()))
}

#[async_trait]
impl Server for DockerRabbit {
    fn addr(&self) -> SocketAddr {
        at(&self.plain)
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        format!("amqp://{addr}")
    }

    async fn stop(&self) -> Result<(), String> {
        self.container.stop().await
    }

    async fn kill(&self) -> Result<(), String> {
        self.container.kill().await
    }

    async fn start_again(&self) -> Result<(), String> {
        self.container.start_again().await?;
        self.ready().await
    }

    async fn pause(&self) -> Result<(), String> {
        self.container.pause().await
    }

    async fn resume(&self) -> Result<(), String> {
        self.container.resume().await
    }
}

#[async_trait]
impl Rabbit for DockerRabbit {
    fn control(&self) -> RabbitControl {
        RabbitControl::new(at(&self.control))
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn tls(&self) -> SocketAddr {
        at(&self.tls)
    }

    async fn demanding_tls(&self) -> Result<SocketAddr, String> {
        // To ask for it twice does no harm.
        self.evaluate(&demanding_listener("0.0.0.0", DEMANDING_TLS, &inside(&self.certificates))).await?;
        let control = self.control();
        eventually("one more port for TLS", LIMIT, || control.listens(DEMANDING_TLS)).await?;
        Ok(at(&self.demanding_tls))
    }

    async fn evaluate(&self, expression: &str) -> Result<(), String> {
        let command = ExecCommand::new(["rabbitmqctl", "eval", &format!("{expression}.")]);
        self.container.execute(command.with_cmd_ready_condition(CmdWaitFor::exit_code(0))).await
    }

    async fn start_with_data(&self) -> Result<(), String> {
        Err(IN_MEMORY.to_owned())
    }

    async fn save_data(&self) -> Result<(), String> {
        Err(IN_MEMORY.to_owned())
    }

    async fn restore_data(&self) -> Result<(), String> {
        Err(IN_MEMORY.to_owned())
    }

    async fn is_alive(&self) -> Result<bool, String> {
        self.container.is_running().await
    }
}
