//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are never repeated: they may quote what it was sent, and that may be a secret.

use std::{error::Error as _, io};

use async_nats::{ConnectError, ConnectErrorKind as Kind, ServerError};
use broker_core::{
    Error,
    ErrorKind::{self, Forbidden, InvalidInput, Misconfigured, Other, Protocol, Unavailable},
    driver::ErrorContext,
};

/// What a server complains about while a connection lives.
#[derive(Debug)]
pub(crate) enum Complaint {
    /// No permission to publish here.
    Publish(String),
    /// No permission to subscribe to this, or not any more.
    Subscribe(String),
    /// The connection has as many subscriptions as it may have.
    Full,
    /// Anything else: the server closes the connection.
    Fatal(Error),
}

/// What a server says before it hangs up: a part of it in lower case, and what that means.
const LAST_WORDS: &[(&str, ErrorKind, &str)] = &[
    ("authorization violation", Forbidden, "wrong or insufficient credentials"),
    ("authentication expired", Forbidden, "the credentials have expired"),
    ("authentication revoked", Forbidden, "the credentials were revoked"),
    ("tls required", Misconfigured, "requires TLS; write the url with tls://"),
    ("connections exceeded", Unavailable, "is full; see its `max_connections`"),
    ("shutdown", Unavailable, "is shutting down"),
    ("slow consumer", Unavailable, "closed the connection: this process reads too slowly"),
    ("stale connection", Unavailable, "closed the connection: this process was silent"),
    ("protocol", Protocol, "does not understand this client; check host, port and scheme"),
    ("parse", Protocol, "does not understand this client; check host, port and scheme"),
    ("", Other, "closed the connection for an unknown reason; see its log"),
];

/// Why a connection could not be opened.
pub(crate) fn refused(peer: &ErrorContext, error: &ConnectError) -> Error {
    let source = error.source();
    if let Some(said) = source.and_then(|source| source.downcast_ref::<ServerError>()) {
        return last_words(peer, said);
    }
    match (error.kind(), source.and_then(|source| source.downcast_ref::<io::Error>())) {
        // The client could not read what came; its text quotes it.
        (Kind::Io, Some(io)) if io.kind() == io::ErrorKind::InvalidInput => peer.not_this_protocol(),
        (Kind::Io, Some(io)) => peer.io(io),
        // The texts of the client for a peer that hangs up.
        (Kind::Io, None) => match source.map(ToString::to_string).as_deref() {
            Some("broken pipe" | "expected INFO, got nothing") => peer.disconnected(),
            _ => peer.not_this_protocol(),
        },
        (Kind::Authentication | Kind::Tls, _) => {
            let files = "`nkey`, `creds`, `ca`, `cert`, `key`";
            peer.error(InvalidInput, format!("needs credentials or certificates that the files {files} lack"))
        }
        (Kind::Dns, _) => peer.unreachable("no such host"),
        (kind, _) => peer.unreachable(kind),
    }
}

/// Sorts a complaint of the server.
pub(crate) fn complaint(peer: &ErrorContext, error: &ServerError) -> Complaint {
    let text = error.to_string();
    let subject = text.split_once('"').map(|(_, quoted)| unquote(quoted));
    match subject {
        Some(subject) if text.contains("Permissions Violation for Publish") => Complaint::Publish(subject),
        Some(subject) if text.contains("Permissions Violation for Sub") => Complaint::Subscribe(subject),
        _ if text.to_ascii_lowercase().contains("maximum subscriptions") => Complaint::Full,
        _ => Complaint::Fatal(last_words(peer, error)),
    }
}

/// The one translation of what the server says before it hangs up.
fn last_words(peer: &ErrorContext, error: &ServerError) -> Error {
    let text = error.to_string().to_ascii_lowercase();
    let known = LAST_WORDS.iter().find(|(part, ..)| text.contains(part));
    known.map_or_else(|| peer.disconnected(), |(_, kind, why)| peer.error(*kind, why))
}

/// What stands before the closing quote. A server quotes as its language does: a name is in there with escapes.
fn unquote(quoted: &str) -> String {
    let (mut text, mut rest) = (String::new(), quoted.chars());
    while let Some(c) = rest.next().filter(|c| *c != '"') {
        let plain = if c == '\\' { rest.next() } else { Some(c) };
        let digits = match plain {
            Some('x') if c != 'x' => 2,
            Some('u') if c != 'u' => 4,
            Some('U') if c != 'U' => 8,
            _ => 0,
        };
        let code: String = rest.by_ref().take(digits).collect();
        text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).or(plain));
    }
    text
}

#[cfg(test)]
mod tests {
    use broker_core::ErrorKind;

    use super::*;

    fn peer() -> ErrorContext {
        ErrorContext::new("NATS", "127.0.0.1:4222", "the user \"ada\"")
    }

    fn other(text: &str) -> ServerError {
        ServerError::Other(text.to_owned())
    }

    #[test]
    fn errors_before_the_end_have_their_kinds() {
        for (text, kind) in [
            ("User Authentication Expired", ErrorKind::Forbidden),
            ("User Authentication Revoked", ErrorKind::Forbidden),
            ("Account Authentication Expired", ErrorKind::Forbidden),
            ("Authentication Timeout", ErrorKind::Other),
            ("Maximum Connections Exceeded", ErrorKind::Unavailable),
            ("maximum account active connections exceeded", ErrorKind::Unavailable),
            ("Secure Connection - TLS Required", ErrorKind::Misconfigured),
            ("Server Shutdown", ErrorKind::Unavailable),
            ("Slow Consumer", ErrorKind::Unavailable),
            ("Stale Connection", ErrorKind::Unavailable),
            ("Unknown Protocol Operation", ErrorKind::Protocol),
            ("Parser Error", ErrorKind::Protocol),
            ("something new", ErrorKind::Other),
        ] {
            let Complaint::Fatal(error) = complaint(&peer(), &other(text)) else { panic!("{text}") };
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.message().contains("127.0.0.1:4222"), "{error}");
        }
        let Complaint::Fatal(error) = complaint(&peer(), &ServerError::AuthorizationViolation) else {
            panic!()
        };
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.message().contains("\"ada\""), "{error}");
        assert!(matches!(complaint(&peer(), &other("maximum subscriptions exceeded")), Complaint::Full));
    }

    #[test]
    fn refusals_name_their_subject_unchanged() {
        for (quoted, subject) in [
            ("news", "news"),
            ("日本", "日本"),
            (r#"say \"hi\""#, "say \"hi\""),
            (r"back\\slash", r"back\slash"),
            (r"\u200b\ufeffx\U0001f980", "\u{200b}\u{feff}x\u{1f980}"),
            (r"\xe9\q", "éq"),
        ] {
            let text = format!("Permissions Violation for Publish to \"{quoted}\"");
            let complaint = super::complaint(&peer(), &other(&text));
            assert!(matches!(&complaint, Complaint::Publish(name) if name == subject), "{complaint:?}");
            // The second form is that of a permission taken away.
            for end in ["", " (sid \"7\")"] {
                let text = format!("Permissions Violation for Subscription to \"{quoted}\"{end}");
                let complaint = super::complaint(&peer(), &other(&text));
                assert!(matches!(&complaint, Complaint::Subscribe(name) if name == subject), "{complaint:?}");
            }
        }
    }

    #[test]
    fn the_servers_words_are_not_repeated() {
        for text in ["s3cret", "Permissions Violation for s3cret \"x\"", "Parser Error: 's3cret'"] {
            let Complaint::Fatal(error) = complaint(&peer(), &other(text)) else { panic!("{text}") };
            let shown = format!("{error} {error:?} {error:#?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
