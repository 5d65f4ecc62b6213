//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are never repeated, only its error code: servers quote the command they refuse,
//! and ours carry the password (`HELLO`) or the payload (`PUBLISH`).

use std::{error::Error as _, io, sync::Arc};

use broker_core::{
    Error,
    ErrorKind::{Forbidden, InvalidInput, Misconfigured, Other, Protocol, Unavailable, Unsupported},
};
use redis::{ErrorKind as Kind, RedisError};

/// Or an operator took the command away by renaming it.
const TOO_OLD: &str = "lacks HELLO 3 (RESP3), PUBLISH or SUBSCRIBE: Redis 6 or newer, or Valkey, is needed";

/// Whom an error is about.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// `host:port`, or the path of a socket.
    place: String,
    user: String,
}

impl Peer {
    pub(crate) fn new(place: String, user: Option<&str>) -> Self {
        Self { place, user: user.unwrap_or("default").to_owned() }
    }

    /// The one translation of the client's errors.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        match error.kind() {
            Kind::Server(_) | Kind::Extension => self.answered(error),
            Kind::RESP3NotSupported => Error::new(Unsupported, format!("{} {TOO_OLD}", self.place)),
            Kind::Parse | Kind::UnexpectedReturnType => self.foreign(),
            _ => self.local(error),
        }
    }

    /// The connection ended, by whomever.
    pub(crate) fn gone(&self) -> Error {
        Error::new(Unavailable, format!("the connection to {} was closed", self.place))
    }

    /// The peer does not speak as a Redis server does.
    pub(crate) fn foreign(&self) -> Error {
        let why = "does not answer like a Redis server; check host, port and scheme";
        Error::new(Protocol, format!("{} {why}", self.place))
    }

    /// The server answered with an error.
    fn answered(&self, error: &RedisError) -> Error {
        let code = error.code().unwrap_or_default();
        let (kind, why) = match (code, error.detail().unwrap_or_default()) {
            ("NOPROTO", _) => (Unsupported, TOO_OLD),
            ("ERR", detail) if detail.starts_with("unknown command") => (Unsupported, TOO_OLD),
            ("ERR", detail) if detail.starts_with("max number") => (Unavailable, "is full; see `maxclients`"),
            ("WRONGPASS", _) => (Forbidden, "wrong password, or the user is unknown or disabled"),
            ("NOAUTH", _) => (Forbidden, "a password is required; write it into the url"),
            ("NOPERM", _) => (Forbidden, "no permission for this channel or command; see `ACL LIST`"),
            ("DENIED", _) => (Forbidden, "protected mode; set a password at the server"),
            ("READONLY" | "MASTERDOWN", _) => (Unavailable, "is a replica; give the master's address"),
            ("OOM", _) => (Unavailable, "is out of memory; see its `maxmemory`"),
            ("LOADING" | "BUSY" | "CLUSTERDOWN" | "NOREPLICAS", _) => (Unavailable, "is not ready"),
            ("MISCONF", _) => (Misconfigured, "refuses work because it cannot save to disk; see its log"),
            _ => (Other, "refused the command"),
        };
        let Self { place, user } = self;
        let refused = if kind == Forbidden { format!(" refused the user {user:?}:") } else { String::new() };
        Error::new(kind, format!("{place}{refused} {why} ({})", word(code)))
    }

    /// The way there failed, or was never begun because the settings do not fit each other.
    fn local(&self, error: &RedisError) -> Error {
        // The client wraps what it got in an Arc of its own, and shows that as the source.
        let inner = error.source().and_then(|source| source.downcast_ref::<Arc<Boxed>>());
        let kind = inner.and_then(|inner| inner.downcast_ref::<io::Error>()).map(io::Error::kind);
        let (kind, what) = match kind {
            Some(io::ErrorKind::BrokenPipe) => return self.gone(),
            // This is how TLS says that it does not trust, or understand, what it reads.
            Some(io::ErrorKind::InvalidData) => (Misconfigured, "no trusted TLS (see the key `ca`) with"),
            Some(io::ErrorKind::PermissionDenied) => (Forbidden, "may not open"),
            Some(io::ErrorKind::InvalidInput) => (InvalidInput, "cannot use the address"),
            None if error.kind() != Kind::Io => (Misconfigured, "these settings do not fit"),
            _ => (Unavailable, "no connection to"),
        };
        Error::new(kind, format!("{what} {}: {error}", self.place)).with_source(error.clone())
    }
}

type Boxed = dyn std::error::Error + Send + Sync;

/// A code is one short word in capitals; anything else is not a code, and may be anything.
fn word(code: &str) -> &str {
    let plain = code.len() <= 20 && code.bytes().all(|b| b.is_ascii_uppercase());
    if plain { code } else { "unknown" }
}

#[cfg(test)]
mod tests {
    use broker_core::ErrorKind;

    use super::*;

    fn peer() -> Peer {
        Peer::new("127.0.0.1:6379".to_owned(), Some("ada"))
    }

    /// The translation of a line as the server sends it.
    fn answer(line: &str) -> Error {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        peer().error(&value.extract_error().unwrap_err())
    }

    #[test]
    fn answers_have_their_kinds() {
        for (line, kind) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", ErrorKind::Forbidden),
            ("NOAUTH HELLO must be called with the client already authenticated", ErrorKind::Forbidden),
            ("NOPERM No permissions to access a channel", ErrorKind::Forbidden),
            ("DENIED Redis is running in protected mode", ErrorKind::Forbidden),
            ("NOPROTO unsupported protocol version", ErrorKind::Unsupported),
            ("ERR unknown command `HELLO`, with args beginning with: `3`, ", ErrorKind::Unsupported),
            ("ERR unknown command 'HELLO', with args beginning with: '3'", ErrorKind::Unsupported),
            ("ERR unknown command 'hello'", ErrorKind::Unsupported),
            ("ERR unknown command 'PUBLISH'", ErrorKind::Unsupported),
            ("ERR max number of clients reached", ErrorKind::Unavailable),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable),
            ("BUSY Redis is busy running a script.", ErrorKind::Unavailable),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::Unavailable),
            ("READONLY You can't write against a read only replica.", ErrorKind::Unavailable),
            ("CLUSTERDOWN The cluster is down", ErrorKind::Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", ErrorKind::Unavailable),
            ("OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::Unavailable),
            ("MISCONF Redis is configured to save RDB snapshots", ErrorKind::Misconfigured),
            ("ERR something new", ErrorKind::Other),
            ("WHATEVER", ErrorKind::Other),
            ("", ErrorKind::Other),
        ] {
            let error = answer(line);
            assert_eq!(error.kind(), kind, "{line}: {error}");
            assert!(error.message().contains("127.0.0.1:6379"), "{error}");
        }
        assert!(answer("WRONGPASS no").message().contains("\"ada\""));
        assert!(answer("ERR unknown command 'HELLO'").message().contains("Redis 6"));
        assert!(answer("WHATEVER").message().contains("WHATEVER"));
    }

    #[test]
    fn the_servers_words_are_not_repeated() {
        for line in [
            "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `ada`, `s3cret`, ",
            "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'ada' 's3cret'",
            "ERR cannot do HELLO 3 AUTH ada s3cret",
            "WRONGPASS s3cret",
            "WHATEVER s3cret",
            "s3cret",
            "ERR unknown command 'PUBLISH', with args beginning with: 'news' 's3cret'",
        ] {
            let error = answer(line);
            let shown = format!("{error} {error:?} {error:#?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn io_errors_have_their_kinds() {
        for (io, kind) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable),
            (io::ErrorKind::NotFound, ErrorKind::Unavailable),
            (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable),
            (io::ErrorKind::TimedOut, ErrorKind::Unavailable),
            (io::ErrorKind::PermissionDenied, ErrorKind::Forbidden),
            (io::ErrorKind::InvalidData, ErrorKind::Misconfigured),
            (io::ErrorKind::InvalidInput, ErrorKind::InvalidInput),
        ] {
            let error = peer().error(&RedisError::from(io::Error::from(io)));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains("127.0.0.1:6379"), "{error}");
        }
    }

    #[test]
    fn garbage_is_a_protocol_error() {
        let error = redis::parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        assert_eq!(peer().error(&error).kind(), ErrorKind::Protocol);
    }
}
