//! RabbitMQ: a server of a test's own, wherever it runs.

use std::{net::SocketAddr, sync::LazyLock};

use async_trait::async_trait;

use super::{NO_DATA, Needs, Server, Source, certificates::Certificates};

pub mod cluster;
pub(crate) mod config;
pub mod control;
#[cfg(feature = "docker")]
pub mod docker;
pub mod process;
pub(crate) mod stream;

use control::RabbitControl;

/// What these tests need.
pub static NEEDS: LazyLock<Needs> =
    LazyLock::new(|| Needs::read("rabbitmq", include_str!("rabbitmq/server.toml")));

/// A RabbitMQ, wherever it runs. It speaks plain AMQP, and TLS at another port.
#[async_trait]
pub trait Rabbit: Server {
    /// Its management interface.
    fn control(&self) -> RabbitControl;

    /// Those of the port for TLS.
    fn certificates(&self) -> &Certificates;

    /// Where it speaks TLS now. Whoever connects there may show a certificate or none.
    fn tls(&self) -> SocketAddr;

    /// Opens one more port for TLS, where whoever connects must show a certificate, and says where it is. It
    /// goes with the next end of the server.
    async fn demanding_tls(&self) -> Result<SocketAddr, String>;

    /// Has the server evaluate an Erlang expression. What that gives is not told.
    async fn evaluate(&self, expression: &str) -> Result<(), String>;

    /// Starts it after [`kill`](Server::kill) with the data that it had.
    async fn start_with_data(&self) -> Result<(), String> {
        Err(NO_DATA.to_owned())
    }

    /// Whether the server is there, running or paused.
    async fn is_alive(&self) -> Result<bool, String>;
}

/// Connections of a RabbitMQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those that own a queue.
    Receiving,
    /// Those that own none.
    Publishing,
    /// All.
    Both,
}

impl dyn Rabbit + '_ {
    /// Begins to close connections of a user, in the virtual host of its name, all at the same time. The
    /// management interface would close one after the other, and wait for a long time for one that its client
    /// has given up meanwhile.
    ///
    /// # Errors
    /// It is not running.
    pub async fn close_connections(&self, user: &str, side: Side) -> Result<(), String> {
        self.evaluate(&closing(user, side)).await
    }
}

/// The expression that closes connections of a user.
pub(crate) fn closing(user: &str, side: Side) -> String {
    let chosen = match side {
        Side::Receiving => "lists:member(element(6, C), Owners)",
        Side::Publishing => "not lists:member(element(6, C), Owners)",
        Side::Both => "true",
    };
    format!(
        "Owners = [amqqueue:get_exclusive_owner(Q) || Q <- rabbit_amqqueue:list(<<\"{user}\">>)], \
         [spawn(fun() -> rabbit_networking:close_connection(element(6, C), \"test\") end) \
         || C <- rabbit_connection_tracking:list_of_user(<<\"{user}\">>), {chosen}]"
    )
}

/// Whether a RabbitMQ can be had.
///
/// # Errors
/// Why not, and what to do about it: the reason to show for ignored cases.
pub async fn available() -> Result<(), String> {
    match Source::from_env()? {
        Source::Process => process::available(),
        #[cfg(feature = "docker")]
        Source::Docker => super::docker::available().await,
    }
}

/// Starts a RabbitMQ and waits until it answers.
///
/// # Errors
/// It did not start.
pub async fn start() -> Result<Box<dyn Rabbit>, String> {
    match Source::from_env()? {
        Source::Process => Ok(Box::new(process::RabbitServer::start().await?)),
        #[cfg(feature = "docker")]
        Source::Docker => Ok(Box::new(docker::DockerRabbit::start().await?)),
    }
}
