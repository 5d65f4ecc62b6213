//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are never repeated, only its error code: servers quote the command they refuse,
//! and ours carry the password (`HELLO`) or the payload (`PUBLISH`).

use std::{error::Error as _, fmt, io, sync::Arc};

use broker_core::{Error, ErrorKind};
use redis::{ErrorKind as Kind, RedisError};

/// Whom an error is about.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// `host:port`, or the path of a socket.
    place: String,
    user: String,
}

impl Peer {
    pub(crate) fn new(place: String, user: String) -> Self {
        Self { place, user }
    }

    /// The one translation of the client's errors.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        match error.kind() {
            Kind::Server(_) | Kind::Extension => self.answered(error),
            Kind::RESP3NotSupported => self.too_old(),
            Kind::AuthenticationFailed => self.refused("wrong password, or unknown user"),
            Kind::Parse | Kind::UnexpectedReturnType => self.foreign(),
            Kind::Io => self.io(error),
            Kind::Client | Kind::InvalidClientConfig => self.settings(error),
            _ => Error::new(ErrorKind::Other, format!("the connection to {self} failed")),
        }
    }

    /// The connection ended, by whomever.
    pub(crate) fn gone(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("the connection to {self} was closed"))
    }

    /// The peer does not speak as a Redis server does.
    pub(crate) fn foreign(&self) -> Error {
        let message = format!("{self} does not answer like a Redis server; check host, port and scheme");
        Error::new(ErrorKind::Protocol, message)
    }

    fn too_old(&self) -> Error {
        let message =
            format!("{self} does not speak RESP3 (`HELLO 3`): Redis 6 or newer, or Valkey, is needed");
        Error::new(ErrorKind::Unsupported, message)
    }

    fn refused(&self, why: &str) -> Error {
        let message = format!("{self} refused the user `{}`: {why}", self.user.escape_debug());
        Error::new(ErrorKind::Forbidden, message)
    }

    /// The server answered with an error.
    fn answered(&self, error: &RedisError) -> Error {
        let code = error.code().unwrap_or_default();
        let detail = error.detail().unwrap_or_default();
        let (kind, why) = match code {
            "WRONGPASS" => return self.refused("wrong password, or the user is unknown or disabled"),
            "NOAUTH" => return self.refused("a password is required; write it into the url"),
            "NOPERM" => {
                return self.refused("no permission for the command or the channel; see `ACL GETUSER`");
            }
            "DENIED" => {
                return self
                    .refused("protected mode lets in only local clients; set a password at the server");
            }
            "NOPROTO" => return self.too_old(),
            "ERR" if unknown_command(detail, "hello") => return self.too_old(),
            "ERR" if unknown_command(detail, "") => {
                (ErrorKind::Unsupported, "does not know the command; was it renamed or disabled?")
            }
            "ERR" if detail.starts_with("max number of clients") => {
                (ErrorKind::Unavailable, "has no room for another client; see its `maxclients`")
            }
            "LOADING" => (ErrorKind::Unavailable, "is still loading its data"),
            "BUSY" => (ErrorKind::Unavailable, "is busy with a script"),
            "MASTERDOWN" => (ErrorKind::Unavailable, "is a replica that has lost its master"),
            "READONLY" => (ErrorKind::Unavailable, "is a replica, and read-only"),
            "CLUSTERDOWN" | "TRYAGAIN" => (ErrorKind::Unavailable, "belongs to a cluster that is not ready"),
            "NOREPLICAS" => (ErrorKind::Unavailable, "has too few replicas to accept anything"),
            "OOM" => (ErrorKind::Unavailable, "is out of memory; see its `maxmemory`"),
            "MISCONF" => {
                (ErrorKind::Misconfigured, "refuses work because it cannot save to disk; see its log")
            }
            code => {
                let message = format!("{self} answered with the error code `{}`", word(code));
                return Error::new(ErrorKind::Other, message);
            }
        };
        Error::new(kind, format!("{self} {why} ({code})"))
    }

    /// What is refused before anything is sent, such as a key that does not fit its certificate.
    fn settings(&self, error: &RedisError) -> Error {
        let message = format!("cannot connect to {self} with these settings: {error}");
        Error::new(ErrorKind::Misconfigured, message)
    }

    fn io(&self, error: &RedisError) -> Error {
        // The client wraps what it got in an Arc of its own, and shows that as the source.
        let inner = error.source().and_then(|source| source.downcast_ref::<Arc<Boxed>>());
        let Some(io) = inner.and_then(|inner| inner.downcast_ref::<io::Error>()) else {
            return self.settings(error);
        };
        let (kind, message) = match io.kind() {
            io::ErrorKind::BrokenPipe => return self.gone(),
            // This is how TLS says that it does not trust, or understand, what it reads.
            io::ErrorKind::InvalidData => {
                let hint = "check the certificates, the key `ca`, and that this port speaks TLS";
                (ErrorKind::Misconfigured, format!("no encrypted connection to {self}: {io}; {hint}"))
            }
            io::ErrorKind::PermissionDenied => (ErrorKind::Forbidden, format!("may not open {self}: {io}")),
            io::ErrorKind::InvalidInput => (ErrorKind::InvalidInput, format!("cannot use {self}: {io}")),
            _ => (ErrorKind::Unavailable, format!("no connection to {self}: {io}")),
        };
        Error::new(kind, message).with_source(error.clone())
    }
}

type Boxed = dyn std::error::Error + Send + Sync;

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

/// Servers of all ages say it with other quotes: unknown command `HELLO`, unknown command 'hello'.
fn unknown_command(detail: &str, command: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    let Some(rest) = detail.strip_prefix("unknown command") else { return false };
    rest.trim_start_matches([' ', '`', '\'', '"']).starts_with(command)
}

/// A code is one short word in capitals; anything else is not a code, and may be anything.
fn word(code: &str) -> &str {
    let plain = code.len() <= 20 && code.bytes().all(|b| b.is_ascii_uppercase());
    if plain { code } else { "unknown" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new("127.0.0.1:6379".to_owned(), "ada".to_owned())
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
            ("TRYAGAIN later", ErrorKind::Unavailable),
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
        assert!(answer("WRONGPASS no").message().contains("`ada`"));
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
