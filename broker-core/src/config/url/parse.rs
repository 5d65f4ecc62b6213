//! The grammar of a URL, and its errors. An error shows only what cannot be a part of a secret.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use super::BrokerUrl;
use crate::{Error, ErrorKind, Result};

const FORM: &str = "write it as scheme://user:password@host:port/path?key=value, or memory:";

/// Schemes that an error may suggest, with the port by which it chooses one.
const SUGGESTED: &[(&str, &str)] = &[
    ("memory", ""),
    ("redis", "6379"),
    ("rediss", "6380"),
    ("redis+unix", ""),
    ("redis+sentinel", "26379"),
    ("rediss+sentinel", ""),
    ("redis+cluster", ""),
    ("rediss+cluster", ""),
    ("nats", "4222"),
    ("tls", ""),
    ("amqp", "5672"),
    ("amqps", "5671"),
    ("postgres", "5432"),
    ("postgresql", ""),
];

/// What ends the part with user, password and hosts.
const ENDS_AUTHORITY: [char; 3] = ['/', '?', '#'];

/// The parts of a URL as they were typed.
struct Typed<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    hosts: Vec<&'a str>,
    path: &'a str,
    query: &'a str,
}

pub(crate) fn parse(raw: &str) -> Result<BrokerUrl> {
    let typed = Typed::split(raw.trim())?;
    let hosts = typed.hosts()?;
    let (username, password) = match typed.user.map(|user| user.split_once(':').ok_or(user)) {
        None => (None, None),
        Some(Ok((user, password))) => (Some(user), Some(password)),
        Some(Err(user)) => (Some(user), None),
    };
    let decoded =
        |text: &str| decode(text).ok_or_else(|| typed.invalid("a percent-encoded part of it is not UTF-8"));
    Ok(BrokerUrl {
        scheme: typed.scheme.to_ascii_lowercase(),
        username: username.map(decoded).transpose()?.filter(|user| !user.is_empty()),
        password: password.map(decoded).transpose()?,
        path: decoded(typed.path)?,
        query: typed.query()?,
        hosts,
    })
}

impl<'a> Typed<'a> {
    fn split(raw: &'a str) -> Result<Self> {
        let (scheme, authority, tail) = sections(raw)?;
        // Where the hosts begin is not certain yet, so that no more than the scheme can be shown.
        let surely =
            raw[scheme.len()..].starts_with("://") || SUGGESTED.iter().any(|(known, _)| *known == scheme);
        let url = if surely { format!("url `{scheme}:…`") } else { "the url".to_owned() };
        let refused = |why: &str| Err(Error::new(ErrorKind::InvalidInput, format!("{url}: {why}")));
        if raw.contains(char::is_control) {
            return refused(
                "it has a control character, such as the end of a line; leave it out, or percent-encode it",
            );
        }
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let list_in_user =
            user.and_then(|user| user.split_once('@')).is_some_and(|(_, more)| more.contains(','));
        if list_in_user || (tail.starts_with("//") && authority.contains(',')) {
            return refused(
                "a list of hosts has one scheme, one user and one password, all before its first host: \
                 scheme://user:password@host,host; in these, which are the part before the last `@`, write `@` as \
                 %40, `,` as %2C, `/` as %2F, `?` as %3F and `#` as %23",
            );
        }
        if tail.contains('@') {
            return refused(
                "it has an `@` after a `/`, `?` or `#`; in the user, password or token, which is the part before the \
                 last `@`, write `/` as %2F, `?` as %3F, `#` as %23 and `@` as %40; in the path or the query write \
                 `@` as %40",
            );
        }
        if tail.contains('#') {
            return refused("it has a `#`, which begins a fragment; in a password or a path write it as %23");
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let path = path.strip_prefix('/').unwrap_or(path);
        let hosts = if hosts.is_empty() { Vec::new() } else { hosts.split(',').collect() };
        Ok(Self { scheme, user, hosts, path, query })
    }

    /// What can be shown: the scheme, that there is a user, and the hosts that are hosts.
    fn shown(&self) -> String {
        let Self { scheme, user, hosts, .. } = self;
        let user = if user.is_some() { "***@" } else { "" };
        // Without a user, what is no list of hosts may be one that lacks its `@`.
        let all = user.is_empty() && hosts.iter().any(|typed| host(typed).is_err());
        let shown = |typed: &&'a str| if all || host(typed).is_err() { "***" } else { *typed };
        let hosts: Vec<&str> = hosts.iter().map(shown).collect();
        format!("{scheme}://{user}{}", hosts.join(","))
    }

    fn invalid(&self, why: &str) -> Error {
        let shown = self.shown();
        Error::new(ErrorKind::InvalidInput, format!("url `{shown}`: {why}; {FORM}"))
    }

    fn hosts(&self) -> Result<Vec<(String, Option<u16>)>> {
        self.hosts
            .iter()
            .map(|typed| {
                host(typed).map_err(|why| match self.hosts.len() {
                    1 => self.invalid(&format!("its host cannot be used: {why}")),
                    _ => self.invalid(&format!("one of its hosts cannot be used: {why}")),
                })
            })
            .collect()
    }

    fn query(&self) -> Result<BTreeMap<String, String>> {
        let mut query = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(self.query.as_bytes()) {
            if let Some(first) = query.insert(key.clone().into_owned(), value.clone().into_owned()) {
                let key = shown_key(&key, &value).and_then(|key| shown_key(key, &first));
                let key = key.map_or("a key".to_owned(), |key| format!("key `{key}`"));
                return Err(self.invalid(&format!("{key} is given twice")));
            }
        }
        Ok(query)
    }
}

/// Scheme, authority, and the rest.
fn sections(raw: &str) -> Result<(&str, &str, &str)> {
    let (scheme, rest) = match raw.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
        Some((scheme, rest)) if rest.is_empty() || rest.starts_with(['?', '#']) => {
            return Ok((scheme, "", rest));
        }
        Some((scheme, rest)) => (scheme, rest.strip_prefix("//").ok_or_else(|| without_scheme(raw))?),
        None => return Err(without_scheme(raw)),
    };
    let (authority, tail) = rest.split_at(rest.find(ENDS_AUTHORITY).unwrap_or(rest.len()));
    Ok((scheme, authority, tail))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// The error for a text that does not begin with a scheme and two slashes. It may be a password with anything around
/// it, so that only what is clearly the place of a server is shown.
fn without_scheme(raw: &str) -> Error {
    let invalid = |why: String| Error::new(ErrorKind::InvalidInput, why);
    if raw.is_empty() {
        return invalid(format!("the url is empty; {FORM}"));
    }
    if let Some(place) = place(raw) {
        let port = place.rsplit_once(':').map_or("", |(_, port)| port);
        let scheme = SUGGESTED.iter().find(|(_, usual)| !port.is_empty() && *usual == port);
        return invalid(match scheme {
            Some((scheme, _)) => format!("url `{place}` has no scheme; did you mean {scheme}://{place}?"),
            None => format!("url `{place}` has no scheme; put one before it, as in redis://{place}"),
        });
    }
    let begun = SUGGESTED.iter().find_map(|(scheme, _)| {
        let rest = raw.get(scheme.len()..).filter(|rest| rest.starts_with([':', '/']))?;
        raw[..scheme.len()].eq_ignore_ascii_case(scheme).then_some((*scheme, rest))
    });
    match begun {
        Some(("memory", _)) => invalid("url `memory…`: write it as memory: or memory://name".to_owned()),
        Some((scheme, rest)) => {
            let remedy = match place(rest.trim_start_matches([':', '/'])) {
                Some(place) if !scheme.contains("unix") => format!("did you mean {scheme}://{place}?"),
                _ => FORM.to_owned(),
            };
            invalid(format!("url `{scheme}…`: the scheme `{scheme}` must be followed by `://`; {remedy}"))
        }
        None => invalid(format!("the url has no scheme, such as redis:// or nats://; {FORM}")),
    }
}

/// The place of a server at the start of a text, if it is surely that and no part of a secret.
fn place(text: &str) -> Option<&str> {
    let authority = text.strip_suffix('/').unwrap_or(text);
    if authority.contains(['@', '/', '?', '#']) {
        return None;
    }
    let (host, port) = host(authority).ok()?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    (port.is_some() || address || host == "localhost").then_some(authority)
}

/// A host with or without a port. The error quotes nothing.
fn host(typed: &str) -> Result<(String, Option<u16>), String> {
    let ipv6 = typed.starts_with('[');
    if !ipv6 && typed.matches(':').count() > 1 {
        return Err("it has several colons; write an IPv6 address in brackets".to_owned());
    }
    let url = Url::parse(&format!("host://{typed}")).map_err(|error| error.to_string())?;
    let host = url.host_str().and_then(decode).filter(|host| !host.is_empty()).ok_or("it is empty")?;
    if host.starts_with('/') {
        return Err("it is the path of a Unix socket, and servers are reached by TCP only; write a name or an address".to_owned());
    }
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !ipv6 && !host.chars().all(fits) {
        return Err("it has a character that a host name cannot have".to_owned());
    }
    Ok((host, url.port()))
}

/// A key of a query, if an error may name it: not if it may be a secret that lacks its key, or its first half.
pub(crate) fn shown_key<'a>(key: &'a str, value: &str) -> Option<&'a str> {
    let plain = key.len() <= 24 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (plain && !value.is_empty() && !value.starts_with('=')).then_some(key)
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}
