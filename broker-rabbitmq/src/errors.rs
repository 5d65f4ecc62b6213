//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are looked at and never repeated, only its reply code: what they hold is not ours
//! to vouch for.

use std::io;

use broker_core::{
    Error,
    ErrorKind::{self, Forbidden, Misconfigured, Other, Protocol, Unavailable, Unsupported},
};
use lapin::{ErrorKind as Kind, protocol::AMQPError, uri::AMQPAuthority};

/// Whom an error is about.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// `host:port`.
    place: String,
    user: String,
    vhost: String,
    exchange: String,
}

impl Peer {
    pub(crate) fn new(authority: &AMQPAuthority, vhost: &str, exchange: &str) -> Self {
        let AMQPAuthority { userinfo, host, port } = authority;
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let (vhost, exchange) = (vhost.to_owned(), exchange.to_owned());
        Self { place, user: userinfo.username.clone(), vhost, exchange }
    }

    /// The one translation of the client's errors.
    pub(crate) fn error(&self, error: &lapin::Error) -> Error {
        match error.kind() {
            Kind::ProtocolError(answer) => self.answered(answer),
            Kind::IOError(error) => self.io(error),
            Kind::InvalidProtocolVersion(_) => {
                let why = "does not speak AMQP 0-9-1; RabbitMQ 3.10 or newer is needed";
                Error::new(Unsupported, format!("{} {why}", self.place))
            }
            Kind::ParsingError(_) | Kind::SerialisationError(_) => self.foreign(),
            Kind::MissingHeartbeatError => {
                Error::new(Unavailable, format!("{} has fallen silent", self.place))
            }
            Kind::InvalidChannel(_) | Kind::InvalidChannelState(..) | Kind::InvalidConnectionState(_) => {
                self.gone()
            }
            _ => Error::new(Other, format!("the client for {} failed: {error}", self.place)),
        }
    }

    /// The way to the server failed.
    pub(crate) fn io(&self, error: &io::Error) -> Error {
        let (kind, what) = match error.kind() {
            io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                return self.gone();
            }
            // This is how TLS says that it does not trust, or understand, what it reads.
            io::ErrorKind::InvalidData => (Misconfigured, "no trusted TLS (see the key `ca`) with"),
            io::ErrorKind::PermissionDenied => (Forbidden, "may not open"),
            _ => (Unavailable, "no connection to"),
        };
        Error::new(kind, format!("{what} {}: {error}", self.place))
    }

    /// The connection ended, by whomever.
    pub(crate) fn gone(&self) -> Error {
        Error::new(Unavailable, format!("the connection to {} was closed", self.place))
    }

    /// The server no longer delivers to us, though the connection lives.
    pub(crate) fn cancelled(&self) -> Error {
        Error::new(Unavailable, format!("{} has deleted the queue of this link", self.place))
    }

    /// The server takes nothing from us.
    pub(crate) fn blocked(&self) -> Error {
        let why = "takes no posts: it is low on memory or disk; see `rabbitmq-diagnostics alarms`";
        Error::new(Unavailable, format!("{} {why}", self.place))
    }

    /// The server could not do with a message what it should.
    pub(crate) fn not_taken(&self) -> Error {
        Error::new(Other, format!("{} has not taken the message; see its log", self.place))
    }

    /// The peer does not speak as a RabbitMQ server does.
    pub(crate) fn foreign(&self) -> Error {
        let why = "does not answer like a RabbitMQ server; check host, port and scheme";
        Error::new(Protocol, format!("{} {why}", self.place))
    }

    /// The server answered by closing the channel or the connection.
    fn answered(&self, answer: &AMQPError) -> Error {
        let Self { place, user, vhost, exchange } = self;
        let code = answer.get_id();
        let (kind, why) = self.meaning(code, answer.get_message().as_str());
        let about = match code {
            403 if why == NO_PERMISSION => {
                format!(" the user {user:?} on exchange {exchange:?} in {vhost:?}:")
            }
            403 => format!(" the user {user:?}:"),
            404 | 406 => format!(" exchange {exchange:?} in {vhost:?}:"),
            530 => format!(" the user {user:?} on virtual host {vhost:?}:"),
            _ => String::new(),
        };
        let refused = if about.is_empty() { ":" } else { " refuses" };
        Error::new(kind, format!("{place}{refused}{about} {why} (reply code {code})"))
    }

    fn meaning(&self, code: u16, words: &str) -> (ErrorKind, &'static str) {
        match code {
            403 if words.contains("Login") => (Forbidden, "wrong password, or the user is unknown"),
            403 if words.contains("refused in") => (Forbidden, "wrong password, or the user is unknown"),
            403 => (Forbidden, NO_PERMISSION),
            404 => (Unavailable, "it was deleted; the next link declares it again"),
            406 => (
                Misconfigured,
                "it exists with another type or durability; delete it, or set the key `exchange`",
            ),
            530 if words.contains("limit") => (Unavailable, "too many connections; see its limits"),
            530 if words.contains("not found") => {
                (Misconfigured, "no such virtual host; add it, or check the url")
            }
            530 if words.contains("is down") => (Unavailable, "the virtual host is down; see its log"),
            530 => (Forbidden, "no access to this virtual host; see `rabbitmqctl list_permissions`"),
            320 => (Unavailable, "the server, or its operator, closed the connection"),
            311 | 506 | 541 => (Unavailable, "the server could not do it; see its log"),
            540 => (Unsupported, "the server cannot do this; RabbitMQ 3.10 or newer is needed"),
            501..=505 => (Protocol, "the server did not understand the client; see its log"),
            _ => (Other, "the server refused"),
        }
    }
}

const NO_PERMISSION: &str = "a permission is missing; see `rabbitmqctl list_permissions`";

#[cfg(test)]
mod tests {
    use lapin::uri::AMQPUserInfo;

    use super::*;

    fn peer() -> Peer {
        let userinfo = AMQPUserInfo { username: "ada".to_owned(), password: "s3cret".to_owned() };
        let authority = AMQPAuthority { userinfo, host: "127.0.0.1".to_owned(), port: 5672 };
        Peer::new(&authority, "shop", "live")
    }

    fn answer(code: u16, words: &str) -> Error {
        let answer = AMQPError::from_id(code, words.into()).expect("a reply code");
        peer().error(&Kind::ProtocolError(answer).into())
    }

    #[test]
    fn answers_have_their_kinds() {
        for (code, words, kind, part) in [
            (
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
                Forbidden,
                "password",
            ),
            (403, "ACCESS_REFUSED - access to exchange 'live' refused for user", Forbidden, "\"live\""),
            (404, "NOT_FOUND - no exchange 'live' in vhost 'shop'", Unavailable, "deleted"),
            (406, "PRECONDITION_FAILED - inequivalent arg 'type'", Misconfigured, "\"live\""),
            (530, "NOT_ALLOWED - vhost shop not found", Misconfigured, "\"shop\""),
            (530, "NOT_ALLOWED - access to vhost 'shop' refused for user 'ada'", Forbidden, "\"ada\""),
            (
                530,
                "NOT_ALLOWED - access to vhost refused: connection limit (3) is reached",
                Unavailable,
                "many",
            ),
            (320, "CONNECTION_FORCED - broker forced connection closure", Unavailable, "closed"),
            (501, "FRAME_ERROR", Protocol, "understand"),
            (540, "NOT_IMPLEMENTED", Unsupported, "3.10"),
            (541, "INTERNAL_ERROR", Unavailable, "log"),
        ] {
            let error = answer(code, words);
            assert_eq!(error.kind(), kind, "{words}: {error}");
            assert!(error.message().contains("127.0.0.1:5672"), "{error}");
            assert!(error.message().contains(part), "{error}");
        }
    }

    #[test]
    fn neither_passwords_nor_the_servers_words_are_repeated() {
        for (code, words) in [(403, "Login s3cret"), (403, "s3cret"), (406, "s3cret"), (541, "s3cret")] {
            let error = answer(code, words);
            let shown = format!("{error} {error:?} {:?}", peer());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn io_errors_have_their_kinds() {
        for (io, kind) in [
            (io::ErrorKind::ConnectionRefused, Unavailable),
            (io::ErrorKind::ConnectionAborted, Unavailable),
            (io::ErrorKind::TimedOut, Unavailable),
            (io::ErrorKind::PermissionDenied, Forbidden),
            (io::ErrorKind::InvalidData, Misconfigured),
        ] {
            let error = peer().error(&io::Error::from(io).into());
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains("127.0.0.1:5672"), "{error}");
        }
    }

    #[test]
    fn a_place_is_written_as_in_a_url() {
        let authority = AMQPAuthority { host: "::1".to_owned(), port: 7, ..AMQPAuthority::default() };
        assert!(Peer::new(&authority, "/", "x").gone().message().contains("[::1]:7"));
    }
}
