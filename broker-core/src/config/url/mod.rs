//! BrokerUrl: which backend, where, as whom. Parsed once, with care for what may be printed.

use std::{collections::BTreeMap, fmt, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::keys::KEYS;
use crate::{Error, ErrorKind, Result};

mod parse;

/// A parsed URL: `scheme://user:password@host:port/path?key=value`, or just `memory:`.
///
/// A cluster can be given by several hosts, with commas between: `nats://user:password@a:4222,b:4222`.
///
/// `Display` and `Debug` show scheme, host, port and path; never user, password or query.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    scheme: String,
    username: Option<String>,
    password: Option<String>,
    hosts: Vec<(String, Option<u16>)>,
    /// Decoded, without the slash at its start.
    path: String,
    query: BTreeMap<String, String>,
}

impl BrokerUrl {
    /// Parses a URL. User, password, path and query are percent-decoded.
    ///
    /// A `/`, `?` or `#` ends the part with user, password and hosts, so that within a user, password or token they
    /// are written `%2F`, `%3F` and `%23`. An `@` behind that part is refused, since it is ambiguous which of the two
    /// was meant; in a path or a query it is written `%40`. A `%` that two hexadecimal digits follow is written `%25`.
    /// Everything else is taken as it stands: `+` is no space, and of several `@` the last one ends the password.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] that names the part and the remedy, and shows no part that may be a secret.
    pub fn parse(raw: &str) -> Result<Self> {
        parse::parse(raw)
    }

    /// The scheme, in lower case: `redis`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The user, if one is given.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The password, if one is given. Not for printing.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The host: a name, an IPv4 address, or an IPv6 address in brackets. The first one of several.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.hosts.first().map(|(host, _)| host.as_str())
    }

    /// The port of that host, if one is given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.hosts.first().and_then(|(_, port)| *port)
    }

    /// Every host, each with its port if one is given, in the order of the URL.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = (&str, Option<u16>)> {
        self.hosts.iter().map(|(host, port)| (host.as_str(), *port))
    }

    /// The path without the slash at its start.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query's keys and values, in the order of the keys.
    pub fn query(&self) -> impl Iterator<Item = (&String, &String)> {
        self.query.iter()
    }

    /// The value of a driver's own key.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Checks that every key of the query is one of the driver's own (`keys`) or one of
    /// [`Options::URL_KEYS`](crate::Options::URL_KEYS), and that there is one host at most. Every
    /// [`Backend::open`](crate::driver::Backend) calls it first, or
    /// [`allow_keys_and_hosts`](Self::allow_keys_and_hosts).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the unknown key and the valid ones, or the hosts.
    pub fn allow_keys(&self, keys: &[&str]) -> Result<()> {
        if self.hosts.len() > 1 {
            let message = format!("url `{self}` names several hosts; this backend takes one");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        self.allow_keys_and_hosts(keys)
    }

    /// As [`allow_keys`](Self::allow_keys), for a backend that goes to any one of several
    /// [`hosts`](Self::hosts).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the unknown key and the valid ones.
    pub fn allow_keys_and_hosts(&self, keys: &[&str]) -> Result<()> {
        let known = |key: &str| keys.contains(&key) || KEYS.contains(&key);
        match self.query.iter().find(|(key, _)| !known(key)) {
            None => Ok(()),
            Some((key, value)) => {
                let valid = [keys, KEYS].concat().join(", ");
                let key = parse::shown_key(key, value).map_or(String::new(), |key| format!(" `{key}`"));
                let message = format!("unknown key{key} in url `{self}`; valid keys: {valid}");
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        Self::parse(raw)
    }
}

/// What a path has only percent-encoded, or what would spoil the line that shows it.
const TYPED_ENCODED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'?').add(b'@').add(b'`');

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if index == 0 { "//" } else { "," })?;
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        if !self.path.is_empty() {
            write!(f, "/{}", utf8_percent_encode(&self.path, TYPED_ENCODED))?;
        }
        Ok(())
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

#[cfg(test)]
mod tests;
