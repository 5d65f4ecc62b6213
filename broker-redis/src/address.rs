//! Address: from a URL to the client's settings, with every part that does not fit named.

use std::{fmt, path::PathBuf};

use broker_core::{
    BrokerUrl, Result,
    driver::{Encryption, ErrorContext, ServerAddr, TlsFiles},
};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    io::tcp::TcpSettings,
};

use crate::errors::translate;

pub(crate) const DEFAULT_PORT: u16 = 6379;

/// Where the server is and as whom we go there.
pub(crate) struct Address {
    pub(crate) peer: ErrorContext,
    /// The host; `None` for a socket of this machine.
    pub(crate) server: Option<ServerAddr>,
    info: ConnectionInfo,
    #[cfg(feature = "tls")]
    tls: Option<TlsFiles>,
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys(TlsFiles::KEYS)?;
        let tls = TlsFiles::parse(url, "rediss", cfg!(feature = "tls"))?;
        let local = url.scheme() == "redis+unix";
        let target = if local { socket(url)? } else { tcp(url, tls.is_some())? };
        let server = if local { None } else { Some(url.server(DEFAULT_PORT)?) };
        let peer = ErrorContext::new("Redis", &target, url.who("default"))
            .hanging_up("see its log, its limit `maxclients`, and any proxy between");
        // Making settings from an address alone reads nothing and cannot fail.
        let info = target.into_connection_info().map_err(|error| translate(&peer, &error))?;
        // Nagle's algorithm would hold a small frame back until the one before is acknowledged.
        let nodelay = TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(credentials(url)).set_tcp_settings(nodelay);
        Ok(Self {
            peer,
            server,
            info,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Whether the connection is encrypted from its first byte.
    pub(crate) fn encryption(&self) -> Encryption {
        if matches!(self.info.addr(), ConnectionAddr::TcpTls { .. }) {
            Encryption::First
        } else {
            Encryption::None
        }
    }

    /// The client for one attempt to connect. Only for TLS this reads something: the PEM files.
    pub(crate) async fn client(&self) -> Result<Client> {
        #[cfg(feature = "tls")]
        if let Some(files) = &self.tls {
            return crate::tls::client(self.info.clone(), files).await;
        }
        Client::open(self.info.clone()).map_err(|error| translate(&self.peer, &error))
    }
}

fn tcp(url: &BrokerUrl, encrypted: bool) -> Result<ConnectionAddr> {
    let server = url.server(DEFAULT_PORT)?;
    if !url.path().is_empty() && url.path().parse::<u32>().is_err() {
        return Err(url.invalid("has a path that is not a database number; correct it or leave it out"));
    }
    let (host, port) = (server.host, server.port);
    if encrypted {
        return Ok(ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None });
    }
    Ok(ConnectionAddr::Tcp(host, port))
}

fn socket(url: &BrokerUrl) -> Result<ConnectionAddr> {
    let local = matches!(url.host(), None | Some("localhost")) && url.port().is_none();
    if !local || url.path().is_empty() {
        return Err(url.invalid("needs a path and no host; write it as redis+unix:///path/to.sock"));
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

/// The client's settings keep the password out of theirs, and not the user, which may be a password in a wrong place.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use broker_core::ErrorKind;

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
    fn invalid_combinations_are_named() {
        refused("redis:", ErrorKind::InvalidInput, "redis://127.0.0.1:6379/");
        refused("redis:///1", ErrorKind::InvalidInput, "names no host");
        refused("redis://localhost/shop", ErrorKind::InvalidInput, "database number");
        refused("redis://localhost/-1", ErrorKind::InvalidInput, "database number");
        refused("redis://localhost/?protocol=resp3", ErrorKind::InvalidInput, "`protocol`");
        refused("redis://localhost/?ca=/ca.pem", ErrorKind::InvalidInput, "only for rediss://");
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
        assert_eq!(address.tls.unwrap().to_string(), "ca=/ca.pem, cert=/cert.pem, key=/key.pem");
    }

    #[test]
    fn debug_shows_no_password_wherever_it_stands() {
        for url in
            ["redis://ada:s3cret@h", "redis://:s3cret@h", "redis://s3cret@h", "redis+unix://s3cret@/run/sock"]
        {
            let shown = format!("{:?} {:#?}", parse(url).unwrap(), parse(url).unwrap());
            assert!(shown.contains("Redis") && !shown.contains("s3cret"), "{url}: {shown}");
        }
    }
}
