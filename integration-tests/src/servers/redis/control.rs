//! Commands on a Redis around the driver under test; and ExistingRedis, of which that is all there is.

use std::net::{SocketAddr, ToSocketAddrs};

use async_trait::async_trait;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo,
};

use crate::servers::{Host, LIMIT, Server, redis::Redis};

/// Runs one command on a connection of its own.
pub(crate) async fn control(
    addr: ConnectionAddr,
    user: RedisConnectionInfo,
    args: &[&[u8]],
) -> Result<redis::Value, String> {
    let info = addr.into_connection_info().map_err(|error| error.to_string())?;
    run(info.set_redis_settings(user), args).await
}

async fn run(info: ConnectionInfo, args: &[&[u8]]) -> Result<redis::Value, String> {
    let limits =
        AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(LIMIT));
    let mut command = Cmd::new();
    for arg in args {
        command.arg(arg);
    }
    let client = Client::open(info).map_err(|error| error.to_string())?;
    let connection = client.get_multiplexed_async_connection_with_config(&limits).await;
    let mut connection = connection.map_err(|error| error.to_string())?;
    command.query_async(&mut connection).await.map_err(|error| error.to_string())
}

/// A Redis that runs already, given by its URL: commands work, stopping does not.
///
/// Other programs may use it at the same time, so cases must look at their own channels only.
#[derive(Debug)]
pub struct ExistingRedis {
    addr: SocketAddr,
    info: ConnectionInfo,
    credentials: String,
}

impl ExistingRedis {
    /// Reaches the server and waits for its answer.
    ///
    /// # Errors
    /// The URL is not one of a Redis over TCP, or nobody answers. The message has no password.
    pub async fn connect(url: &str) -> Result<Self, String> {
        let info = url.into_connection_info().map_err(|error| format!("BROKER_TEST_REDIS_URL: {error}"))?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err("BROKER_TEST_REDIS_URL: must be redis://[USER:PASSWORD@]HOST[:PORT]".to_owned());
        };
        let addrs = (host.as_str(), *port).to_socket_addrs().map_err(|error| format!("{host}: {error}"));
        let addr = addrs?.next().ok_or_else(|| format!("{host}: no address"))?;
        // As written, so that what was escaped in it stays so.
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let credentials = authority.rfind('@').map(|at| authority[..=at].to_owned()).unwrap_or_default();
        let server = Self { addr, info, credentials };
        server.command(&[b"PING"]).await.map_err(|error| format!("the Redis at {addr}: {error}"))?;
        Ok(server)
    }
}

const NOT_OURS: &str = "this Redis was given by BROKER_TEST_REDIS_URL: tests do not stop it";

#[async_trait]
impl Server for ExistingRedis {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn url_at(&self, addr: SocketAddr) -> String {
        format!("redis://{}{addr}", self.credentials)
    }

    fn host(&self) -> &dyn Host {
        &NotOurs
    }

    async fn start_again(&self) -> Result<(), String> {
        Err(NOT_OURS.to_owned())
    }
}

/// Whatever the server runs in, it is left alone.
#[derive(Debug)]
struct NotOurs;

#[async_trait]
impl Host for NotOurs {
    async fn stop(&self) -> Result<(), String> {
        Err(NOT_OURS.to_owned())
    }

    async fn kill(&self) -> Result<(), String> {
        Err(NOT_OURS.to_owned())
    }

    async fn pause(&self) -> Result<(), String> {
        Err(NOT_OURS.to_owned())
    }

    async fn resume(&self) -> Result<(), String> {
        Err(NOT_OURS.to_owned())
    }
}

#[async_trait]
impl Redis for ExistingRedis {
    async fn command(&self, args: &[&[u8]]) -> Result<redis::Value, String> {
        run(self.info.clone(), args).await
    }
}
