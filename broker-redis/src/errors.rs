//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are never repeated, only its error code: servers quote the command they refuse,
//! and ours carry the password (`HELLO`) or the payload (`PUBLISH`).

use std::{error::Error as _, io, sync::Arc};

use broker_core::{
    Error,
    ErrorKind::{self, Forbidden, InvalidInput, Misconfigured, Other, Unavailable, Unsupported},
    driver::ErrorContext,
};
use redis::{ErrorKind as Kind, RedisError};

/// Or an operator took the command away by renaming it.
const TOO_OLD: &str = "lacks HELLO 3 (RESP3), PUBLISH or SUBSCRIBE: Redis 6 or newer, or Valkey, is needed";

/// The same for the log: what a reader needs came with that version.
pub(crate) const NO_LOG: &str = "keeps no revocation log: Redis 7.0 or newer, or Valkey, is needed for that";

/// The one translation of the client's errors.
pub(crate) fn translate(peer: &ErrorContext, error: &RedisError) -> Error {
    match error.kind() {
        Kind::Server(_) | Kind::Extension => answered(peer, error),
        Kind::RESP3NotSupported => peer.error(Unsupported, TOO_OLD),
        Kind::Parse | Kind::UnexpectedReturnType => peer.not_this_protocol(),
        _ => local(peer, error),
    }
}

/// The same for a call about the revocation log, where some errors mean something else.
pub(crate) fn translate_of_log(peer: &ErrorContext, error: &RedisError) -> Error {
    let code = error.code().unwrap_or_default();
    let (kind, why) = match (code, error.detail().unwrap_or_default()) {
        ("NOPERM", _) => (Forbidden, "no permission for the revocation log; see `ACL LIST`"),
        ("WRONGTYPE", _) => {
            (Misconfigured, "has a key of another type in place of the revocation log; rename that key")
        }
        ("MOVED", _) => (Misconfigured, "is not the node of its cluster that keeps the revocation log"),
        ("ASK" | "TRYAGAIN", _) => {
            (Unavailable, "is handing the revocation log over to another member of its cluster")
        }
        ("OOM", _) => (Unavailable, "is out of memory and stores no revocation; see its `maxmemory`"),
        ("MISCONF", _) => (Unavailable, "cannot save to disk and stores no revocation; see its log"),
        ("NOREPLICAS", _) => {
            (Unavailable, "has too few replicas to store a revocation; see its `min-replicas-to-write`")
        }
        // Of a command or, until 7.0 with a capital letter, of a subcommand.
        ("ERR", detail) if detail.starts_with("unknown") || detail.starts_with("Unknown") => {
            (Unsupported, NO_LOG)
        }
        _ => return translate(peer, error),
    };
    refusal(peer, kind, why, code)
}

/// The server answered with an error.
fn answered(peer: &ErrorContext, error: &RedisError) -> Error {
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
        ("LOADING" | "BUSY" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS", _) => (Unavailable, "is not ready"),
        ("MISCONF", _) => (Misconfigured, "refuses work because it cannot save to disk; see its log"),
        _ => (Other, "refused the command"),
    };
    refusal(peer, kind, why, code)
}

/// An error with the server's code for it.
fn refusal(peer: &ErrorContext, kind: ErrorKind, why: &str, code: &str) -> Error {
    // A code is one short word in capitals; anything else is not a code, and may be anything.
    let plain = code.len() <= 20 && code.bytes().all(|b| b.is_ascii_uppercase());
    peer.error(kind, format!("{why} ({})", if plain { code } else { "unknown" }))
}

/// The way there failed, or was never begun because the settings do not fit each other.
fn local(peer: &ErrorContext, error: &RedisError) -> Error {
    // The client wraps what it got in an Arc of its own, and shows that as the source.
    let inner = error.source().and_then(|source| source.downcast_ref::<Arc<Boxed>>());
    let translated = match inner.and_then(|inner| inner.downcast_ref::<io::Error>()) {
        Some(io) if io.kind() == io::ErrorKind::InvalidInput => {
            Error::new(InvalidInput, format!("cannot use the address {}: {io}", peer.place()))
        }
        Some(io) => peer.io(io),
        None if error.kind() == Kind::Io => peer.unreachable(error),
        None => Error::new(Misconfigured, format!("these settings do not fit {}: {error}", peer.place())),
    };
    translated.with_source(error.clone())
}

type Boxed = dyn std::error::Error + Send + Sync;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> ErrorContext {
        ErrorContext::new("Redis", "127.0.0.1:6379", "the user \"ada\"")
    }

    /// What the client makes of a line as the server sends it.
    fn refusal(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    /// The translation of such a line.
    fn answer(line: &str) -> Error {
        translate(&peer(), &refusal(line))
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
    fn answers_about_the_log_have_their_kinds_and_say_what_to_do() {
        for (line, kind, hint) in [
            (
                "NOPERM this user has no permissions to run the 'xadd' command",
                ErrorKind::Forbidden,
                "ACL LIST",
            ),
            ("WRONGTYPE Operation against a key holding s3cret", ErrorKind::Misconfigured, "key"),
            ("MOVED 1234 10.0.0.1:6379", ErrorKind::Misconfigured, "cluster"),
            ("OOM command not allowed s3cret", ErrorKind::Unavailable, "maxmemory"),
            ("MISCONF Redis is configured to save RDB snapshots", ErrorKind::Unavailable, "log"),
            (
                "NOREPLICAS Not enough good replicas to write.",
                ErrorKind::Unavailable,
                "min-replicas-to-write",
            ),
            ("READONLY You can't write against a read only replica.", ErrorKind::Unavailable, "master"),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Unavailable, "ready"),
            ("ERR unknown command 'XADD', with args beginning with: 's3cret'", ErrorKind::Unsupported, "7.0"),
            ("ERR unknown subcommand 'STREAM'. Try XINFO HELP.", ErrorKind::Unsupported, "7.0"),
            ("ERR something new: s3cret", ErrorKind::Other, "ERR"),
        ] {
            let error = translate_of_log(&peer(), &refusal(line));
            assert_eq!(error.kind(), kind, "{line}: {error}");
            assert!(error.message().contains(hint), "{error}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("127.0.0.1:6379") && !shown.contains("s3cret"), "{shown}");
        }
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
            let error = translate(&peer(), &RedisError::from(io::Error::from(io)));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains("127.0.0.1:6379"), "{error}");
        }
    }

    #[test]
    fn garbage_is_a_protocol_error() {
        let error = redis::parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        assert_eq!(translate(&peer(), &error).kind(), ErrorKind::Protocol);
    }
}
