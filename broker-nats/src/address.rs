//! Address: from a URL to servers, credentials and the client's settings, with every part that does not fit named.

use std::{fmt, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};
use broker_core::{
    BrokerUrl, ChannelName, Result,
    driver::{Peer, TlsFiles, UrlFile},
};

const KEYS: &[&str] = &["nkey", "creds", "inbox"];
const DEFAULT_PORT: u16 = 4222;
/// Only for a process that is idle otherwise: the heartbeat of core finds a dead link long before.
const PING: Duration = Duration::from_secs(5);

/// Where the servers are and as whom we go there.
pub(crate) struct Address {
    pub(crate) servers: Vec<ServerAddr>,
    /// Whichever of them it is.
    pub(crate) peer: Peer,
    /// Where a link's own subject lives.
    pub(crate) inbox: String,
    options: ConnectOptions,
    nkey: Option<UrlFile>,
    creds: Option<UrlFile>,
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys_and_hosts(&[KEYS, TlsFiles::KEYS].concat())?;
        if !url.path().is_empty() {
            return Err(url.invalid("has a path, which means nothing to NATS; leave it out"));
        }
        let inbox = ChannelName::new(url.key("inbox").unwrap_or("_INBOX"))?.to_string();
        let hosts: Vec<_> = url.servers(DEFAULT_PORT)?.iter().map(ToString::to_string).collect();
        let servers = hosts.iter().map(|host| {
            let server = format!("{}://{host}", url.scheme()).parse();
            server.map_err(|_| url.invalid("has a host that is no name of a host"))
        });
        let servers: Vec<_> = servers.collect::<Result<_>>()?;
        let (nkey, creds) = (UrlFile::of(url, "nkey"), UrlFile::of(url, "creds"));
        let options = encrypted(url)?.name("broker").ping_interval(PING);
        let (options, who) = match (url.username(), url.password(), &nkey, &creds) {
            (None, None, None, None) => (options, "a client without credentials".to_owned()),
            (Some(token), None, None, None) => (options.token(token.to_owned()), "the token".to_owned()),
            (Some(user), Some(password), None, None) => {
                let options = options.user_and_password(user.to_owned(), password.to_owned());
                (options, url.who("anonymous"))
            }
            (None, None, Some(seed), None) => (options, format!("the nkey in the file {seed}")),
            (None, None, None, Some(creds)) => (options, format!("the credentials in the file {creds}")),
            (None, Some(_), None, None) => {
                return Err(url.invalid("has a password but no user; a token stands alone before the @"));
            }
            _ => return Err(url.invalid("has more than one of: user or token, `nkey`, `creds`; give one")),
        };
        let one_of = if hosts.len() > 1 { "one of " } else { "" };
        let peer = Peer::new("NATS", format!("{one_of}{}", hosts.join(", ")), who);
        Ok(Self { servers, peer, inbox, options, nkey, creds })
    }

    /// The settings for one attempt to connect. Reads the files of the credentials; the client reads the others.
    pub(crate) async fn options(&self) -> Result<ConnectOptions> {
        let mut options = self.options.clone();
        if let Some(file) = &self.nkey {
            let text = text(file).await?;
            // Alone in the file, or between the lines that some tools put around it.
            let seed = text.split_whitespace().find(|word| word.starts_with("SU"));
            options = options.nkey(seed.ok_or_else(|| file.unusable())?.to_owned());
        }
        if let Some(file) = &self.creds {
            options = options.credentials(&text(file).await?).map_err(|_| file.unusable())?;
        }
        Ok(options)
    }
}

/// Whether TLS is insisted on, and the files for it.
fn encrypted(url: &BrokerUrl) -> Result<ConnectOptions> {
    let Some(tls) = TlsFiles::parse(url, "tls", true)? else { return Ok(ConnectOptions::new()) };
    let mut options = ConnectOptions::new().require_tls(true);
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.path().to_owned());
    }
    if let Some((cert, key)) = &tls.client {
        options = options.add_client_certificate(cert.path().to_owned(), key.path().to_owned());
    }
    Ok(options)
}

async fn text(file: &UrlFile) -> Result<String> {
    String::from_utf8(file.read().await?).map_err(|_| file.unusable())
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

#[cfg(test)]
mod tests;
