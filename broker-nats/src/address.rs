//! Address: from a URL to servers, credentials and the client's settings, with every part that does not fit named.

use std::{fmt, time::Duration};

use async_nats::ConnectOptions;
use broker_core::{
    BrokerUrl, ChannelName, Result,
    driver::{Encryption, ErrorContext, ServerAddr, TlsFiles, UrlFile},
};

const KEYS: &[&str] = &["nkey", "creds", "inbox", TLS_FIRST];
const TLS_FIRST: &str = "tls_first";
pub(crate) const DEFAULT_PORT: u16 = 4222;
/// No name of a host is longer, with its port.
const MAX_PLACE: usize = 270;
/// Only for a process that is idle otherwise: the heartbeat of core finds a dead link long before.
const PING: Duration = Duration::from_secs(5);

/// Where the servers are and as whom we go there.
pub(crate) struct Address {
    pub(crate) servers: Vec<ServerAddr>,
    /// Whichever of them it is.
    pub(crate) peer: ErrorContext,
    /// Where a link's own subject lives.
    pub(crate) inbox: String,
    pub(crate) encryption: Encryption,
    /// A server that another one announces has to prove who it is, or nobody does.
    trusts_announced: bool,
    scheme: String,
    options: ConnectOptions,
    nkey: Option<UrlFile>,
    creds: Option<UrlFile>,
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys_and_hosts(&[KEYS, TlsFiles::KEYS].concat())?;
        if !url.path().is_empty() {
            return Err(url.invalid("has a path; leave it out, NATS has none"));
        }
        let inbox = ChannelName::new(url.key("inbox").unwrap_or("_INBOX"))?.to_string();
        let servers = url.servers(DEFAULT_PORT)?;
        if servers.iter().any(|server| client_addr(url.scheme(), server).is_none()) {
            return Err(url.invalid("has an invalid host name; correct it"));
        }
        let hosts: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let (nkey, creds) = (UrlFile::of(url, "nkey"), UrlFile::of(url, "creds"));
        let (options, encryption) = encrypted(url)?;
        let options = options.name("broker").ping_interval(PING);
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
        let peer = ErrorContext::new("NATS", format!("{one_of}{}", hosts.join(", ")), who)
            .hanging_up("see its log, and whether it wants TLS from the first byte (the key `tls_first`)");
        let trusts_announced = encryption != Encryption::AfterGreeting || url.key("ca").is_some();
        let scheme = url.scheme().to_owned();
        Ok(Self { servers, peer, inbox, encryption, trusts_announced, scheme, options, nkey, creds })
    }

    /// One of the servers, for the client.
    pub(crate) fn client_addr(&self, server: &ServerAddr) -> Result<async_nats::ServerAddr> {
        client_addr(&self.scheme, server).ok_or_else(|| self.peer.unreachable("invalid host name"))
    }

    /// A server as another one announces it: `10.0.0.1:4222`, `[::1]:4222`. `None` if that is no address.
    pub(crate) fn announced(&self, place: &str) -> Option<ServerAddr> {
        let place = Some(place).filter(|place| place.len() <= MAX_PLACE)?;
        let url = BrokerUrl::parse(&format!("nats://{place}")).ok()?;
        // Nothing but one host and its port.
        let server = url.server(DEFAULT_PORT).ok().filter(|server| server.to_string() == place)?;
        client_addr(&self.scheme, &server).map(|_| server)
    }

    /// Whether to sign in at a server that another one has announced. A greeting comes before TLS: whoever is on the way may
    /// put a server of his own into it, with a certificate that everybody trusts. He has none for a host of the URL, and none
    /// of the authority that it names.
    pub(crate) fn may_sign_in(&self, server: &ServerAddr) -> bool {
        self.trusts_announced || self.servers.iter().any(|named| named.host == server.host)
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

fn client_addr(scheme: &str, server: &ServerAddr) -> Option<async_nats::ServerAddr> {
    format!("{scheme}://{server}").parse().ok()
}

/// Whether TLS is insisted on, when it begins, and the files for it.
fn encrypted(url: &BrokerUrl) -> Result<(ConnectOptions, Encryption)> {
    let first = match url.key(TLS_FIRST) {
        None | Some("false") => false,
        Some("true") if url.scheme() == "tls" => true,
        Some("true") => return Err(url.invalid("has the key `tls_first`, which is only for tls://")),
        Some(_) => return Err(url.invalid("has an invalid key `tls_first`; give true or false")),
    };
    let Some(tls) = TlsFiles::parse(url, "tls", true)? else {
        return Ok((ConnectOptions::new(), Encryption::None));
    };
    let mut options = ConnectOptions::new().require_tls(true);
    if first {
        options = options.tls_first();
    }
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.path().to_owned());
    }
    if let Some((cert, key)) = &tls.client {
        options = options.add_client_certificate(cert.path().to_owned(), key.path().to_owned());
    }
    Ok((options, if first { Encryption::First } else { Encryption::AfterGreeting }))
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
