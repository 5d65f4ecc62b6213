//! Address: from a URL to the client's settings, with every part that does not fit named.

use std::fmt;

use broker_core::{
    BrokerUrl, Result,
    driver::{Encryption, ErrorContext, Place, ServerAddr, TlsFiles},
};
use lapin::{
    types::ShortString,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};

const DEFAULT_EXCHANGE: &str = "broker";
/// What RabbitMQ knows as long as nobody changed it; from afar it lets nobody in by these.
const DEFAULT_USER: &str = "guest";
/// How often, in seconds, each side shows that it lives; after two of them in silence the server gives a
/// dead client's queue up. We find a dead server sooner, by core's own heartbeat.
const HEARTBEAT: u16 = 5;
/// The longest AMQP frame, if the server allows as much. The client keeps buffers of 64 times this for each connection:
/// with the server's usual 128 KiB they were 8 MB, and taken at once, for they
/// grew when the server had said so. The longest batch of posts that goes as one frame fits into this.
const FRAME_MAX: u32 = 65 * 1024;
/// Where to look when the server ends a connection that is being opened.
const HANG_UP: &str = "see its log: perhaps its `frame_max` is below 8192, which is what the client needs, or a proxy \
                       has no server behind it";
/// The longest name in AMQP, in bytes.
pub(crate) const LONGEST_NAME: usize = 255;
/// The longest name of an exchange: a queue is called after it, with a dot and 32 digits.
const LONGEST_EXCHANGE: usize = LONGEST_NAME - 33;

/// Without encryption.
pub(crate) const DEFAULT_PORT: u16 = 5672;

/// Where the servers are, as whom we go there, and what we use of them.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) servers: Vec<ServerAddr>,
    /// Whichever of them it is.
    pub(crate) peer: ErrorContext,
    pub(crate) exchange: ShortString,
    /// That of the first server. With the password: never shown.
    pub(crate) uri: AMQPUri,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsFiles>,
}

impl Address {
    pub(crate) fn parse(url: &BrokerUrl) -> Result<Self> {
        url.allow_keys_and_hosts(&[&["exchange"], TlsFiles::KEYS].concat())?;
        let tls = TlsFiles::parse(url, "amqps", cfg!(feature = "tls"))?;
        let encrypted = tls.is_some();
        let servers = url.servers(if encrypted { 5671 } else { DEFAULT_PORT })?;
        let hosts: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let one_of = if hosts.len() > 1 { "one of " } else { "" };
        let place = format!("{one_of}{}", hosts.join(", "));
        let vhost = if url.path().is_empty() { "/" } else { url.path() };
        if vhost.len() > LONGEST_NAME {
            return Err(url.invalid("names a virtual host longer than 255 bytes; shorten it"));
        }
        let userinfo = credentials(url);
        let who = format!("{} in virtual host {vhost:?}", url.who(DEFAULT_USER));
        Ok(Self {
            peer: ErrorContext::new("RabbitMQ", place, who).hanging_up(HANG_UP),
            exchange: exchange(url)?,
            uri: AMQPUri {
                scheme: if encrypted { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
                authority: AMQPAuthority { userinfo, host: servers[0].host.clone(), port: servers[0].port },
                vhost: vhost.to_owned(),
                query: AMQPQueryString {
                    heartbeat: Some(HEARTBEAT),
                    frame_max: Some(FRAME_MAX),
                    ..AMQPQueryString::default()
                },
            },
            servers,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// The same at one of its places.
    pub(crate) fn at(&self, place: &Place) -> Self {
        let mut chosen = Self { peer: self.peer.at(place), ..self.clone() };
        (chosen.uri.authority.host, chosen.uri.authority.port) =
            (place.server.host.clone(), place.server.port);
        chosen
    }

    /// Whether the connection is encrypted from its first byte.
    pub(crate) fn encryption(&self) -> Encryption {
        if self.uri.scheme == AMQPScheme::AMQPS { Encryption::First } else { Encryption::None }
    }
}

fn credentials(url: &BrokerUrl) -> AMQPUserInfo {
    let (username, password) = match (url.username(), url.password()) {
        (None, None) => (DEFAULT_USER, DEFAULT_USER),
        (user, password) => (user.unwrap_or(DEFAULT_USER), password.unwrap_or_default()),
    };
    AMQPUserInfo { username: username.to_owned(), password: password.to_owned() }
}

fn exchange(url: &BrokerUrl) -> Result<ShortString> {
    let name = url.key("exchange").unwrap_or(DEFAULT_EXCHANGE);
    if (1..=LONGEST_EXCHANGE).contains(&name.len()) && !name.starts_with("amq.") {
        return Ok(name.into());
    }
    Err(url.invalid("has an invalid key `exchange`; give 1 to 222 bytes that do not begin with `amq.`"))
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
    fn host_and_port() {
        for (url, host, port) in [
            ("amqp://example.net", "example.net", 5672),
            ("amqp://127.0.0.1:7000/", "127.0.0.1", 7000),
            ("amqp://[::1]:7000", "::1", 7000),
            ("amqp://[::1]/?prefix=shop&heartbeat=200ms", "::1", 5672),
        ] {
            let authority = parse(url).unwrap().uri.authority;
            assert_eq!((authority.host.as_str(), authority.port), (host, port), "{url}");
        }
    }

    #[test]
    fn no_path_and_an_empty_one_are_the_default_virtual_host() {
        for (url, vhost) in [
            ("amqp://h", "/"),
            ("amqp://h/", "/"),
            ("amqp://h/%2f", "/"),
            ("amqp://h/shop", "shop"),
            ("amqp://h/team%2Fshop", "team/shop"),
            ("amqp://h/team/shop", "team/shop"),
            ("amqp://h/sh%C3%B6p?exchange=x", "shöp"),
        ] {
            assert_eq!(parse(url).unwrap().uri.vhost, vhost, "{url}");
        }
        refused(&format!("amqp://h/{}", "v".repeat(256)), ErrorKind::InvalidInput, "virtual host");
    }

    #[test]
    fn user_and_password() {
        for (url, user, password) in [
            ("amqp://localhost", "guest", "guest"),
            ("amqp://:p%40ss@localhost", "guest", "p@ss"),
            ("amqp://ad%61:secret@localhost", "ada", "secret"),
            ("amqp://ada@localhost", "ada", ""),
        ] {
            let AMQPUserInfo { username, password: found } = parse(url).unwrap().uri.authority.userinfo;
            assert_eq!((username.as_str(), found.as_str()), (user, password), "{url}");
        }
    }

    #[test]
    fn a_heartbeat_of_options_is_not_that_of_amqp() {
        let address = parse("amqp://localhost/?heartbeat=200ms").unwrap();
        assert_eq!(address.uri.query.heartbeat, Some(HEARTBEAT));
    }

    #[test]
    fn exchanges() {
        assert_eq!(parse("amqp://localhost").unwrap().exchange.as_str(), "broker");
        assert_eq!(parse("amqp://localhost/?exchange=shop.live").unwrap().exchange.as_str(), "shop.live");
        let longest = "x".repeat(LONGEST_EXCHANGE);
        assert_eq!(parse(&format!("amqp://h/?exchange={longest}")).unwrap().exchange.as_str(), longest);
        for name in ["", "amq.direct", &format!("{longest}x"), &"x".repeat(300)] {
            refused(&format!("amqp://h/?exchange={name}"), ErrorKind::InvalidInput, "`exchange`");
        }
    }

    #[test]
    fn invalid_combinations_are_named() {
        refused("amqp:", ErrorKind::InvalidInput, "amqp://127.0.0.1:5672/");
        refused("amqp:///shop", ErrorKind::InvalidInput, "names no host");
        refused("amqp://localhost/?frame_max=7", ErrorKind::InvalidInput, "`frame_max`");
        refused("amqp://localhost/?ca=/ca.pem", ErrorKind::InvalidInput, "only for amqps://");
    }

    #[test]
    fn debug_shows_no_password() {
        for url in ["amqp://ada:s3cret@localhost/shop", "amqp://s3cret@localhost/shop"] {
            let shown = format!("{:?}", parse(url).unwrap());
            assert!(shown.contains("localhost:5672") && !shown.contains("s3cret"), "{shown}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_its_feature_names_the_feature() {
        refused("amqps://localhost", ErrorKind::Unsupported, "feature `tls`");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_has_its_own_port_and_takes_files() {
        let address = parse("amqps://localhost/?ca=/ca.pem&cert=/cert.pem&key=/key.pem").unwrap();
        assert_eq!((address.uri.scheme, address.uri.authority.port), (AMQPScheme::AMQPS, 5671));
        assert_eq!(address.tls.unwrap().to_string(), "ca=/ca.pem, cert=/cert.pem, key=/key.pem");
    }
}
