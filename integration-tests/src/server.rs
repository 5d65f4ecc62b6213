//! Server: what every test server can do, and the one place that decides where servers come from.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `BROKER_TEST_SERVERS=process` | Server programs of this machine, each on a free loopback port (the default). |
//! | `BROKER_TEST_SERVERS=docker` | Containers; needs the feature `docker`. |
//! | `BROKER_TEST_REDIS_URL=redis://…` | One Redis that runs already. It is never stopped: such cases are ignored. |
//! | `BROKER_REQUIRE=redis,…` | For these backends a missing server is a failure. `CI=true` means all of them. |
//! | `BROKER_TEST_BACKENDS=redis,…` | The suite has the cases of these backends only. |
//!
//! Servers end when they are dropped. A `static`, or `std::process::exit` while one is alive, leaves it
//! running.

use std::{
    env, fmt,
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use crate::{
    certificates::Certificates,
    nats_config::NatsConfig,
    nats_server::{self, NatsServer},
    rabbitmq_control::RabbitControl,
    rabbitmq_server::{self, RabbitServer},
    redis_config::RedisConfig,
    redis_control::ExistingRedis,
    redis_server::{self, RedisServer},
};

/// How long a server may take to start, stop or answer, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A running server that a test may break. Shared by reference; every call states its own failure.
#[async_trait]
pub trait Server: fmt::Debug + Send + Sync {
    /// Where clients reach it now. Read it again after [`start_again`](Self::start_again).
    fn addr(&self) -> SocketAddr;

    /// The URL of this server as reached through `addr`: its own address, or that of a proxy before it.
    fn url_at(&self, addr: SocketAddr) -> String;

    /// Whether stopping, starting and pausing work; they are errors on a server that is not ours.
    fn can_restart(&self) -> bool {
        true
    }

    /// Stops the server in good order and waits until it is gone. Nothing happens if it is gone already.
    async fn stop(&self) -> Result<(), String>;

    /// Kills the server at once and waits until it is gone. Nothing happens if it is gone already.
    async fn kill(&self) -> Result<(), String>;

    /// Starts the server after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it answers. It is empty,
    /// unless it was set up to keep its data.
    async fn start_again(&self) -> Result<(), String>;

    /// Freezes the server: connections stay open, nothing answers.
    async fn pause(&self) -> Result<(), String>;

    /// Ends a [`pause`](Self::pause).
    async fn resume(&self) -> Result<(), String>;
}

/// A Redis, wherever it runs.
#[async_trait]
pub trait Redis: Server {
    /// Runs one command on the server itself, around any proxy, on a connection of its own.
    async fn command(&self, args: &[&[u8]]) -> Result<redis::Value, String>;

    /// Keeps a copy of the data that it has on disk, in the place of an earlier one.
    async fn save_data(&self) -> Result<(), String> {
        Err("the data of this Redis are out of reach".to_owned())
    }

    /// Kills it, puts that copy in the place of its data, and starts it again.
    async fn restore_data(&self) -> Result<(), String> {
        Err("the data of this Redis are out of reach".to_owned())
    }
}

/// A NATS server, wherever it runs.
#[async_trait]
pub trait Nats: Server {
    /// Where it tells about itself, over HTTP.
    fn monitor(&self) -> SocketAddr;

    /// Gives it another configuration while it runs, and waits until that is in force.
    async fn reconfigure(&self, config: NatsConfig) -> Result<(), String>;

    /// Tells it to end in a while, and to let its clients know (lame duck mode).
    async fn retire(&self) -> Result<(), String>;

    /// Keeps a copy of what JetStream has. Stops the server for that.
    async fn save_data(&self) -> Result<(), String>;

    /// Kills the server, and starts it with the copy.
    async fn restore_data(&self) -> Result<(), String>;
}

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
    async fn start_with_data(&self) -> Result<(), String>;

    /// Keeps a copy of its data. Connections live on.
    async fn save_data(&self) -> Result<(), String>;

    /// Kills it, and starts it with the copy of its data.
    async fn restore_data(&self) -> Result<(), String>;

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
        let chosen = match side {
            Side::Receiving => "lists:member(element(6, C), Owners)",
            Side::Publishing => "not lists:member(element(6, C), Owners)",
            Side::Both => "true",
        };
        self.evaluate(&format!(
            "Owners = [amqqueue:get_exclusive_owner(Q) || Q <- rabbit_amqqueue:list(<<\"{user}\">>)], \
             [spawn(fun() -> rabbit_networking:close_connection(element(6, C), \"test\") end) \
             || C <- rabbit_connection_tracking:list_of_user(<<\"{user}\">>), {chosen}]"
        ))
        .await
    }
}

/// Where test servers come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// Server programs of this machine.
    Process,
    /// Containers.
    Docker,
    /// A Redis that runs already, by URL.
    Existing(String),
}

impl Source {
    /// The source that the environment asks for.
    ///
    /// # Errors
    /// The variable has a value that means nothing.
    pub fn from_env() -> Result<Self, String> {
        match env::var("BROKER_TEST_REDIS_URL") {
            Ok(url) => Ok(Self::Existing(url)),
            Err(_) => Self::fresh_from_env(),
        }
    }

    /// The same, for servers that are always started.
    ///
    /// # Errors
    /// The variable has a value that means nothing.
    pub fn fresh_from_env() -> Result<Self, String> {
        match env::var("BROKER_TEST_SERVERS").as_deref() {
            Err(_) | Ok("" | "process") => Ok(Self::Process),
            Ok("docker") => Ok(Self::Docker),
            Ok(other) => Err(format!("BROKER_TEST_SERVERS is `{other}`: must be `process` or `docker`")),
        }
    }

    /// Whether a Redis can be had from here.
    ///
    /// # Errors
    /// Why not, and what to do about it: the reason to show for ignored cases.
    pub async fn redis_available(&self) -> Result<(), String> {
        match self {
            Self::Process => redis_server::available(),
            Self::Docker => docker_available().await,
            Self::Existing(url) => ExistingRedis::connect(url).await.map(drop),
        }
    }

    /// Starts a Redis, or reaches the existing one, and waits until it answers.
    ///
    /// # Errors
    /// It did not start, or the existing server would need another configuration.
    pub async fn start_redis(&self, config: RedisConfig) -> Result<Box<dyn Redis>, String> {
        match self {
            Self::Process => Ok(Box::new(RedisServer::start(config).await?)),
            Self::Docker => start_docker_redis(config).await,
            Self::Existing(_) if !config.is_default() => {
                Err("this case needs a Redis with a configuration of its own".to_owned())
            }
            Self::Existing(url) => Ok(Box::new(ExistingRedis::connect(url).await?)),
        }
    }
}

impl Source {
    /// Whether a NATS server can be had from here.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub async fn nats_available(&self) -> Result<(), String> {
        match self {
            Self::Docker => docker_available().await,
            Self::Process | Self::Existing(_) => nats_server::program().map(drop),
        }
    }

    /// Starts a NATS server and waits until it answers.
    ///
    /// # Errors
    /// It did not start.
    pub async fn start_nats(&self, config: NatsConfig) -> Result<Box<dyn Nats>, String> {
        match self {
            Self::Docker => start_docker_nats(config).await,
            Self::Process | Self::Existing(_) => Ok(Box::new(NatsServer::start(config).await?)),
        }
    }
}

impl Source {
    /// Whether a RabbitMQ can be had from here.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub async fn rabbitmq_available(&self) -> Result<(), String> {
        match self {
            Self::Docker => docker_available().await,
            Self::Process | Self::Existing(_) => rabbitmq_server::available(),
        }
    }

    /// Starts a RabbitMQ and waits until it answers.
    ///
    /// # Errors
    /// It did not start.
    pub async fn start_rabbitmq(&self) -> Result<Box<dyn Rabbit>, String> {
        match self {
            Self::Docker => start_docker_rabbitmq().await,
            Self::Process | Self::Existing(_) => Ok(Box::new(RabbitServer::start().await?)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "Process",
            Self::Docker => "Docker",
            Self::Existing(_) => "Existing",
        })
    }
}

#[cfg(feature = "docker")]
async fn docker_available() -> Result<(), String> {
    crate::docker::available().await
}

#[cfg(feature = "docker")]
async fn start_docker_redis(config: RedisConfig) -> Result<Box<dyn Redis>, String> {
    Ok(Box::new(crate::docker::DockerRedis::start(config).await?))
}

#[cfg(feature = "docker")]
async fn start_docker_nats(config: NatsConfig) -> Result<Box<dyn Nats>, String> {
    Ok(Box::new(crate::docker::DockerNats::start(config).await?))
}

#[cfg(feature = "docker")]
async fn start_docker_rabbitmq() -> Result<Box<dyn Rabbit>, String> {
    Ok(Box::new(crate::docker::DockerRabbit::start().await?))
}

/// Ends the servers that somebody still holds who will never let go: a case that hangs. Programs end with this
/// process, containers do not.
pub fn end() {
    #[cfg(feature = "docker")]
    crate::docker::end();
}

#[cfg(not(feature = "docker"))]
const WITHOUT_DOCKER: &str = "built without the feature `docker`: run `cargo xtask test --docker`";

#[cfg(not(feature = "docker"))]
async fn docker_available() -> Result<(), String> {
    Err(WITHOUT_DOCKER.to_owned())
}

#[cfg(not(feature = "docker"))]
async fn start_docker_redis(_: RedisConfig) -> Result<Box<dyn Redis>, String> {
    Err(WITHOUT_DOCKER.to_owned())
}

#[cfg(not(feature = "docker"))]
async fn start_docker_nats(_: NatsConfig) -> Result<Box<dyn Nats>, String> {
    Err(WITHOUT_DOCKER.to_owned())
}

#[cfg(not(feature = "docker"))]
async fn start_docker_rabbitmq() -> Result<Box<dyn Rabbit>, String> {
    Err(WITHOUT_DOCKER.to_owned())
}

/// Whether a missing server for this backend is a failure rather than a reason to ignore its cases.
#[must_use]
pub fn required(backend: &str) -> bool {
    let listed = env::var("BROKER_REQUIRE").unwrap_or_default();
    env::var("CI").is_ok_and(|ci| ci == "true") || listed.split(',').any(|name| name.trim() == backend)
}

/// Asks `probe` again and again until it is content, or the time limit passes.
///
/// # Errors
/// The time limit passed; says for what it waited and what the last answer was.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T, String>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, String>> + Send,
    T: Send,
{
    let deadline = Instant::now() + limit;
    let mut last = "no answer".to_owned();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("{what}: not within {limit:?}: {last}"))
}

/// A port of this machine that nobody listens on.
///
/// Taken from below the range from which the system picks ports for connections, so that a server that is
/// down for a while finds its port free again. Another process may still be faster: then try again.
///
/// # Errors
/// Every port tried was taken.
pub fn free_port() -> Result<u16, String> {
    use std::{
        hash::{BuildHasher, RandomState},
        net::{Ipv4Addr, TcpListener},
    };
    for attempt in 0..1000_u32 {
        let random = RandomState::new().hash_one(attempt);
        let port = 20_000 + u16::try_from(random % 12_000).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port between 20000 and 32000".to_owned())
}
