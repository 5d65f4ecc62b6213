//! ServerAddr: where the servers of a URL are, and how a part of a URL that does not fit is named.

use std::fmt;

use crate::{BrokerUrl, Error, ErrorKind, Result};

/// Where a server is. `Display` writes it as in a URL: `example.net:6379`, `[::1]:6379`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerAddr {
    /// A name or an address, as a resolver wants it: an IPv6 address stands without brackets.
    pub host: String,
    /// The one of the URL, or the default.
    pub port: u16,
}

impl ServerAddr {
    /// A server that another one has named.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// For drivers: what their [`Backend::open`](crate::driver::Backend) asks of a URL.
impl BrokerUrl {
    /// The server, for a backend that takes one; of several hosts the first.
    ///
    /// # Errors
    /// As [`servers`](Self::servers).
    pub fn server(&self, default_port: u16) -> Result<ServerAddr> {
        self.servers(default_port).map(|mut servers| servers.swap_remove(0))
    }

    /// Every server, in the order of the URL: at least one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the URL names no host, with one that does.
    pub fn servers(&self, default_port: u16) -> Result<Vec<ServerAddr>> {
        if self.hosts().len() == 0 {
            let scheme = self.scheme();
            let why = format!("names no host; write it as {scheme}://127.0.0.1:{default_port}/");
            return Err(self.invalid(why));
        }
        let server = |(host, port): (&str, Option<u16>)| {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            ServerAddr { host, port: port.unwrap_or(default_port) }
        };
        Ok(self.hosts().map(server).collect())
    }

    /// As whom a driver goes to the server, for [`ErrorContext::new`](crate::driver::ErrorContext::new): the user by its name, and without one
    /// `default`. A user without a password is not named: it may be a password that lacks the colon before it.
    #[must_use]
    pub fn who(&self, default: &str) -> String {
        match (self.username(), self.password().filter(|password| !password.is_empty())) {
            (None, _) => format!("the user {default:?}"),
            (Some(user), Some(_)) => format!("the user {user:?}"),
            (Some(_), None) => "the user in the url, which has no password".to_owned(),
        }
    }

    /// The error for a URL of which a part does not fit: of the kind [`ErrorKind::InvalidInput`], and without the
    /// URL's secrets. `why` goes on after the URL, and names the part and the remedy: `has a path; leave it out`.
    pub fn invalid(&self, why: impl fmt::Display) -> Error {
        Error::new(ErrorKind::InvalidInput, format!("url `{self}` {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_for_a_resolver_and_shown_as_in_a_url() {
        let url = BrokerUrl::parse("nats://a,[::1]:7,10.0.0.1").unwrap();
        let servers = url.servers(4222).unwrap();
        let parts: Vec<_> = servers.iter().map(|server| (server.host.as_str(), server.port)).collect();
        assert_eq!(parts, [("a", 4222), ("::1", 7), ("10.0.0.1", 4222)]);
        let shown: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a:4222", "[::1]:7", "10.0.0.1:4222"]);
        assert_eq!(url.server(4222).unwrap(), servers[0]);
    }

    #[test]
    fn a_url_without_a_host_is_refused_with_an_example() {
        let error = BrokerUrl::parse("redis:").unwrap().server(6379).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("redis://127.0.0.1:6379/"), "{error}");
    }

    #[test]
    fn an_invalid_url_shows_no_secret() {
        let url = BrokerUrl::parse("redis://ada:s3cret@host/shop?token=s3cret").unwrap();
        let error = url.invalid("has a path; leave it out");
        assert_eq!(error.message(), "url `redis://host/shop` has a path; leave it out");
    }

    #[test]
    fn a_user_that_may_be_a_password_is_not_named() {
        let who = |url: &str| BrokerUrl::parse(url).unwrap().who("guest");
        assert_eq!(who("amqp://ada:s3cret@h"), "the user \"ada\"");
        assert_eq!(who("amqp://:s3cret@h"), "the user \"guest\"");
        assert_eq!(who("amqp://h"), "the user \"guest\"");
        for url in ["amqp://s3cret@h", "amqp://s3cret:@h"] {
            assert!(!who(url).contains("s3cret"), "{}", who(url));
        }
    }
}
