//! Connection: one connection with the AMQP channel on which calls are made. Its socket is opened by us and not by the
//! client, so that giving up an attempt, or dropping a link, ends everything that hangs on it.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::{Mutex, PoisonError},
};

use broker_core::{Error, ErrorKind, Result};
use lapin::{
    AsyncTcpStream, Channel as AmqpChannel, Connection as AmqpConnection, ConnectionProperties, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions},
    protocol::constants::REPLY_SUCCESS,
    types::{FieldTable, ShortString},
};
use socket2::SockRef;

use crate::address::Address;

/// What the server shows as the connection's name.
const CONNECTION_NAME: &str = "broker";

/// See the module.
pub(crate) struct Connection {
    /// First: fields are dropped in their order, and without a socket the rest has nothing to wait for.
    _socket: Socket,
    channel: Mutex<Option<AmqpChannel>>,
    pub(crate) connection: AmqpConnection,
}

impl Connection {
    pub(crate) async fn open(address: &Address, at: SocketAddr) -> Result<Self> {
        let (connection, socket) = connect(address, at).await?;
        Ok(Self { _socket: socket, channel: Mutex::default(), connection })
    }

    /// The AMQP channel for calls: another one if the server has closed the last over a refusal. What is published
    /// on it is confirmed.
    pub(crate) async fn channel(&self) -> lapin::Result<AmqpChannel> {
        let last = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(open) = last.filter(|channel| channel.status().connected()) {
            return Ok(open);
        }
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
        Ok(channel)
    }

    /// Consumes a queue, on an AMQP channel of its own: an error closes the one that it is on. The server sends at most
    /// `window` messages ahead of what is acknowledged. Dropping the consumer and the channel closes that.
    pub(crate) async fn consume(
        &self,
        queue: &ShortString,
        window: u16,
        arguments: FieldTable,
    ) -> lapin::Result<(Consumer, AmqpChannel)> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(window, BasicQosOptions::default()).await?;
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        Ok((channel.basic_consume(queue.clone(), tag, options, arguments).await?, channel))
    }

    pub(crate) async fn close(&self) -> lapin::Result<()> {
        self.connection.close(REPLY_SUCCESS, "OK".into()).await
    }
}

/// A second handle of a connection's socket. Dropping it ends the connection, in whatever state it is.
///
/// The client's own thread sits at the socket for as long as the peer keeps it open: a peer that fell silent
/// would hold thread, buffers and socket for a long time after the last handle of the connection is gone.
struct Socket(socket2::Socket);

impl Drop for Socket {
    fn drop(&mut self) {
        // Fails only for a socket that is closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

async fn connect(address: &Address, at: SocketAddr) -> Result<(AmqpConnection, Socket)> {
    let Address { peer, uri, .. } = address;
    let runtime = lapin::runtime::default_runtime().map_err(|error| address.error(&error))?;
    // The client sets TCP_NODELAY.
    let stream = AsyncTcpStream::connect(&runtime, at).await.map_err(|error| peer.io(&error))?;
    let AsyncTcpStream::Plain(plain) = &stream else {
        return Err(Error::new(ErrorKind::Other, "a new TCP stream is already encrypted"));
    };
    let socket = Socket(SockRef::from(plain.get_ref()).try_clone().map_err(|error| peer.io(&error))?);
    #[cfg(feature = "tls")]
    let stream = match &address.tls {
        None => stream,
        Some(files) => {
            let connector = crate::tls::connector(files).await?;
            let encrypted = stream.into_rustls(&connector, &uri.authority.host).await;
            encrypted.map_err(|error| peer.io(&error))?
        }
    };
    let once = Mutex::new(Some(stream));
    let stream = async move |_, _| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted).into())
    };
    // Never with recovery: it heals in silence, and core would not know what is missing.
    let properties = ConnectionProperties::default().with_connection_name(CONNECTION_NAME.into());
    let opened = AmqpConnection::connector(uri.clone(), runtime, stream, properties).await;
    Ok((opened.map_err(|error| address.error(&error))?, socket))
}
