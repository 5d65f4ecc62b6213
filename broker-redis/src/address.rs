//! Address: from a URL to the client's settings, with every part that does not fit named.

use std::path::PathBuf;

use broker_core::{BrokerUrl, Error, ErrorKind, Result};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    io::tcp::TcpSettings,
};

use crate::errors::Peer;

const KEYS: &[&str] = &["ca", "cert", "key"];
const DEFAULT_PORT: u16 = 6379;

/// Where the server is and as whom we go there. The client's settings keep the password out of `Debug`.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) peer: Peer,
    info: ConnectionInfo,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "rediss:// is refused before it is read"))]
    files: PemFiles,
}

/// The PEM files of an encrypted connection.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "rediss:// is refused before it is read"))]
pub(crate) struct PemFiles {
    pub(crate) ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys(KEYS)?;
        let files = pem_files(url)?;
        let target = if url.scheme() == "redis+unix" { socket(url)? } else { tcp(url)? };
        let peer = Peer::new(target.to_string(), url.username());
        // Making settings from an address alone reads nothing and cannot fail.
        let info = target.into_connection_info().map_err(|error| peer.error(&error))?;
        // Nagle's algorithm would hold a small frame back until the one before is acknowledged.
        let tcp = TcpSettings::default().set_nodelay(true);
        Ok(Self { peer, info: info.set_redis_settings(credentials(url)).set_tcp_settings(tcp), files })
    }

    /// The client for one attempt to connect. Only for TLS this reads something: the PEM files.
    pub(crate) async fn client(&self) -> Result<Client> {
        #[cfg(feature = "tls")]
        if matches!(self.info.addr(), ConnectionAddr::TcpTls { .. }) {
            return crate::tls::client(self.info.clone(), self.files.clone()).await;
        }
        Client::open(self.info.clone()).map_err(|error| self.peer.error(&error))
    }
}

fn tcp(url: &BrokerUrl) -> Result<ConnectionAddr> {
    let Some(host) = url.host() else {
        return Err(invalid(url, "names no host; write it as redis://127.0.0.1:6379/"));
    };
    if !url.path().is_empty() && url.path().parse::<u32>().is_err() {
        return Err(invalid(url, "has a path that is no database number; leave it out"));
    }
    // A URL writes an IPv6 address in brackets; a resolver does not want them.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port().unwrap_or(DEFAULT_PORT);
    match url.scheme() {
        "rediss" if cfg!(feature = "tls") => {
            Ok(ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None })
        }
        "rediss" => {
            let message = format!("url `{url}` needs the cargo feature `tls`; enable it");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
        _ => Ok(ConnectionAddr::Tcp(host, port)),
    }
}

fn socket(url: &BrokerUrl) -> Result<ConnectionAddr> {
    let local = matches!(url.host(), None | Some("localhost")) && url.port().is_none();
    if !local || url.path().is_empty() {
        return Err(invalid(url, "needs a path and no host; write it as redis+unix:///path/to.sock"));
    }
    Ok(ConnectionAddr::Unix(PathBuf::from(format!("/{}", url.path()))))
}

fn credentials(url: &BrokerUrl) -> RedisConnectionInfo {
    // The client would also send its name, and read all replies before it looks at the first: of a server
    // that refuses us and hangs up we would learn only that it hung up.
    let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    match (url.username(), url.password()) {
        (None, None) => info,
        (None, Some(password)) => info.set_password(password),
        // Without a password the client would drop the user, and go on as the default user.
        (Some(user), password) => info.set_username(user).set_password(password.unwrap_or_default()),
    }
}

fn pem_files(url: &BrokerUrl) -> Result<PemFiles> {
    if url.scheme() != "rediss" && KEYS.iter().any(|key| url.key(key).is_some()) {
        return Err(invalid(url, "has one of the keys `ca`, `cert`, `key`, which are only for rediss://"));
    }
    let path = |key| url.key(key).map(PathBuf::from);
    let client = match (path("cert"), path("key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert, key)),
        _ => return Err(invalid(url, "has only one of the keys `cert` and `key`; give both or none")),
    };
    Ok(PemFiles { ca: path("ca"), client })
}

fn invalid(url: &BrokerUrl, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("url `{url}` {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address> {
        Address::parse(&BrokerUrl::parse(url).unwrap())
    }

    fn target(url: &str) -> ConnectionAddr {
        parse(url).unwrap().info.addr().clone()
    }

    #[track_caller]
    fn refused(url: &str, kind: ErrorKind, part: &str) {
        let error = parse(url).expect_err("an error");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn host_and_port() {
        let tcp = |host: &str, port| ConnectionAddr::Tcp(host.to_owned(), port);
        assert_eq!(target("redis://example.net"), tcp("example.net", 6379));
        assert_eq!(target("redis://127.0.0.1:7000/"), tcp("127.0.0.1", 7000));
        assert_eq!(target("redis://[::1]:7000/"), tcp("::1", 7000));
        assert_eq!(target("redis://[::1]"), tcp("::1", 6379));
        assert_eq!(target("redis://localhost/15?prefix=shop&heartbeat=1s"), tcp("localhost", 6379));
    }

    #[test]
    fn no_delay_and_resp3() {
        let address = parse("redis://localhost").unwrap();
        assert!(address.info.tcp_settings().nodelay());
        assert_eq!(address.info.redis_settings().protocol(), ProtocolVersion::RESP3);
    }

    #[test]
    fn user_and_password() {
        for (url, user, password) in [
            ("redis://localhost", None, None),
            ("redis://:p%40ss@localhost", None, Some("p@ss")),
            ("redis://ada:secret@localhost", Some("ada"), Some("secret")),
            ("redis://ada@localhost", Some("ada"), Some("")),
            ("redis+unix://ada:secret@localhost/run/redis.sock", Some("ada"), Some("secret")),
        ] {
            let address = parse(url).unwrap();
            let settings = address.info.redis_settings();
            assert_eq!((settings.username(), settings.password()), (user, password), "{url}");
        }
    }

    #[test]
    fn sockets() {
        let socket = ConnectionAddr::Unix("/run/my redis.sock".into());
        assert_eq!(target("redis+unix:///run/my%20redis.sock"), socket);
        assert_eq!(target("redis+unix://:secret@localhost/run/my%20redis.sock"), socket);
        refused("redis+unix://elsewhere/run/redis.sock", ErrorKind::InvalidInput, "no host");
        refused("redis+unix://localhost:1/run/redis.sock", ErrorKind::InvalidInput, "no host");
        refused("redis+unix:", ErrorKind::InvalidInput, "needs a path");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        refused("redis:", ErrorKind::InvalidInput, "redis://127.0.0.1:6379/");
        refused("redis:///1", ErrorKind::InvalidInput, "names no host");
        refused("redis://localhost/shop", ErrorKind::InvalidInput, "database number");
        refused("redis://localhost/-1", ErrorKind::InvalidInput, "database number");
        refused("redis://localhost/?protocol=resp3", ErrorKind::InvalidInput, "`protocol`");
        refused("redis://localhost/?ca=/ca.pem", ErrorKind::InvalidInput, "only for rediss://");
        refused("rediss://localhost/?cert=/cert.pem", ErrorKind::InvalidInput, "give both");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_its_feature_names_the_feature() {
        refused("rediss://localhost", ErrorKind::Unsupported, "feature `tls`");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_is_checked_and_takes_files() {
        let address = parse("rediss://localhost:7/?ca=/ca.pem&cert=/cert.pem&key=/key.pem").unwrap();
        assert!(matches!(address.info.addr(), ConnectionAddr::TcpTls { port: 7, insecure: false, .. }));
        assert_eq!(address.files.ca, Some("/ca.pem".into()));
        assert_eq!(address.files.client, Some(("/cert.pem".into(), "/key.pem".into())));
    }
}
