//! BrokerUrl: which backend, where, as whom. Parsed once, with care for what may be printed.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use url::Url;

use crate::{Error, ErrorKind, Options, Result, channel::shown};

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
    /// # Errors
    /// [`ErrorKind::InvalidInput`] with the URL in a form that is safe to log.
    pub fn parse(raw: &str) -> Result<Self> {
        let invalid = |why: &str| {
            let hint = "write it as scheme://user:password@host:port/path?key=value, or memory:";
            Error::new(ErrorKind::InvalidInput, format!("url {}: {why}; {hint}", shown(&redacted(raw))))
        };
        let (first, others) = split_hosts(raw);
        let url = Url::parse(&first).map_err(|error| invalid(&error.to_string()))?;
        if url.cannot_be_a_base() && !url.path().is_empty() {
            return Err(invalid("two slashes are missing behind the scheme"));
        }
        let decoded = |text: &str| decode(text).ok_or_else(|| invalid("a percent-encoded part is not UTF-8"));
        let mut query = BTreeMap::new();
        for (key, value) in url.query_pairs() {
            if query.insert(key.clone().into_owned(), value.into_owned()).is_some() {
                return Err(invalid(&format!("key {} is given twice", shown(&key))));
            }
        }
        if url.fragment().is_some() {
            return Err(invalid("it has a fragment; a `#` in a password is written %23"));
        }
        let mut hosts = Vec::new();
        for url in [Ok(url.clone())].into_iter().chain(others.iter().map(|other| Url::parse(other))) {
            let url = url.map_err(|error| invalid(&format!("one of its hosts: {error}")))?;
            match url.host_str().map(decoded).transpose()?.filter(|host| !host.is_empty()) {
                Some(host) => hosts.push((host, url.port())),
                None if others.is_empty() => {}
                None => return Err(invalid("an empty name in its list of hosts")),
            }
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            username: Some(decoded(url.username())?).filter(|user| !user.is_empty()),
            password: url.password().map(decoded).transpose()?,
            hosts,
            path: decoded(url.path().strip_prefix('/').unwrap_or(url.path()))?,
            query,
        })
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
    /// [`Options::URL_KEYS`], and that there is one host at most. Every
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
        let known = |key: &str| keys.contains(&key) || Options::URL_KEYS.contains(&key);
        match self.query.keys().find(|key| !known(key)) {
            None => Ok(()),
            Some(unknown) => {
                let valid = [keys, Options::URL_KEYS].concat().join(", ");
                let message = format!("unknown key {} in url `{self}`; valid keys: {valid}", shown(unknown));
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// A URL with its first host only, and one URL without anything else for every other host.
fn split_hosts(raw: &str) -> (Cow<'_, str>, Vec<String>) {
    let Some((scheme, rest)) = raw.split_once("://") else { return (raw.into(), Vec::new()) };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A comma before the last `@` belongs to the password.
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let mut hosts = hosts.split(',');
    let first = hosts.next().unwrap_or_default();
    let others = hosts.map(|host| format!("{scheme}://{host}")).collect();
    (format!("{scheme}://{user}{first}{tail}").into(), others)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// What of a URL that may not even parse can be shown: the scheme, and what follows the last `@`.
fn redacted(raw: &str) -> String {
    let (scheme, rest) = match raw.split_once(':') {
        Some((scheme, rest)) => (scheme, rest.trim_start_matches('/')),
        None => ("", raw),
    };
    let shown = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let shown = shown.split(['?', '#', '&']).next().unwrap_or_default();
    let hidden = if rest.contains('@') { "***@" } else { "" };
    let colon = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{colon}{hidden}{shown}")
}

impl FromStr for BrokerUrl {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        Self::parse(raw)
    }
}

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
            write!(f, "/{}", self.path)?;
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_decoded() {
        let url =
            BrokerUrl::parse("rediss://ad%61:p%40ss%2Fw%23@example.net:7000/2?ca=%2Fetc%2Fca.pem").unwrap();
        assert_eq!(url.scheme(), "rediss");
        assert_eq!(url.username(), Some("ada"));
        assert_eq!(url.password(), Some("p@ss/w#"));
        assert_eq!((url.host(), url.port(), url.path()), (Some("example.net"), Some(7000), "2"));
        assert_eq!(url.key("ca"), Some("/etc/ca.pem"));
    }

    #[test]
    fn memory_needs_no_host() {
        let url = BrokerUrl::parse("memory:").unwrap();
        assert_eq!((url.scheme(), url.host(), url.path()), ("memory", None, ""));
        assert_eq!(BrokerUrl::parse("memory://shared").unwrap().host(), Some("shared"));
    }

    #[test]
    fn several_hosts_share_everything_else() {
        let raw = "nats://ada:s3cret,p%40ss@a,[::1]:4223,10.0.0.1:4224/path,x?prefix=a,b";
        let url = BrokerUrl::parse(raw).unwrap();
        let hosts: Vec<_> = url.hosts().collect();
        assert_eq!(hosts, [("a", None), ("[::1]", Some(4223)), ("10.0.0.1", Some(4224))]);
        assert_eq!((url.host(), url.port()), (Some("a"), None));
        assert_eq!((url.username(), url.password()), (Some("ada"), Some("s3cret,p@ss")));
        assert_eq!((url.path(), url.key("prefix")), ("path,x", Some("a,b")));
        assert_eq!(url.to_string(), "nats://a,[::1]:4223,10.0.0.1:4224/path,x");
        assert_eq!(BrokerUrl::parse("memory:").unwrap().hosts().len(), 0);
    }

    #[test]
    fn several_hosts_must_be_hosts_and_be_allowed() {
        for raw in
            ["nats://a,", "nats://,b", "nats://a,,b", "nats://a,b:x", "nats://a,b c", "nats://a,b:99999"]
        {
            assert!(BrokerUrl::parse(raw).is_err(), "{raw}");
        }
        let url = BrokerUrl::parse("redis://:hunter2@a,b/").unwrap();
        let error = url.allow_keys(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("`redis://a,b`"), "{error}");
        assert!(url.allow_keys_and_hosts(&[]).is_ok());
    }

    #[test]
    fn an_unknown_key_is_named_with_the_valid_ones() {
        let url = BrokerUrl::parse("redis://localhost/?tmeout=5s").unwrap();
        let error = url.allow_keys(&["ca"]).unwrap_err().to_string();
        assert!(error.contains("`tmeout`") && error.contains("ca, prefix"), "{error}");
    }

    #[test]
    fn neither_errors_nor_debug_show_a_secret() {
        for raw in [
            "redis://ada:hunter2@localhost:99999/",
            "redis://ada:hunter2@/",
            "redis:ada:hunter2@localhost",
            "redis://:hunter2?x@localhost:x",
            "redis://a:hunter2/@local host/?token=hunter2",
            "redis://localhost/?a=1&a=2&token=hunter2",
            "redis://localhost:bad/?token=hunter2@x&b=hunter2",
            "redis://:hunter2@localhost/?token=hunter2&a=x&token=y",
            "nats://ada:hunter2@a,b:99999",
            "nats://ada:hunter2@a,,b?token=hunter2",
            "nats://ada:hunter2,x@a,b",
            "nats://ada:hunter2@a,bob:hunter2@b",
        ] {
            match BrokerUrl::parse(raw) {
                Ok(url) => assert!(!format!("{url} {url:?}").contains("hunter2"), "{raw}"),
                Err(error) => assert!(!format!("{error} {error:?}").contains("hunter2"), "{raw}: {error}"),
            }
        }
    }

    /// Every byte of it, as a URL may write it.
    fn percent(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    fn hosts() -> impl Strategy<Value = Vec<(String, Option<u16>)>> {
        let host =
            prop_oneof!["[a-z][a-z0-9-]{0,10}[a-z]", Just("[::1]".to_owned()), Just("10.0.0.1".to_owned())];
        prop::collection::vec((host, any::<Option<u16>>()), 1..4)
    }

    proptest! {
        #[test]
        fn every_part_is_read_as_it_was_and_no_secret_is_shown(
            scheme in "(redis|rediss|nats|amqp|memory)",
            user in "\\PC{1,12}",
            password in ".{0,20}",
            hosts in hosts(),
            path in "[a-z0-9_-]{0,8}",
            value in ".{0,20}",
        ) {
            let places: Vec<_> = hosts.iter().map(|(host, port)| match port {
                Some(port) => format!("{host}:{port}"),
                None => host.clone(),
            }).collect();
            let (user, password) = (format!("user-{user}"), format!("secret-{password}"));
            let (name, word, kept) = (percent(&user), percent(&password), percent(&value));
            let raw = format!("{scheme}://{name}:{word}@{}/{path}?key={kept}&token={word}", places.join(","));
            let url = BrokerUrl::parse(&raw).unwrap();
            prop_assert_eq!(url.scheme(), scheme);
            prop_assert_eq!((url.username(), url.password()), (Some(&*user), Some(&*password)));
            prop_assert_eq!(url.hosts().map(|(host, port)| (host.to_owned(), port)).collect::<Vec<_>>(), hosts);
            prop_assert_eq!((url.path(), url.key("key")), (&*path, Some(&*value)));

            let shown = format!("{url} {url:?} {}", url.allow_keys(&["token"]).unwrap_err());
            prop_assert!(!shown.contains("secret-") && !shown.contains("user-"), "{}", shown);
            let again = BrokerUrl::parse(&url.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), url.to_string());
            prop_assert_eq!((again.hosts, again.path), (url.hosts, url.path));
        }

        #[test]
        fn any_text_parses_or_is_refused(raw in ".{0,80}") {
            let _ = BrokerUrl::parse(&raw);
        }
    }
}
