//! Address: from a URL to servers, credentials and the client's settings, with every part that does not fit named.

use std::{fmt, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};
use broker_core::{
    BrokerUrl, ChannelName, Result,
    driver::{Peer, TlsFiles, UrlFile},
};

const KEYS: &[&str] = &["nkey", "creds", "inbox", "ping_interval"];
const DEFAULT_PORT: u16 = 4222;
/// Only for a process that is idle otherwise: the heartbeat of core finds a dead link long before.
const DEFAULT_PING: u64 = 5;

/// Where the servers are and as whom we go there.
pub(crate) struct Address {
    pub(crate) servers: Vec<Server>,
    auth: Auth,
    /// Whether TLS is insisted on, and the files for it.
    tls: Option<TlsFiles>,
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

enum Auth {
    None,
    Token(String),
    User(String, String),
    Seed(UrlFile),
    Creds(UrlFile),
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys_and_hosts(&[KEYS, TlsFiles::KEYS].concat())?;
        let tls = TlsFiles::parse(url, "tls", true)?;
        if !url.path().is_empty() {
            return Err(url.invalid("has a path, which means nothing to NATS; leave it out"));
        }
        let inbox = ChannelName::new(url.key("inbox").unwrap_or("_INBOX"))?.to_string();
        let ping = match url.key("ping_interval").map(str::parse) {
            None => DEFAULT_PING,
            Some(Ok(seconds @ 1..=3600)) => seconds,
            Some(_) => return Err(url.invalid("has a `ping_interval` that is not 1 to 3600 seconds")),
        };
        let (auth, who) = auth(url)?;
        let servers = url.servers(DEFAULT_PORT)?.into_iter().map(|server| {
            let addr = format!("{}://{server}", url.scheme()).parse();
            let addr = addr.map_err(|_| url.invalid("has a host that is no name of a host"))?;
            Ok(Server { addr, peer: Peer::new("NATS", server, who.clone()) })
        });
        let servers = servers.collect::<Result<_>>()?;
        Ok(Self { servers, auth, tls, inbox, ping: Duration::from_secs(ping) })
    }

    /// The settings for one attempt to connect. Reads the files of the credentials; the client reads the others.
    pub(crate) async fn options(&self) -> Result<ConnectOptions> {
        let options = ConnectOptions::new().name("broker").ping_interval(self.ping);
        let mut options = options.require_tls(self.tls.is_some());
        if let Some(ca) = self.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            options = options.add_root_certificates(ca.path().to_owned());
        }
        if let Some((cert, key)) = self.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
            options = options.add_client_certificate(cert.path().to_owned(), key.path().to_owned());
        }
        Ok(match &self.auth {
            Auth::None => options,
            Auth::Token(token) => options.token(token.clone()),
            Auth::User(user, password) => options.user_and_password(user.clone(), password.clone()),
            Auth::Seed(file) => {
                let text = text(file).await?;
                // Alone in the file, or between the lines that some tools put around it.
                let seed = text.split_whitespace().find(|word| word.starts_with("SU"));
                options.nkey(seed.ok_or_else(|| file.unusable())?.to_owned())
            }
            Auth::Creds(file) => options.credentials(&text(file).await?).map_err(|_| file.unusable())?,
        })
    }
}

async fn text(file: &UrlFile) -> Result<String> {
    String::from_utf8(file.read().await?).map_err(|_| file.unusable())
}

/// The credentials, and how errors name them.
fn auth(url: &BrokerUrl) -> Result<(Auth, String)> {
    let files = (UrlFile::of(url, "nkey"), UrlFile::of(url, "creds"));
    Ok(match (url.username(), url.password(), files) {
        (None, None, (None, None)) => (Auth::None, "a client without credentials".to_owned()),
        (Some(token), None, (None, None)) => (Auth::Token(token.to_owned()), "the token".to_owned()),
        (Some(user), Some(password), (None, None)) => {
            (Auth::User(user.to_owned(), password.to_owned()), format!("the user {user:?}"))
        }
        (None, None, (Some(seed), None)) => {
            let who = format!("the nkey {}", seed.path().display());
            (Auth::Seed(seed), who)
        }
        (None, None, (None, Some(creds))) => {
            let who = format!("the credentials {}", creds.path().display());
            (Auth::Creds(creds), who)
        }
        (None, Some(_), (None, None)) => {
            return Err(url.invalid("has a password but no user; a token stands alone before the @"));
        }
        _ => return Err(url.invalid("has more than one of: user or token, `nkey`, `creds`; give one")),
    })
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.servers.iter().map(|server| &server.peer)).finish()
    }
}

#[cfg(test)]
mod tests;
