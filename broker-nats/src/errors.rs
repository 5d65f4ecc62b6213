//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are never repeated: they may quote what it was sent, and that may be a secret.

use std::{error::Error as _, io};

use async_nats::{ConnectError, ConnectErrorKind as Kind, ServerError};
use broker_core::{
    Error,
    ErrorKind::{
        Forbidden, Interrupted, InvalidInput, Misconfigured, Other, Protocol, TooLarge, Unavailable,
    },
};

/// Whom an error is about.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// `host:port`.
    pub(crate) place: String,
    /// Who we say we are: `the user "ada"`.
    pub(crate) who: String,
}

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

impl Peer {
    /// Why a connection could not be opened.
    pub(crate) fn refused(&self, error: &ConnectError) -> Error {
        let source = error.source();
        if let Some(said) = source.and_then(|source| source.downcast_ref::<ServerError>()) {
            return self.said(&said.to_string());
        }
        let (kind, what) = match (error.kind(), source.and_then(|source| source.downcast_ref::<io::Error>()))
        {
            (Kind::Io, Some(io)) => return self.broken(io),
            (Kind::Authentication, _) => {
                (InvalidInput, "the file of `nkey` or `creds` has no usable key for")
            }
            (Kind::Tls, _) => {
                (InvalidInput, "one of the files `ca`, `cert`, `key` is not what it should be, for")
            }
            (Kind::Dns, _) => (Unavailable, "no such host:"),
            // The texts of the client for a peer that hangs up.
            (Kind::Io, None) => match source.map(ToString::to_string).as_deref() {
                Some("broken pipe" | "expected INFO, got nothing") => return self.gone(),
                _ => return self.foreign(),
            },
            _ => (Unavailable, "no connection to"),
        };
        Error::new(kind, format!("{what} {}", self.place))
    }

    fn broken(&self, error: &io::Error) -> Error {
        let (kind, what) = match error.kind() {
            // The client could not read what came; its text quotes it.
            io::ErrorKind::InvalidInput => return self.foreign(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return self.gone(),
            // This is how TLS says that it does not trust, or understand, what it reads.
            io::ErrorKind::InvalidData => (Misconfigured, "no trusted TLS (see the keys `ca`, `cert`) with"),
            _ => (Unavailable, "no connection to"),
        };
        Error::new(kind, format!("{what} {}: {error}", self.place))
    }

    /// The connection ended, by whomever.
    pub(crate) fn gone(&self) -> Error {
        Error::new(Unavailable, format!("the connection to {} was closed", self.place))
    }

    /// The peer does not speak as a NATS server does.
    pub(crate) fn foreign(&self) -> Error {
        let why = "does not answer like a NATS server; check host, port and scheme";
        Error::new(Protocol, format!("{} {why}", self.place))
    }

    /// The server will end the connection soon.
    pub(crate) fn lame_duck(&self) -> Error {
        Error::new(Unavailable, format!("{} is about to shut down (lame duck mode)", self.place))
    }

    /// A frame that the client did not even send.
    pub(crate) fn unsent(&self, size: usize, limit: usize) -> Error {
        if size <= limit {
            return self.gone();
        }
        let Self { place, .. } = self;
        let message = format!(
            "{size} bytes, with the header, are over the `max_payload` of {place}, {limit}: raise it"
        );
        Error::new(TooLarge, message)
    }

    /// More frames were refused than the client has room for complaints.
    pub(crate) fn deaf(&self) -> Error {
        let message = format!("{} refused so many others that this may have been refused, too", self.place);
        Error::new(Interrupted, message)
    }

    /// No permission for a channel.
    pub(crate) fn forbidden(&self, what: &str) -> Error {
        let Self { place, who } = self;
        Error::new(
            Forbidden,
            format!("{place} gives {who} no permission to {what} here; see its `permissions`"),
        )
    }

    /// No permission for what every link needs.
    pub(crate) fn forbidden_inbox(&self, inbox: &str) -> Error {
        let Self { place, who } = self;
        let start = inbox.rsplit_once('.').map_or(inbox, |(start, _)| start);
        let message = format!(
            "{place} gives {who} no permission to publish and to subscribe to `{start}.>`, which the driver \
             needs; grant both, or name another start by the key `inbox`"
        );
        Error::new(Forbidden, message)
    }

    /// The connection has all the subscriptions it may have.
    pub(crate) fn full(&self) -> Error {
        let message =
            format!("{} lets a connection have no more channels; see its `max_subscriptions`", self.place);
        Error::new(Misconfigured, message)
    }

    /// Sorts a complaint of the server.
    pub(crate) fn complaint(&self, error: &ServerError) -> Complaint {
        let text = error.to_string();
        let subject = text.split_once('"').map(|(_, quoted)| unquote(quoted));
        match subject {
            Some(subject) if text.contains("Permissions Violation for Publish") => {
                Complaint::Publish(subject)
            }
            Some(subject) if text.contains("Permissions Violation for Sub") => Complaint::Subscribe(subject),
            _ if text.to_ascii_lowercase().contains("maximum subscriptions") => Complaint::Full,
            _ => Complaint::Fatal(self.said(&text)),
        }
    }

    /// The one translation of what the server says before it hangs up.
    fn said(&self, text: &str) -> Error {
        let text = text.to_ascii_lowercase();
        let has = |part: &str| text.contains(part);
        let Self { place, who } = self;
        let (kind, why) = match () {
            () if has("authorization violation") => (Forbidden, "wrong, unknown, or not enough"),
            () if has("authentication expired") => (Forbidden, "expired"),
            () if has("authentication revoked") => (Forbidden, "revoked"),
            () if has("tls required") => (Misconfigured, "wants TLS; write the url with tls://"),
            () if has("connections exceeded") => (Unavailable, "is full; see its `max_connections`"),
            () if has("shutdown") => (Unavailable, "is shutting down"),
            () if has("slow consumer") => {
                (Unavailable, "closed the connection: this process reads too slowly")
            }
            () if has("stale connection") => (Unavailable, "closed the connection: this process was silent"),
            () if has("protocol") || has("parse") => return self.foreign(),
            () => (Other, "closed the connection, for a reason that this driver does not know"),
        };
        let refused = if kind == Forbidden { format!(" refused {who}:") } else { String::new() };
        Error::new(kind, format!("{place}{refused} {why}"))
    }
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

    fn peer() -> Peer {
        Peer { place: "127.0.0.1:4222".to_owned(), who: "the user \"ada\"".to_owned() }
    }

    fn other(text: &str) -> ServerError {
        ServerError::Other(text.to_owned())
    }

    #[test]
    fn complaints_before_the_end_have_their_kinds() {
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
            let Complaint::Fatal(error) = peer().complaint(&other(text)) else { panic!("{text}") };
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.message().contains("127.0.0.1:4222"), "{error}");
        }
        let Complaint::Fatal(error) = peer().complaint(&ServerError::AuthorizationViolation) else {
            panic!()
        };
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.message().contains("\"ada\""), "{error}");
        assert!(matches!(peer().complaint(&other("maximum subscriptions exceeded")), Complaint::Full));
    }

    #[test]
    fn refusals_name_their_subject_as_it_is() {
        for (quoted, subject) in [
            ("news", "news"),
            ("日本", "日本"),
            (r#"say \"hi\""#, "say \"hi\""),
            (r"back\\slash", r"back\slash"),
            (r"\u200b\ufeffx\U0001f980", "\u{200b}\u{feff}x\u{1f980}"),
            (r"\xe9\q", "éq"),
        ] {
            let text = format!("Permissions Violation for Publish to \"{quoted}\"");
            let complaint = peer().complaint(&other(&text));
            assert!(matches!(&complaint, Complaint::Publish(name) if name == subject), "{complaint:?}");
            // The second form is that of a permission taken away.
            for end in ["", " (sid \"7\")"] {
                let text = format!("Permissions Violation for Subscription to \"{quoted}\"{end}");
                let complaint = peer().complaint(&other(&text));
                assert!(matches!(&complaint, Complaint::Subscribe(name) if name == subject), "{complaint:?}");
            }
        }
    }

    #[test]
    fn the_servers_words_are_not_repeated() {
        for text in ["s3cret", "Permissions Violation for s3cret \"x\"", "Parser Error: 's3cret'"] {
            let Complaint::Fatal(error) = peer().complaint(&other(text)) else { panic!("{text}") };
            let shown = format!("{error} {error:?} {error:#?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
