//! Origin: which pages of a browser may open a socket.

use http::{HeaderMap, Uri, header};

/// Which pages of a browser may open a socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    pub(crate) any: bool,
    pub(crate) listed: Vec<String>,
}

impl Origins {
    /// The first one of the list that no page can have.
    pub(crate) fn wrong(&self) -> Option<&str> {
        let fits = |origin: &&String| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| {
                !authority.is_empty() && !authority.contains(['/', '?', '#', '*', ' '])
            })
        };
        self.listed.iter().find(|origin| !fits(origin)).map(String::as_str)
    }

    /// Whether a request may open a socket. A request without an origin does not come from a page.
    pub(crate) fn allow(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).into_iter();
        let Some(origin) = origins.next() else { return true };
        if self.any {
            return true;
        }
        let Some(origin) = origin.to_str().ok().filter(|_| origins.next().is_none()) else { return false };
        if self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
        let own = origin.split_once("://");
        own.zip(host).is_some_and(|((scheme, authority), host)| {
            matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &Origins, headers: &[(&'static str, &str)]) -> bool {
        let map = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a value")));
        origins.allow(&map.collect(), &Uri::from_static("/v1/websocket"))
    }

    #[test]
    fn own_pages_and_programs_are_let_in() {
        let own = Origins::default();
        assert!(allows(&own, &[("host", "example.org")]), "no origin");
        assert!(allows(&own, &[("host", "example.org"), ("origin", "https://example.org")]));
        assert!(allows(&own, &[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
    }

    #[test]
    fn other_pages_are_not() {
        let own = Origins::default();
        for origin in
            ["https://evil.org", "https://example.org.evil.org", "null", "https://example.org:1", ""]
        {
            assert!(!allows(&own, &[("host", "example.org"), ("origin", origin)]), "{origin}");
        }
        assert!(!allows(&own, &[("origin", "https://example.org")]), "no host");
    }

    #[test]
    fn what_is_listed_is_let_in() {
        let listed = Origins { any: false, listed: vec!["https://app.example.org".to_owned()] };
        assert!(allows(&listed, &[("host", "example.org"), ("origin", "https://app.example.org")]));
        assert!(!allows(&listed, &[("host", "example.org"), ("origin", "http://app.example.org")]));
        let any = Origins { any: true, listed: Vec::new() };
        assert!(allows(&any, &[("host", "example.org"), ("origin", "https://evil.org")]));
    }
}
