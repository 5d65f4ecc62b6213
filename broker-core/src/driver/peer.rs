//! Peer: the server at the other end, as errors name it.

use std::{fmt, io};

use crate::{
    Error,
    ErrorKind::{self, Forbidden, Misconfigured, Protocol, Unavailable},
};

/// The server at the other end: what it should be, where it is, and as whom we go there. Every error it makes names
/// the place; none holds a secret, as long as what it is given has none.
#[derive(Clone, Debug)]
pub struct Peer {
    product: &'static str,
    place: String,
    who: String,
}

impl Peer {
    /// A `product` (`Redis`) at a place (`127.0.0.1:6379`), for `who` (`the user "ada"`).
    pub fn new(product: &'static str, place: impl fmt::Display, who: impl Into<String>) -> Self {
        Self { product, place: place.to_string(), who: who.into() }
    }

    /// Where it is: host and port, or whatever a connection was made to.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// As whom we go there.
    #[must_use]
    pub fn who(&self) -> &str {
        &self.who
    }

    /// An error about the server. `why` goes on after the place: `is full; see its limits`. One of the kind
    /// [`Forbidden`] also says whom the server refused; `why` then begins a sentence of its own: `wrong password`.
    pub fn error(&self, kind: ErrorKind, why: impl fmt::Display) -> Error {
        let Self { place, who, .. } = self;
        let refused = if kind == Forbidden { format!(" refused {who}:") } else { String::new() };
        Error::new(kind, format!("{place}{refused} {why}"))
    }

    /// The connection ended, by whomever: [`Unavailable`].
    #[must_use]
    pub fn gone(&self) -> Error {
        Error::new(Unavailable, format!("the connection to {} was closed", self.place))
    }

    /// What answers there is not this kind of server: [`Protocol`].
    #[must_use]
    pub fn foreign(&self) -> Error {
        let why = format!("does not answer like a {} server; check host, port and scheme", self.product);
        self.error(Protocol, why)
    }

    /// Nobody was reached: [`Unavailable`].
    pub fn away(&self, cause: impl fmt::Display) -> Error {
        Error::new(Unavailable, format!("no connection to {}: {cause}", self.place))
    }

    /// The way to the server failed. [`gone`](Self::gone) when the other side hung up; [`Misconfigured`] when TLS
    /// does not trust it, or finds that it does not speak TLS; [`Forbidden`] when this system forbids to open a
    /// connection; [`away`](Self::away) for anything else.
    #[must_use]
    pub fn io(&self, error: &io::Error) -> Error {
        use io::ErrorKind as Io;
        let (kind, what) = match error.kind() {
            Io::BrokenPipe | Io::ConnectionAborted | Io::ConnectionReset | Io::UnexpectedEof => {
                return self.gone();
            }
            // This is how TLS says that it does not trust, or understand, what it reads.
            Io::InvalidData => (Misconfigured, "no trusted TLS (see the keys `ca`, `cert`) with"),
            Io::PermissionDenied => (Forbidden, "may not open"),
            _ => return self.away(error),
        };
        Error::new(kind, format!("{what} {}: {error}", self.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_place_and_a_refusal_the_user() {
        let peer = Peer::new("Redis", "127.0.0.1:6379", "the user \"ada\"");
        let refused = peer.error(Forbidden, "wrong password");
        assert_eq!(refused.message(), "127.0.0.1:6379 refused the user \"ada\": wrong password");
        assert_eq!(peer.error(Unavailable, "is full").message(), "127.0.0.1:6379 is full");
        assert!(peer.foreign().message().contains("a Redis server"));
        for error in [peer.gone(), peer.foreign(), peer.away("no route")] {
            assert!(error.message().contains("127.0.0.1:6379"), "{error}");
        }
    }

    #[test]
    fn io_errors_have_their_kinds() {
        let peer = Peer::new("Redis", "127.0.0.1:6379", "nobody");
        for (io, kind) in [
            (io::ErrorKind::ConnectionRefused, Unavailable),
            (io::ErrorKind::ConnectionAborted, Unavailable),
            (io::ErrorKind::ConnectionReset, Unavailable),
            (io::ErrorKind::NotFound, Unavailable),
            (io::ErrorKind::TimedOut, Unavailable),
            (io::ErrorKind::PermissionDenied, Forbidden),
            (io::ErrorKind::InvalidData, Misconfigured),
        ] {
            let error = peer.io(&io.into());
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains("127.0.0.1:6379"), "{error}");
        }
    }
}
