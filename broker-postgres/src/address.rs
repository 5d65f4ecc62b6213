//! Address: from a URL to servers and the client's settings, with every part that does not fit named.

use std::fmt;

use broker_core::{
    BrokerUrl, Result,
    driver::{ErrorContext, ServerAddr, TlsFiles},
};
use tokio_postgres::{Config, config::SslMode};

pub(crate) const DEFAULT_PORT: u16 = 5432;
/// The key that says whether to encrypt, as all programs for PostgreSQL call it, and its value for no.
pub(crate) const SSLMODE: &str = "sslmode";
pub(crate) const DISABLE: &str = "disable";

const TARGET: &str = "target_session_attrs";
/// What to look at when a server hangs up.
const HANGS_UP: &str = "see its log, and any pooler or proxy between";

/// Where the servers are, and as whom we go there.
pub(crate) struct Address {
    pub(crate) servers: Vec<ServerAddr>,
    /// Whichever of them it is.
    pub(crate) peer: ErrorContext,
    /// With the password: never shown.
    config: Config,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsFiles>,
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        refuse_unix_sockets(url)?;
        url.allow_keys_and_hosts(&[&[SSLMODE, TARGET], TlsFiles::KEYS].concat())?;
        let tls = tls(url)?;
        if !matches!(url.key(TARGET), None | Some("read-write" | "primary")) {
            let why = format!(
                "has an invalid key `{TARGET}`; a standby takes no LISTEN: leave it out, or write read-write"
            );
            return Err(url.invalid(why));
        }
        let parts = [url.username(), url.password(), Some(url.path())];
        // Nothing after it would reach the server.
        if parts.iter().flatten().any(|part| part.contains('\0')) {
            return Err(url.invalid("has a NUL character in its user, password or database; remove it"));
        }
        let servers = url.servers(DEFAULT_PORT)?;
        let mut config = Config::new();
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if let Some(user) = url.username() {
            config.user(user);
        }
        if let Some(password) = url.password() {
            config.password(password);
        }
        if !url.path().is_empty() {
            config.dbname(url.path());
        }
        let hosts: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let one_of = if hosts.len() > 1 { "one of " } else { "" };
        let database = match url.path() {
            "" => "the database of that name".to_owned(),
            path => format!("database {path:?}"),
        };
        let who = match url.username() {
            // The client takes the name of the process's user.
            None => format!("the user of this process in {database}"),
            Some(_) => format!("{} in {database}", url.who("")),
        };
        let peer = ErrorContext::new("PostgreSQL", format!("{one_of}{}", hosts.join(", ")), who);
        Ok(Self {
            servers,
            peer: peer.hanging_up(HANGS_UP),
            config,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// The client's settings for one connection, with the name that the server shows for it.
    pub(crate) fn config(&self, name: &str) -> Config {
        let mut config = self.config.clone();
        config.application_name(name);
        config
    }
}

/// Other programs for PostgreSQL take the key `host` for the directory of a Unix socket, and go to one where no host is named.
fn refuse_unix_sockets(url: &BrokerUrl) -> Result<()> {
    let named = match (url.key("host"), url.hosts().len()) {
        (Some(host), _) if host.starts_with('/') => "names a Unix socket",
        (None, 0) => "names no host",
        _ => return Ok(()),
    };
    let why = format!(
        "{named}, and this driver connects by TCP only; write the address at which the server listens (see \
         `listen_addresses`), as in {}://127.0.0.1:{DEFAULT_PORT}/",
        url.scheme()
    );
    Err(url.invalid(why))
}

/// The files of an encrypted connection; `None` for one that is not.
fn tls(url: &BrokerUrl) -> Result<Option<TlsFiles>> {
    match url.key(SSLMODE) {
        None | Some(DISABLE) => match TlsFiles::KEYS.iter().find(|key| url.key(key).is_some()) {
            None => Ok(None),
            Some(key) => {
                let why = format!("has the key `{key}`, which is only for {SSLMODE}=verify-full; add that");
                Err(url.invalid(why))
            }
        },
        // There is no encryption without a check of whom it is with.
        Some("require" | "verify-full") => TlsFiles::of(url, cfg!(feature = "tls")).map(Some),
        Some(_) => Err(url.invalid(format!(
            "has an invalid key `{SSLMODE}`; write verify-full to encrypt (require is the same: the certificate is always \
             checked), or {DISABLE}"
        ))),
    }
}

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

    #[track_caller]
    fn refused(url: &str, kind: ErrorKind, part: &str) {
        let error = parse(url).expect_err("an error");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn several_hosts() {
        let address = parse("postgres://ada:x@a,[::1]:7,10.0.0.1/shop?prefix=s").unwrap();
        let servers: Vec<_> = address.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["a:5432", "[::1]:7", "10.0.0.1:5432"]);
        assert_eq!(address.peer.place(), "one of a:5432, [::1]:7, 10.0.0.1:5432");
    }

    #[test]
    fn user_password_and_database() {
        for (url, user, password, database) in [
            ("postgres://h", None, None, None),
            ("postgresql://ad%61:p%40ss@h/", Some("ada"), Some("p@ss"), None),
            ("postgres://ada@h/my%20shop?heartbeat=1s", Some("ada"), None, Some("my shop")),
        ] {
            let config = parse(url).unwrap().config("x");
            assert_eq!(config.get_user(), user, "{url}");
            assert_eq!(config.get_password(), password.map(str::as_bytes), "{url}");
            assert_eq!(config.get_dbname(), database, "{url}");
            assert_eq!(config.get_application_name(), Some("x"));
        }
    }

    #[test]
    fn errors_name_the_user_and_the_database() {
        for (url, who) in [
            ("postgres://ada:x@h/shop", "the user \"ada\" in database \"shop\""),
            ("postgres://ada:x@h", "the user \"ada\" in the database of that name"),
            ("postgres://h/shop", "the user of this process in database \"shop\""),
        ] {
            assert_eq!(parse(url).unwrap().peer.who(), who);
        }
    }

    #[test]
    fn invalid_combinations_are_named() {
        refused("postgres:", ErrorKind::InvalidInput, "postgres://127.0.0.1:5432/");
        refused(
            "postgres:///shop",
            ErrorKind::InvalidInput,
            "names no host, and this driver connects by TCP only",
        );
        refused("postgres://h/?options=-c", ErrorKind::InvalidInput, "`options`");
        refused("postgres://h/?sslmode=prefer", ErrorKind::InvalidInput, "write verify-full");
        refused("postgres://h/?ca=/ca.pem", ErrorKind::InvalidInput, "only for sslmode=verify-full");
        refused("postgres://h/?sslmode=disable&ca=/ca", ErrorKind::InvalidInput, "only for sslmode");
        refused("postgres://h/?target_session_attrs=any", ErrorKind::InvalidInput, "read-write");
        refused("postgres://h/a%00b", ErrorKind::InvalidInput, "NUL character");
        assert!(parse("postgres://h/?target_session_attrs=read-write&sslmode=disable").is_ok());
    }

    #[test]
    fn a_unix_socket_is_refused_by_name() {
        let socket = "postgres:///shop?host=/var/run/postgresql";
        refused(socket, ErrorKind::InvalidInput, "names a Unix socket, and this driver connects by TCP only");
        refused(socket, ErrorKind::InvalidInput, "postgres://127.0.0.1:5432/");
        refused("postgres://h/shop?host=/run", ErrorKind::InvalidInput, "names a Unix socket");
        refused("postgres://h/shop?host=other", ErrorKind::InvalidInput, "unknown key `host`");
        let error = BrokerUrl::parse("postgres://%2Fvar%2Frun%2Fpostgresql/shop").expect_err("a socket");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("the path of a Unix socket"), "{error}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_its_feature_names_the_feature() {
        refused("postgres://h/?sslmode=require", ErrorKind::Unsupported, "feature `tls`");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_takes_files() {
        for mode in ["require", "verify-full"] {
            let url = format!("postgres://h/?sslmode={mode}&ca=/ca.pem&cert=/cert.pem&key=/key.pem");
            let address = parse(&url).unwrap();
            assert_eq!(address.tls.as_ref().unwrap().to_string(), "ca=/ca.pem, cert=/cert.pem, key=/key.pem");
            assert_eq!(address.config("x").get_ssl_mode(), SslMode::Require);
        }
        refused("postgres://h/?sslmode=require&cert=/c.pem", ErrorKind::InvalidInput, "give both");
    }

    #[test]
    fn debug_shows_no_password_wherever_it_stands() {
        for url in ["postgres://ada:s3cret@h/shop", "postgres://s3cret@h/shop", "postgres://:s3cret@h"] {
            let address = parse(url).unwrap();
            let shown = format!("{address:?} {address:#?} {}", address.peer.who());
            assert!(shown.contains("h:5432") && !shown.contains("s3cret"), "{url}: {shown}");
        }
    }
}
