//! Address: from a URL to servers, credentials and the client's settings, with every part that does not fit named.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{ConnectOptions, ServerAddr};
use broker_core::{BrokerUrl, ChannelName, Error, ErrorKind, Result};

use crate::errors::Peer;

const KEYS: &[&str] = &["nkey", "creds", "ca", "cert", "key", "inbox", "ping_interval"];
const DEFAULT_PORT: u16 = 4222;
/// Only for a process that is idle otherwise: the heartbeat of core finds a dead link long before.
const DEFAULT_PING: u64 = 5;

/// Where the servers are and as whom we go there.
pub(crate) struct Address {
    pub(crate) servers: Vec<Server>,
    auth: Auth,
    tls: bool,
    ca: Option<PathBuf>,
    /// The client's certificate and its key.
    client: Option<(PathBuf, PathBuf)>,
    /// Where a link's own subject lives.
    pub(crate) inbox: String,
    ping: Duration,
}

/// One of the servers.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) addr: ServerAddr,
    pub(crate) peer: Peer,
}

/// Files are read at every connect, so that they may be renewed in place.
enum Auth {
    None,
    Token(String),
    User(String, String),
    Seed(PathBuf),
    Creds(PathBuf),
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys_and_hosts(KEYS)?;
        let tls = url.scheme() == "tls";
        if !url.path().is_empty() {
            return Err(invalid(url, "has a path, which means nothing to NATS; leave it out"));
        }
        if !tls && ["ca", "cert", "key"].iter().any(|key| url.key(key).is_some()) {
            return Err(invalid(url, "has one of the keys `ca`, `cert`, `key`, which are only for tls://"));
        }
        let path = |key| url.key(key).map(PathBuf::from);
        let client = match (path("cert"), path("key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err(invalid(url, "has only one of the keys `cert` and `key`; give both or none")),
        };
        let inbox = ChannelName::new(url.key("inbox").unwrap_or("_INBOX"))?.to_string();
        let ping = match url.key("ping_interval").map(str::parse) {
            None => DEFAULT_PING,
            Some(Ok(seconds @ 1..=3600)) => seconds,
            Some(_) => return Err(invalid(url, "has a `ping_interval` that is not 1 to 3600 seconds")),
        };
        let auth = auth(url)?;
        let servers = servers(url, &auth)?;
        Ok(Self { servers, auth, tls, ca: path("ca"), client, inbox, ping: Duration::from_secs(ping) })
    }

    /// The settings for one attempt to connect. Reads the files of the credentials; the client reads the others.
    pub(crate) async fn options(&self) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new().name("broker").require_tls(self.tls).ping_interval(self.ping);
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((cert, key)) = &self.client {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        Ok(match &self.auth {
            Auth::None => options,
            Auth::Token(token) => options.token(token.clone()),
            Auth::User(user, password) => options.user_and_password(user.clone(), password.clone()),
            Auth::Seed(path) => {
                let text = read("nkey", path).await?;
                // Alone in the file, or between the lines that some tools put around it.
                let seed = text.split_whitespace().find(|word| word.starts_with("SU"));
                options.nkey(seed.ok_or_else(|| unusable("nkey", path))?.to_owned())
            }
            Auth::Creds(path) => {
                let text = read("creds", path).await?;
                options.credentials(&text).map_err(|_| unusable("creds", path))?
            }
        })
    }
}

fn servers(url: &BrokerUrl, auth: &Auth) -> Result<Vec<Server>> {
    let who = match auth {
        Auth::None => "a client without credentials".to_owned(),
        Auth::Token(_) => "the token".to_owned(),
        Auth::User(user, _) => format!("the user {user:?}"),
        Auth::Seed(path) => format!("the nkey {}", path.display()),
        Auth::Creds(path) => format!("the credentials {}", path.display()),
    };
    let servers = url.hosts().map(|(host, port)| {
        let place = format!("{host}:{}", port.unwrap_or(DEFAULT_PORT));
        let addr = format!("{}://{place}", url.scheme()).parse();
        let addr = addr.map_err(|_| invalid(url, "has a host that is no name of a host"))?;
        Ok(Server { addr, peer: Peer { place, who: who.clone() } })
    });
    let servers: Vec<Server> = servers.collect::<Result<_>>()?;
    if servers.is_empty() {
        return Err(invalid(url, "names no host; write it as nats://127.0.0.1:4222"));
    }
    Ok(servers)
}

fn auth(url: &BrokerUrl) -> Result<Auth> {
    let file = |key| url.key(key).map(PathBuf::from);
    match (url.username(), url.password(), file("nkey"), file("creds")) {
        (None, None, None, None) => Ok(Auth::None),
        (Some(token), None, None, None) => Ok(Auth::Token(token.to_owned())),
        (Some(user), Some(password), None, None) => Ok(Auth::User(user.to_owned(), password.to_owned())),
        (None, None, Some(seed), None) => Ok(Auth::Seed(seed)),
        (None, None, None, Some(creds)) => Ok(Auth::Creds(creds)),
        (None, Some(_), None, None) => {
            Err(invalid(url, "has a password but no user; a token stands alone before the @"))
        }
        _ => Err(invalid(url, "has more than one of: user or token, `nkey`, `creds`; give one")),
    }
}

async fn read(key: &'static str, path: &Path) -> Result<String> {
    let owned = path.to_path_buf();
    // Files may lie on a slow disk; the threads of the runtime do not wait for it.
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(owned)).await;
    let read = read
        .map_err(|_| Error::new(ErrorKind::Other, format!("reading the file of `{key}` was interrupted")))?;
    read.map_err(|error| {
        let message = format!("cannot read the file {key}={}: {error}", path.display());
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}

/// What is in the file stays there.
fn unusable(key: &str, path: &Path) -> Error {
    let message = format!("the file {key}={} does not hold what it should", path.display());
    Error::new(ErrorKind::InvalidInput, message)
}

fn invalid(url: &BrokerUrl, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("url `{url}` {why}"))
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.servers.iter().map(|server| &server.peer)).finish()
    }
}

#[cfg(test)]
mod tests;
