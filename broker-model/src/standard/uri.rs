//! Uri: the text of a URI or of a reference to one.

use std::str::FromStr;

use super::text::checked_text;
use crate::Unreadable;

/// A URI or a reference to one (RFC 3986), as Serverpod's `Uri`: its text, as it is. To take it apart, read the text
/// with a library for URLs.
///
/// ```
/// use broker_model::Uri;
///
/// let uri: Uri = "https://example.org/rooms?name=tea%20time".parse().unwrap();
/// assert_eq!(uri.as_str(), "https://example.org/rooms?name=tea%20time");
/// assert!("https://example.org/tea time".parse::<Uri>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uri(Box<str>);

impl Uri {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uri {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let bad = Unreadable::new("a URI has only the characters of RFC 3986, where it allows them");
        if is_reference(text) { Ok(Self(text.into())) } else { Err(bad) }
    }
}

checked_text!(Uri);

/// Whether a text is what the RFC calls a URI reference. Whether its host and port can be reached is not asked.
fn is_reference(text: &str) -> bool {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let first = text.split('/').next().unwrap_or_default();
    let rest = match first.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => &text[scheme.len() + 1..],
        Some(_) => return false,
        None => text,
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    is_authority(authority)
        && has_only(path, b"/:@")
        && has_only(query, b"/:@?")
        && has_only(fragment, b"/:@?")
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Who, at which host, at which port.
fn is_authority(text: &str) -> bool {
    let (who, place) = text.rsplit_once('@').unwrap_or(("", text));
    let (is_host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (!host.is_empty() && has_only(host, b":"), port),
        None => {
            let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
            (has_only(host, b""), port)
        }
    };
    let digits = port.strip_prefix(':');
    let is_port =
        port.is_empty() || digits.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    has_only(who, b":") && is_host && is_port
}

/// Whether there is nothing but characters that may stand everywhere, escapes, and these.
fn has_only(text: &str, others: &[u8]) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_legal = match byte {
            b'%' => {
                [bytes.next(), bytes.next()].iter().flatten().filter(|b| b.is_ascii_hexdigit()).count() == 2
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte) || others.contains(&byte),
        };
        if !is_legal {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Wire, standard::round};

    #[test]
    fn cl_44_a_uri_comes_back() {
        let uri: Uri = "https://ada:x@example.org:8443/a/b;v=1?q=1&r=%C3%BC/?#top?".parse().unwrap();
        round(&uri, r##""https://ada:x@example.org:8443/a/b;v=1?q=1&r=%C3%BC/?#top?""##);
        assert_eq!(Uri::type_name(), "Uri");
    }

    #[test]
    fn absolute_and_relative_ones_are_read() {
        for text in [
            "",
            "/",
            "a/b:c",
            "./a:b",
            "//example.org",
            "?q",
            "#",
            "mailto:ada@example.org",
            "urn:uuid:6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11",
            "http://[::1]:80/",
            "file:///etc/hosts",
            "http://example.org:/",
        ] {
            assert!(text.parse::<Uri>().is_ok(), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_uri() {
        for text in [
            "tea time",
            "ü",
            "%",
            "%2",
            "%2g",
            "a#b#c",
            "1a:b",
            ":b",
            "http://[::1",
            "http://[]/",
            "http://a:b:c/",
            "http://a:80x/",
            "http://a@b@c/",
            "/[a]",
            "a\nb",
            "a\"b",
            "a\\b",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }
}
