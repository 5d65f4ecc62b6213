//! RedisDriver: opens the two connections of a link.

use std::{future::ready, net::SocketAddr, slice, sync::Arc};

use async_trait::async_trait;
use broker_core::{
    Result,
    driver::{ConnectContext, Driver, ErrorContext, Inbox, Link, Place},
};
use redis::{AsyncConnectionConfig, Client, RedisFuture, aio::MultiplexedConnection, io::AsyncDNSResolver};
use tokio::sync::watch;

use crate::{
    NAME,
    address::Address,
    errors::translate,
    link::{RedisLink, Used, idle_limit, info, receiver},
    log::Seen,
    role::Role,
};

/// How many calls may wait for the socket. The client's default of 50 would make a burst of callers wait.
const WAITING_CALLS: usize = 1024;

/// A way to one Redis server.
#[derive(Debug)]
pub(crate) struct RedisDriver(pub(crate) Address);

/// Instead of a resolver: the one address that is tried. TLS still verifies the name.
struct Resolved(SocketAddr);

impl AsyncDNSResolver for Resolved {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _: &'b str,
        _: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let only: Box<dyn Iterator<Item = SocketAddr> + Send> = Box::new(std::iter::once(self.0));
        Box::pin(ready(Ok(only)))
    }
}

/// The client's settings for one connection, to the one address that is tried.
pub(crate) fn settings(at: Option<SocketAddr>) -> AsyncConnectionConfig {
    // Core limits every call; a second limit in the client would only blur whose it was.
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(WAITING_CALLS);
    match at {
        Some(address) => settings.set_dns_resolver(Resolved(address)),
        None => settings,
    }
}

pub(crate) async fn open(
    client: &Client,
    settings: &AsyncConnectionConfig,
    peer: &ErrorContext,
) -> Result<MultiplexedConnection> {
    let opened = client.get_multiplexed_async_connection_with_config(settings).await;
    opened.map_err(|error| translate(peer, &error))
}

impl RedisDriver {
    /// Opens a link to one place.
    async fn link(
        &self,
        client: &Client,
        inbox: Inbox,
        peer: ErrorContext,
        at: Option<SocketAddr>,
    ) -> Result<RedisLink> {
        // Until the link is there, what becomes of this attempt is no business of the inbox: there may be others.
        let ((closing, watching), used) = (watch::channel(true), Arc::new(Used::new()));
        let settings =
            settings(at).set_push_sender(receiver(inbox.clone(), peer.clone(), watching, Arc::clone(&used)));
        let subscriber = open(client, &settings, &peer).await?;
        let publisher = open(client, &settings, &peer).await?;
        let (subscribing, publishing, idle_limit) =
            tokio::join!(Role::of_new(&subscriber), Role::of_new(&publisher), idle_limit(&publisher));
        let says_its_role = subscribing.is_some() && publishing.is_some();
        let (subscribing, publishing) = (subscribing.unwrap_or_default(), publishing.unwrap_or_default());
        subscribing.check(&peer)?;
        publishing.check(&peer)?;
        let info = info(publishing.version, idle_limit);
        closing.send_replace(false);
        let (log, receives_at) = (Seen::default(), peer.clone());
        Ok(RedisLink {
            subscriber,
            publisher,
            inbox,
            peer,
            receives_at,
            log,
            info,
            says_its_role,
            used,
            closing,
        })
    }

    pub(crate) async fn reach(&self, inbox: Inbox) -> Result<RedisLink> {
        let Address { server, peer, .. } = &self.0;
        let client = &self.0.client().await?;
        let Some(server) = server else { return self.link(client, inbox, peer.clone(), None).await };
        Place::reach(slice::from_ref(server), |place| {
            let (peer, inbox) = (peer.at(&place), inbox.clone());
            async move {
                let linking = self.link(client, inbox, peer.clone(), Some(place.address));
                peer.recognise(place.address, self.0.encryption(), linking).await
            }
        })
        .await
    }
}

#[async_trait]
impl Driver for RedisDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Two connections: on one alone a burst of arriving messages would delay the replies to posts.
    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        Ok(Box::new(self.reach(context.inbox).await?))
    }
}

#[cfg(test)]
mod tests {
    use broker_core::{BrokerUrl, Error, ErrorKind};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn failure(url: &str) -> Error {
        let driver = RedisDriver(Address::parse(&BrokerUrl::parse(url).unwrap()).unwrap());
        assert!(!format!("{driver:?}").contains("s3cret"));
        let error = driver.reach(Inbox::discard()).await.expect_err("an error");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        error
    }

    /// What connecting to a server that answers `answer` to the first thing it reads ends with.
    async fn answered(answer: &'static [u8]) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(answer).await;
        });
        let error = failure(&format!("redis://ada:s3cret@{address}")).await;
        server.await.unwrap();
        assert!(error.message().contains(&address.to_string()), "{error}");
        error
    }

    #[tokio::test]
    async fn an_old_server_is_too_old_and_its_echo_of_the_password_stays_out() {
        for echo in [
            &b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `ada`, `s3cret`, \r\n"[..],
            b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'ada' 's3cret'\r\n",
        ] {
            let error = answered(echo).await;
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains("Redis 6"), "{error}");
        }
    }

    #[tokio::test]
    async fn refused_credentials_name_the_user() {
        let error = answered(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n").await;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(error.message().contains("\"ada\""), "{error}");
    }

    #[tokio::test]
    async fn a_refusal_before_the_close_is_reported() {
        let error = answered(b"-ERR max number of clients reached\r\n").await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("maxclients"), "{error}");
        let error = answered(b"-DENIED Redis is running in protected mode\r\n").await;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    }

    #[tokio::test]
    async fn a_foreign_server_is_a_protocol_error() {
        for garbage in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
        ] {
            let error = answered(garbage).await;
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_unavailable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = failure(&format!("redis://ada:s3cret@{address}")).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&address.to_string()), "{error}");

        let error = failure("redis://host.invalid/").await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("host.invalid:6379"), "{error}");

        let error = failure("redis+unix:///nowhere/redis.sock").await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("/nowhere/redis.sock"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_unavailable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
        let error = failure(&format!("redis://{address}")).await;
        server.await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}
