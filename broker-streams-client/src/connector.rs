//! Connector: how the client gets to its server, and the first words on a new socket.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use broker_streams_wire::{Agreement, Extension, Frame, write_ping};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        http::{HeaderMap, Uri},
        protocol::WebSocketConfig,
    },
};

use crate::{
    CallError,
    foreign::{Foreign, Panicked},
    socket::{Read, Socket},
};

/// A connection to the server, whatever carries it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// Opens a connection to the server.
pub(crate) type Connector = Arc<dyn Fn() -> Opening + Send + Sync>;

/// By a function of the application.
pub(crate) fn by<S, Fut>(connect: impl Fn() -> Fut + Send + Sync + 'static) -> Connector
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Fut: Future<Output = io::Result<S>> + Send + 'static,
{
    Arc::new(move || {
        let connecting = connect();
        Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
    })
}

/// By TCP to the host of an address, with TLS if its scheme is `wss`.
pub(crate) fn to(uri: &Uri) -> Result<Connector, Box<str>> {
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("an address needs a host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    match uri.scheme_str() {
        Some("ws") => {
            let port = uri.port_u16().unwrap_or(80);
            Ok(Arc::new(move || {
                let host = host.clone();
                Box::pin(async move { Ok(Box::new(tcp(&host, port).await?) as Box<dyn Io>) })
            }))
        }
        Some("wss") => tls(host, uri.port_u16().unwrap_or(443)),
        _ => Err("an address begins with ws:// or wss://".into()),
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(not(feature = "tls"))]
fn tls(_: String, _: u16) -> Result<Connector, Box<str>> {
    Err("an address that begins with wss:// needs the feature `tls`".into())
}

#[cfg(feature = "tls")]
fn tls(host: String, port: u16) -> Result<Connector, Box<str>> {
    use tokio_rustls::{TlsConnector, rustls};

    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
    Ok(Arc::new(move || {
        let (host, connector, name) = (host.clone(), connector.clone(), name.clone());
        Box::pin(async move {
            let stream = connector.connect(name, tcp(&host, port).await?).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }))
}

/// What an attempt to connect needs.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) uri: Uri,
    /// Beside those of the upgrade itself.
    pub(crate) headers: HeaderMap,
    pub(crate) connector: Connector,
    pub(crate) limit: Duration,
    pub(crate) max_frame: usize,
}

impl Route {
    /// A WebSocket to the server, within the limit.
    ///
    /// # Errors
    /// [`CallError::ConnectFailed`], [`CallError::ConnectTimedOut`].
    #[cfg(feature = "endpoints")]
    pub(crate) async fn connect(&self) -> Result<Socket, CallError> {
        timeout(self.limit, self.upgrade()).await.unwrap_or(Err(CallError::ConnectTimedOut))
    }

    /// The same, and the first words: a ping, and what the server answers. `offer` says whether it offers the
    /// extension.
    pub(crate) async fn meet(&self, offer: bool) -> Result<(Socket, Option<Agreement>), CallError> {
        let met = async {
            let mut socket = self.upgrade().await?;
            let x1 = Agreement { x: 1, window: None, bytes: None, park: None };
            socket.push(write_ping(offer.then_some(&x1)));
            let agreed = first_words(&mut socket).await?;
            Ok((socket, agreed.filter(|agreed| offer && agreed.x == 1)))
        };
        timeout(self.limit, met).await.unwrap_or(Err(CallError::ConnectTimedOut))
    }

    async fn upgrade(&self) -> Result<Socket, CallError> {
        let connector = Arc::clone(&self.connector);
        let io = match Foreign::new(async move { connector().await }).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(CallError::ConnectFailed(error.to_string().into())),
            Err(Panicked) => return Err(CallError::ConnectFailed("the connector has panicked".into())),
        };
        let mut request = self.uri.clone().into_client_request().map_err(failed)?;
        request.headers_mut().extend(self.headers.clone());
        // The defaults of the buffers are 128 KiB each, and that of the last has no bound.
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .write_buffer_size(8 << 10)
            .max_write_buffer_size(self.max_frame.saturating_add(64 << 10))
            .max_message_size(Some(self.max_frame))
            .max_frame_size(Some(self.max_frame));
        let (ws, _) = client_async_with_config(request, io, Some(config)).await.map_err(failed)?;
        Ok(Socket::new(ws))
    }
}

/// Waits for what the server says first. Its own pings are answered; any other frame means that it is there.
async fn first_words(socket: &mut Socket) -> Result<Option<Agreement>, CallError> {
    loop {
        match socket.exchange().await {
            Read::Text(text) => match Frame::read(&text, Extension::Plain) {
                Ok(Frame::Ping(_)) => socket.pong(),
                Ok(Frame::Pong(agreed)) => return Ok(agreed),
                Ok(Frame::BadRequest(_)) | Err(_) => {
                    return Err(CallError::ConnectFailed("the server speaks another protocol".into()));
                }
                Ok(_) => return Ok(None),
            },
            Read::Control => {}
            Read::Ended => return Err(CallError::ConnectFailed("the server closed the socket".into())),
        }
    }
}

/// What the library says, without the address: that may hold a secret.
fn failed(error: tungstenite::Error) -> CallError {
    let text = match error {
        tungstenite::Error::Url(_) => "the address cannot be used".to_owned(),
        tungstenite::Error::Http(response) => format!("the server answered {}", response.status()),
        other => other.to_string(),
    };
    CallError::ConnectFailed(text.into())
}
