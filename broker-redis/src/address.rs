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
/// What to look at when a server hangs up.
const HANGS_UP: &str = "see its log, its limit `maxclients`, and any proxy between";
/// A Sentinel, or a server that it has named, where errors name the scheme to use.
const SENTINEL: &str = "Redis Sentinel";
/// A member of a cluster, where errors name the scheme to use.
const CLUSTER: &str = "Redis Cluster";

/// More is no host's name.
const LONGEST_HOST: usize = 253;

/// Whether a server may have named this host: it goes to the resolver, and into errors.
pub(crate) fn is_host(host: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
    !host.is_empty() && host.len() <= LONGEST_HOST && host.chars().all(fits)
}

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
        if url.hosts().len() > 1 {
            let why = "names several hosts; write redis+cluster:// for a Redis Cluster, redis+sentinel:// with the key `master` \
                       for Sentinels, or one host";
            return Err(url.invalid(why));
        }
        url.allow_keys(TlsFiles::KEYS)?;
        let tls = TlsFiles::parse(url, "rediss", cfg!(feature = "tls"))?;
        if url.scheme() == "redis+unix" {
            return Self::new(url, socket(url)?, None, tls);
        }
        let server = url.server(DEFAULT_PORT)?;
        check_database(url)?;
        Self::new(url, tcp(server.clone(), tls.is_some()), Some(server), tls)
    }

    /// With the credentials of a URL, to one of its servers.
    pub(crate) fn of_server(url: &BrokerUrl, server: &ServerAddr, tls: Option<TlsFiles>) -> Result<Self> {
        Self::new(url, tcp(server.clone(), tls.is_some()), Some(server.clone()), tls)
    }

    #[cfg_attr(not(feature = "tls"), allow(unused_variables, clippy::needless_pass_by_value))]
    fn new(
        url: &BrokerUrl,
        target: ConnectionAddr,
        server: Option<ServerAddr>,
        tls: Option<TlsFiles>,
    ) -> Result<Self> {
        let peer = ErrorContext::new("Redis", &target, url.who("default")).hanging_up(HANGS_UP);
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

    /// The same way to another server, which a cluster has named.
    pub(crate) fn at(&self, server: &ServerAddr) -> Self {
        let addr = tcp(server.clone(), self.encryption() == Encryption::First);
        Self {
            peer: self.peer.at(server),
            server: Some(server.clone()),
            info: self.info.clone().set_addr(addr),
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        }
    }

    /// The same server as another user, whom errors call `who`; and the Sentinel's schemes in them.
    pub(crate) fn of_sentinel(self, who: &str, user: Option<&str>, password: Option<&str>) -> Self {
        let peer = ErrorContext::new(SENTINEL, self.peer.place(), who).hanging_up(HANGS_UP);
        Self { peer, info: self.info.set_redis_settings(signing_in(user, password)), ..self }
    }

    /// The same server, with the cluster's schemes in errors.
    pub(crate) fn of_cluster(self, who: String) -> Self {
        Self { peer: ErrorContext::new(CLUSTER, self.peer.place(), who).hanging_up(HANGS_UP), ..self }
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

/// The path is a database number, or nothing.
pub(crate) fn check_database(url: &BrokerUrl) -> Result<()> {
    if url.path().is_empty() || url.path().parse::<u32>().is_ok() {
        return Ok(());
    }
    Err(url.invalid("has a path that is not a database number; correct it or leave it out"))
}

fn tcp(server: ServerAddr, encrypted: bool) -> ConnectionAddr {
    let (host, port) = (server.host, server.port);
    if encrypted {
        return ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
    }
    ConnectionAddr::Tcp(host, port)
}

fn socket(url: &BrokerUrl) -> Result<ConnectionAddr> {
    let local = matches!(url.host(), None | Some("localhost")) && url.port().is_none();
    if !local || url.path().is_empty() {
        return Err(url.invalid("needs a path and no host; write it as redis+unix:///path/to.sock"));
    }
    Ok(ConnectionAddr::Unix(PathBuf::from(format!("/{}", url.path()))))
}

fn credentials(url: &BrokerUrl) -> RedisConnectionInfo {
    signing_in(url.username(), url.password())
}

fn signing_in(user: Option<&str>, password: Option<&str>) -> RedisConnectionInfo {
    // The client would also send its name, and read all replies before it looks at the first: of a server
    // that refuses us and hangs up we would learn only that it hung up.
    let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    match (user, password) {
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
        refused("redis://a,b", ErrorKind::InvalidInput, "redis+cluster://");
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
