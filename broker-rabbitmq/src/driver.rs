//! RabbitDriver: opens the two connections of a link, to two members of a cluster, and its queue.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use broker_core::{
    Result,
    driver::{Capabilities, Confirmation, ConnectContext, Driver, Link, Place, Reach, ServerAddr, random},
};
use futures_util::future::try_join;
use lapin::{
    Channel as AmqpChannel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    NAME,
    address::Address,
    connection::Connection,
    consumer::{WINDOW, receive, trouble},
    link::RabbitLink,
    log::Log,
};

/// What a queue holds for a node that does not keep up. Beyond that the server drops the oldest.
const MAX_MESSAGES: i32 = 100_000;
const MAX_BYTES: i32 = 256 << 20;

/// Two publishers at two queues: nothing makes them agree whose message came first.
pub(crate) const CAPABILITIES: Capabilities =
    Capabilities::new(Reach::Cluster).confirmation(Confirmation::Accepted);

/// A way to one RabbitMQ, or to a cluster.
#[derive(Debug)]
pub(crate) struct RabbitDriver(pub(crate) Arc<Address>);

/// How long a second member may take to be found, for a link that has a first one.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// A connection, and where it leads.
struct Reached {
    address: Arc<Address>,
    at: SocketAddr,
    connection: Connection,
}

impl RabbitDriver {
    /// The two connections of a link: to receive, and to publish. On one alone a burst of posts would delay the
    /// acknowledgements, and with them everything that waits to be received; a server with an alarm stops reading both.
    ///
    /// Of several hosts they go to two: then the echo of a post crosses the cluster, and fails where its members do not
    /// reach each other. A cluster that was told to ignore that says nothing of it.
    async fn reach(&self) -> Result<(Reached, Reached)> {
        let mut servers = self.0.servers.clone();
        servers.sort_by_cached_key(|_| random());
        if servers.len() < 2 {
            return Place::reach(&servers, |place| {
                let (address, at) = (Arc::new(self.0.at(&place)), place.address);
                async move {
                    let opening = try_join(Connection::open(&address, at), Connection::open(&address, at));
                    let opened = address.peer.recognise(at, address.encryption(), opening).await?;
                    let reached = |connection| Reached { address: Arc::clone(&address), at, connection };
                    Ok((reached(opened.0), reached(opened.1)))
                }
            })
            .await;
        }
        let (server, receiver) = self.reach_any(&servers).await?;
        servers.retain(|other| *other != server);
        if let Ok(Ok((_, publisher))) = timeout(ELSEWHERE, self.reach_any(&servers)).await {
            return Ok((receiver, publisher));
        }
        let (address, at) = (Arc::clone(&receiver.address), receiver.at);
        let connection = Connection::open(&address, at).await?;
        Ok((receiver, Reached { address, at, connection }))
    }

    /// A connection to any of these servers.
    async fn reach_any(&self, servers: &[ServerAddr]) -> Result<(ServerAddr, Reached)> {
        Place::reach(servers, |place| {
            let (address, at) = (Arc::new(self.0.at(&place)), place.address);
            async move {
                let opening = Connection::open(&address, at);
                let connection = address.peer.recognise(at, address.encryption(), opening).await?;
                Ok((place.server, Reached { address, at, connection }))
            }
        })
        .await
    }
}

#[async_trait]
impl Driver for RabbitDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let inbox = context.inbox;
        let (receiving, publishing) = self.reach().await?;
        let Reached { address, connection: receiver, .. } = receiving;
        let Reached { address: publisher_address, at, connection: publisher } = publishing;
        let events = publisher.connection.events_listener();
        // After the exchange, so that one pattern of a permission covers both.
        let queue: ShortString = format!("{}.{:016x}{:016x}", address.exchange, random(), random()).into();
        let opened = async {
            declare(&receiver.channel().await?, &address, &queue).await?;
            receiver.consume(&queue, WINDOW, FieldTable::default()).await
        };
        let (deliveries, acks) = opened.await.map_err(|error| address.error(&error))?;
        publisher.channel().await.map_err(|error| publisher_address.error(&error))?;
        let trouble = trouble(events, Arc::clone(&publisher_address));
        let receiving = receive(deliveries, acks, trouble, inbox.clone(), Arc::clone(&address));
        let _receiving = AbortOnDropHandle::new(tokio::spawn(receiving));
        let log = Log::new(Arc::clone(&publisher_address), at);
        let link =
            RabbitLink { receiver, publisher, log, _receiving, address, publisher_address, queue, inbox };
        Ok(Box::new(link))
    }
}

async fn declare(control: &AmqpChannel, address: &Address, queue: &ShortString) -> lapin::Result<()> {
    // Of all nodes and for good: one that goes away with its last binding could be gone between a node's
    // declaring it and its binding.
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let exchange = address.exchange.clone();
    control.exchange_declare(exchange, ExchangeKind::Direct, options, FieldTable::default()).await?;

    let mut limits = FieldTable::default();
    limits.insert("x-max-length".into(), AMQPValue::LongInt(MAX_MESSAGES));
    limits.insert("x-max-length-bytes".into(), AMQPValue::LongInt(MAX_BYTES));
    limits.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    control.queue_declare(queue.clone(), options, limits).await.map(drop)
}

#[cfg(test)]
mod tests {
    use broker_core::{Broker, BrokerUrl, Error, ErrorKind, Options};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn failure(url: &str) -> Error {
        let driver = RabbitDriver(Arc::new(Address::parse(&BrokerUrl::parse(url).unwrap()).unwrap()));
        assert!(!format!("{driver:?}").contains("s3cret"));
        let error = driver.reach().await.err().expect("an error");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        error
    }

    /// What connecting to a server that answers `answer` to the first thing it reads, and hangs up, ends with.
    async fn answered(answer: &'static [u8]) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            // Both connections of a link, and whoever looks what this is.
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = socket.read(&mut [0; 1024]).await;
                    let _ = socket.write_all(answer).await;
                });
            }
        });
        let error = failure(&format!("amqp://ada:s3cret@{address}")).await;
        server.abort();
        assert!(error.message().contains(&address.to_string()), "{error}");
        error
    }

    #[tokio::test]
    async fn a_foreign_server_is_a_protocol_error() {
        for (garbage, kind) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], ErrorKind::Protocol),
            (b"SSH-2.0-OpenSSH_9.6\r\n", ErrorKind::Protocol),
            // An alert of TLS: perhaps it is one, behind that.
            (b"\x15\x03\x01\x00\x02\x02\x46", ErrorKind::Misconfigured),
        ] {
            let error = answered(garbage).await;
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[tokio::test]
    async fn another_amqp_is_named() {
        let error = answered(b"AMQP\x00\x01\x00\x00").await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains("0-9-1"), "{error}");
    }

    #[tokio::test]
    async fn a_closed_port_is_unavailable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = failure(&format!("amqp://ada:s3cret@{address}")).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&address.to_string()), "{error}");

        let error = failure("amqp://host.invalid/").await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("host.invalid:5672"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_unavailable() {
        let error = answered(b"").await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }

    /// The client's thread holds the socket: the peer sees it close only when that thread lets go.
    #[tokio::test]
    async fn a_dropped_attempt_leaves_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BrokerUrl::parse(&format!("amqp://{}", listener.local_addr().unwrap())).unwrap();
        let mut options = Options::default();
        options.connect_timeout = Duration::from_millis(100);
        let connecting = Broker::connect((crate::BACKEND.open)(&url).unwrap(), options);
        let (error, (mut peer, _)) = tokio::join!(connecting, async { listener.accept().await.unwrap() });
        assert_eq!(error.err().map(|error| error.kind()), Some(ErrorKind::Timeout));
        let mut said = Vec::new();
        peer.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"AMQP\x00\x00\x09\x01");
    }
}
