//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are never repeated, only its SQLSTATE: they quote statements and values. So its error is no
//! source of ours either.

use std::{error::Error as _, io};

use broker_core::{
    Error,
    ErrorKind::{self, Forbidden, Misconfigured, Other, Timeout, Unavailable, Unsupported},
    driver::ErrorContext,
};
use tokio_postgres::{Error as PgError, error::Severity};

/// The server does not write: every link to it is given up.
const READ_ONLY: &str = "25006";

/// A prepared statement does not exist, or has another type of result.
const STALE: &[&str] = &["26000", "0A000"];

/// A statement was cancelled, or has not got a lock in time.
const CANCELLED: &[&str] = &["57014", "55P03"];

/// By the server's code: what that means.
const MEANINGS: &[(&str, ErrorKind, &str)] = &[
    ("28P01", Forbidden, "wrong password, or no such user"),
    (
        "28000",
        Forbidden,
        "its pg_hba.conf lets this user not into this database from here, or only with TLS (sslmode=verify-full), or the \
         user may not log in",
    ),
    ("42501", Forbidden, "no permission"),
    (
        "53300",
        Unavailable,
        "has no connection left for this user; see `max_connections` and the limits of role and database",
    ),
    ("57P01", Unavailable, "ended the connection: it shuts down, or an operator wanted it"),
    ("57P02", Unavailable, "ended the connection: one of its processes has crashed"),
    ("57P03", Unavailable, "starts up or shuts down, or recovers"),
    ("57P05", Unavailable, "ended an idle connection; see `idle_session_timeout`"),
    (
        READ_ONLY,
        Unavailable,
        "is a standby, or read-only; give the address of the primary, or of all its servers",
    ),
    ("53100", Unavailable, "has no room on its disk"),
    ("53200", Unavailable, "is out of memory"),
    ("53400", Unavailable, "has reached a limit of its configuration"),
    (
        "54000",
        Unavailable,
        "has a full queue of notifications; end the session that listens and is busy in a transaction: see \
         `pg_notification_queue_usage()` and `pg_stat_activity`",
    ),
    (
        "57014",
        Timeout,
        "has cancelled a statement: it took longer than `statement_timeout` allows this user, or an operator cancelled it; raise \
         it by ALTER ROLE … SET statement_timeout",
    ),
    (
        "55P03",
        Timeout,
        "has not got a lock in the time that `lock_timeout` allows this user; raise it by ALTER ROLE … SET lock_timeout",
    ),
    ("0A000", Unsupported, "lacks what is needed: PostgreSQL 13 or newer, with LISTEN and NOTIFY"),
];

/// The one translation of the client's errors.
pub(crate) fn translate(peer: &ErrorContext, error: &PgError) -> Error {
    let Some(code) = error.code() else { return local(peer, error) };
    if code.code() == "3D000" {
        let why = format!("has no such database ({}); correct the path of the url", peer.who());
        return refusal(peer, Misconfigured, &why, code.code());
    }
    let found = MEANINGS.iter().find(|(known, _, _)| *known == code.code());
    let (kind, why) = found.map_or((Other, "refused the statement"), |(_, kind, why)| (*kind, *why));
    refusal(peer, kind, why, code.code())
}

/// The same while a link is opened, where no other session is in the way: a limit that is too short for that is too short for
/// anything.
pub(crate) fn translate_opening(peer: &ErrorContext, error: &PgError) -> Error {
    let translated = translate(peer, error);
    if is_cancelled(error) {
        return Error::new(Misconfigured, translated.message().to_owned());
    }
    translated
}

/// An error with the server's code for it.
pub(crate) fn refusal(peer: &ErrorContext, kind: ErrorKind, why: &str, code: &str) -> Error {
    // Anything else is no code, and may be anything.
    let plain =
        code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    peer.error(kind, format!("{why} (SQLSTATE {})", if plain { code } else { "unknown" }))
}

/// Whether the connection ends with this error, so that the fate of what is under way is unknown.
pub(crate) fn is_end(error: &PgError) -> bool {
    let severity = error.as_db_error().and_then(|error| error.parsed_severity());
    error.code().is_none() || matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// Whether the statement was cancelled, or has not got a lock in time; then it is undone.
pub(crate) fn is_cancelled(error: &PgError) -> bool {
    error.code().is_some_and(|code| CANCELLED.contains(&code.code()))
}

/// The error of a post whose statement the server does not know any more, or would run in another way than it was prepared
/// for: nothing was sent, and only another session helps.
pub(crate) fn stale(peer: &ErrorContext, error: &PgError) -> Option<Error> {
    let code = error.code().map(|code| code.code()).filter(|code| STALE.contains(code))?;
    let why = "has given up what the link had prepared: somebody used its connection for DEALLOCATE or DISCARD (give a pool \
               `pool_mode = session`), or the function `pg_notify` was replaced";
    Some(refusal(peer, Unavailable, why, code))
}

/// Whether the server does not write any more.
pub(crate) fn is_read_only(error: &PgError) -> bool {
    error.code().is_some_and(|code| code.code() == READ_ONLY)
}

/// The way there failed, or what came from there was no answer. The client tells the kinds of its errors by their texts
/// only.
fn local(peer: &ErrorContext, error: &PgError) -> Error {
    let said = error.to_string();
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match (said.as_str(), io) {
        ("error parsing response from server" | "unexpected message from server", _) => {
            peer.not_this_protocol()
        }
        ("error performing TLS handshake", None) => {
            peer.io(&io::Error::new(io::ErrorKind::InvalidData, "the server speaks no TLS"))
        }
        ("authentication error", _) => peer.error(
            Forbidden,
            "the server asks for a way to sign in that is not supported, or does not know the password",
        ),
        ("invalid configuration", _) => {
            peer.error(Forbidden, "a password is required; write it into the url")
        }
        // The codec's complaint about what it reads, and not that of TLS.
        ("error communicating with the server", Some(io))
            if matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
                && !is_of_tls(io) =>
        {
            peer.not_this_protocol()
        }
        // The connection ended in the middle of a message.
        (_, Some(io)) if io.kind() == io::ErrorKind::Other && io.raw_os_error().is_none() => {
            peer.disconnected()
        }
        (_, Some(io)) => peer.io(io),
        _ if error.is_closed() => peer.disconnected(),
        _ => Error::new(Other, format!("{}: {said}", peer.place())),
    }
}

fn is_of_tls(error: &io::Error) -> bool {
    #[cfg(feature = "tls")]
    return error.get_ref().is_some_and(|error| error.is::<rustls::Error>());
    #[cfg(not(feature = "tls"))]
    return error.kind() == io::ErrorKind::Other;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> ErrorContext {
        ErrorContext::new("PostgreSQL", "127.0.0.1:5432", "the user \"ada\"")
    }

    #[test]
    fn a_code_that_is_none_is_not_repeated() {
        let shown = |code| refusal(&peer(), Other, "refused the statement", code).to_string();
        assert!(
            shown("XX000").ends_with("127.0.0.1:5432 refused the statement (SQLSTATE XX000)"),
            "{}",
            shown("XX000")
        );
        for code in ["s3cret", "s3cre", "", "28P0\n"] {
            assert!(shown(code).ends_with("(SQLSTATE unknown)"), "{}", shown(code));
        }
    }

    #[test]
    fn every_code_has_one_meaning() {
        let mut codes: Vec<_> = MEANINGS.iter().map(|(code, _, _)| code).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), MEANINGS.len());
    }
}
