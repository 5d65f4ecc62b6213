//! Builder: how a client is set up.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::{
    Client, Credentials, Status,
    client::Shared,
    connector::{self, Connector, Route},
    credentials::{Nobody, Provider},
};

/// Sets up a [`Client`]. By [`Client::builder`].
#[must_use]
pub struct ClientBuilder {
    url: String,
    connector: Option<Connector>,
    provider: Arc<dyn Provider>,
    headers: Vec<(String, String)>,
    cookies: bool,
    offer: bool,
    window: u32,
    max_frame: usize,
    max_buffered: usize,
    max_calls: usize,
    connect_timeout: Duration,
    close_when_offline: bool,
}

impl ClientBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            connector: None,
            provider: Arc::new(Nobody),
            headers: Vec::new(),
            cookies: false,
            offer: true,
            window: 64,
            max_frame: 4 << 20,
            max_buffered: 1 << 20,
            max_calls: 256,
            connect_timeout: Duration::from_secs(5),
            close_when_offline: false,
        }
    }

    /// Who gives the credentials of calls. Without this there are none.
    pub fn credentials(mut self, provider: impl Credentials) -> Self {
        self.provider = Arc::new(provider);
        self
    }

    /// A header of the request by which a socket is opened: what a proxy wants, an `Origin`, a `Cookie`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets the server authenticate calls by the cookies of that request, which [`header`](Self::header)
    /// gives; the provider of [`credentials`](Self::credentials) is not asked when a call is opened. The cookies
    /// are those of each socket: a call that goes on after the loss of one goes on by its cursor, or anew.
    pub const fn cookies(mut self) -> Self {
        self.cookies = true;
        self
    }

    /// How to get to the server, instead of by TCP to the host of the address: a Unix socket, a proxy, TLS
    /// with certificates of your own. The address still says what is asked for.
    pub fn connector<S, Fut>(mut self, connect: impl Fn() -> Fut + Send + Sync + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
    {
        self.connector = Some(connector::by(connect));
        self
    }

    /// Offers the server nothing beyond the eight frames of Serverpod: no windows, no reasons, no resumption.
    pub const fn plain(mut self) -> Self {
        self.offer = false;
        self
    }

    /// Values of one stream that the server may send ahead of what was consumed; from 1 to 65,536. By default
    /// 64.
    pub const fn window(mut self, frames: u32) -> Self {
        self.window = frames;
        self
    }

    /// The longest frame in either direction, in bytes; at least 1,024. By default 4 MiB.
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Bytes of one stream that are held for an application that does not read them; one value is held
    /// whatever its length. A stream with more ends with [`CallError::Overflow`](crate::CallError::Overflow).
    /// By default 1 MiB.
    ///
    /// A server that supports windows does not get there, unless it lets more bytes be under way than this.
    pub const fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_buffered = bytes;
        self
    }

    /// Calls at the same time. By default 256.
    pub const fn max_calls(mut self, calls: usize) -> Self {
        self.max_calls = calls;
        self
    }

    /// How long an attempt to connect may take, with the server's first frame. By default 5 seconds.
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Whether [`Client::report_offline`] closes the socket. By default it does not.
    pub const fn close_when_offline(mut self, yes: bool) -> Self {
        self.close_when_offline = yes;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`BuildError`] for an address or a header that cannot be used, or a number that is out of range.
    pub fn build(self) -> Result<Client, BuildError> {
        let uri = address(&self.url)?;
        let headers = headers(&self.headers)?;
        if !(1..=65_536).contains(&self.window) {
            return Err(BuildError::new(format!(
                "`window` is {}; it has to be from 1 to 65,536",
                self.window
            )));
        }
        check_max_frame(self.max_frame)?;
        let connector = match self.connector {
            Some(connector) => connector,
            None => connector::to(&uri).map_err(BuildError::new)?,
        };
        Ok(Client::new(Shared {
            route: Route { uri, headers, connector, limit: self.connect_timeout, max_frame: self.max_frame },
            cookies: self.cookies,
            offer: self.offer,
            provider: self.provider,
            window: self.window,
            max_buffered: self.max_buffered,
            max_calls: self.max_calls,
            close_when_offline: self.close_when_offline,
            taken: Arc::default(),
            keys: AtomicU64::new(0),
            links: Mutex::default(),
            status: watch::Sender::new(Status::Disconnected { why: None }),
        }))
    }
}

/// An address without credentials in it.
pub(crate) fn address(url: &str) -> Result<Uri, BuildError> {
    let uri: Uri = url.parse().map_err(|_| BuildError::new("it is not a URL"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(BuildError::new("credentials do not belong in an address; use `credentials`"));
    }
    Ok(uri)
}

pub(crate) fn check_max_frame(bytes: usize) -> Result<(), BuildError> {
    if bytes < 1024 {
        return Err(BuildError::new(format!("`max_frame` is {bytes}; it has to be at least 1,024")));
    }
    Ok(())
}

/// Headers that an application may give. No error shows a value.
fn headers(given: &[(String, String)]) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let wrong = |why: &str| BuildError::new(format!("the header {name:?} {why}"));
        let key: HeaderName =
            name.parse().map_err(|_| wrong("has no valid name; use letters, digits and `-`"))?;
        if matches!(key.as_str(), "host" | "connection" | "upgrade")
            || key.as_str().starts_with("sec-websocket-")
        {
            return Err(wrong("is set by the client itself; leave it out"));
        }
        let mut value: HeaderValue =
            value.parse().map_err(|_| wrong("has a value with characters that a header cannot have"))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// Without the address and the headers, which may hold secrets.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientBuilder")
    }
}

/// Why a client cannot be built. It does not show the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(Box<str>);

impl BuildError {
    pub(crate) fn new(why: impl Into<Box<str>>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the client cannot be built: {}", self.0)
    }
}

impl Error for BuildError {}
