//! Errors: what the client or the server said, as one of the broker's errors.
//!
//! The server's own words are looked at and never repeated, only its reply code: what they hold is not ours
//! to vouch for.

use broker_core::{
    Error,
    ErrorKind::{self, Forbidden, Misconfigured, Other, Protocol, Unavailable, Unsupported},
};
use lapin::{ErrorKind as Kind, protocol::AMQPError};

use crate::address::Address;

impl Address {
    /// The one translation of the client's errors.
    pub(crate) fn error(&self, error: &lapin::Error) -> Error {
        let peer = &self.peer;
        match error.kind() {
            Kind::ProtocolError(answer) => self.answered(answer),
            Kind::IOError(error) => peer.io(error),
            Kind::InvalidProtocolVersion(_) => {
                peer.error(Unsupported, "does not speak AMQP 0-9-1; RabbitMQ 3.10 or newer is needed")
            }
            Kind::ParsingError(_) | Kind::SerialisationError(_) => peer.not_this_protocol(),
            Kind::ChannelsLimitReached => {
                let why =
                    "allows a connection too few AMQP channels; have an operator raise its `channel_max`";
                peer.error(Misconfigured, why)
            }
            Kind::MissingHeartbeatError => peer.error(Unavailable, "has stopped sending heartbeats"),
            Kind::InvalidChannel(_) | Kind::InvalidChannelState(..) | Kind::InvalidConnectionState(_) => {
                peer.disconnected()
            }
            _ => Error::new(Other, format!("the client for {} failed: {error}", peer.place())),
        }
    }

    /// The server answered by closing the channel or the connection.
    fn answered(&self, answer: &AMQPError) -> Error {
        let code = answer.get_id();
        let (kind, why) = meaning(code, answer.get_message().as_str());
        let whom = if kind == Forbidden { String::new() } else { format!(" for {}", self.peer.who()) };
        let exchange = self.exchange.as_str();
        self.peer.error(kind, format!("{why} (reply code {code}{whom}, exchange {exchange:?})"))
    }
}

/// A queue was refused for its limits alone: the one that is there is of the same kind.
pub(crate) fn has_other_limits(error: &lapin::Error) -> bool {
    let Kind::ProtocolError(answer) = error.kind() else { return false };
    let words = answer.get_message().as_str();
    words.contains("inequivalent arg 'x-") && !words.contains("'x-queue-type'")
}

fn meaning(code: u16, words: &str) -> (ErrorKind, &'static str) {
    let has = |part| words.contains(part);
    match code {
        403 if has("Login") || has("refused in") => (Forbidden, "wrong password, or the user is unknown"),
        403 => (Forbidden, "a permission is missing; see `rabbitmqctl list_permissions`"),
        404 if has("is down") => {
            (Unavailable, "has the queue down; see `rabbitmqctl list_queues name state`")
        }
        404 => (Unavailable, "has deleted the exchange or the queue; the next link declares them again"),
        406 if has("queue limit") => (
            Unavailable,
            "has as many queues in this virtual host as it may have; have an operator raise the limit `max-queues` \
             (`rabbitmqctl set_vhost_limits`)",
        ),
        // Also of an argument that only a stream knows.
        406 if has("for queue") => (
            Misconfigured,
            "has another kind of queue under the revocation log's name; set the key `exchange` to another name, or have \
             an operator look what that queue is for",
        ),
        406 if has("inequivalent") => (
            Misconfigured,
            "has the exchange with another type or durability; set the key `exchange` to another name",
        ),
        406 => (Misconfigured, "refused the declaration; see its log"),
        530 if has("channel") && has("limit") => (
            Unavailable,
            "lets this user open no more AMQP channels; have an operator raise the limit `max-channels` \
             (`rabbitmqctl set_user_limits`)",
        ),
        530 if has("limit") => (
            Unavailable,
            "has too many connections; have an operator raise the limit `max-connections` of the virtual host or the \
             user (`rabbitmqctl set_vhost_limits`, `set_user_limits`), or that of the node",
        ),
        530 if has("not found") => (Misconfigured, "has no such virtual host; add it, or check the url"),
        530 if has("is down") => (Unavailable, "has the virtual host down; see its log"),
        530 => (Forbidden, "no access to this virtual host; see `rabbitmqctl list_permissions`"),
        320 => (Unavailable, "closed the connection; see its log"),
        541 if has("feature flag") => {
            (Unsupported, "has streams turned off; enable its feature flag `stream_queue`")
        }
        311 | 506 | 541 => (Unavailable, "failed; see its log"),
        540 => (Unsupported, "cannot do this; RabbitMQ 3.10 or newer is needed"),
        501..=505 => (Protocol, "did not understand the client; see its log"),
        _ => (Other, "refused"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use broker_core::BrokerUrl;

    use super::*;

    fn address() -> Address {
        let url = "amqp://ada:s3cret@127.0.0.1:5672/shop?exchange=live";
        Address::parse(&BrokerUrl::parse(url).unwrap()).unwrap()
    }

    fn answer(code: u16, words: &str) -> Error {
        let answer = AMQPError::from_id(code, words.into()).expect("a reply code");
        address().error(&Kind::ProtocolError(answer).into())
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
            (
                404,
                "NOT_FOUND - home node 'n@a' of durable queue 'b' is down or inaccessible",
                Unavailable,
                "state",
            ),
            (406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange", Misconfigured, "`exchange`"),
            (406, "PRECONDITION_FAILED - something new", Misconfigured, "log"),
            (
                406,
                "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in vhost 'shop' (1) is reached",
                Unavailable,
                "`max-queues`",
            ),
            (
                406,
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue",
                Misconfigured,
                "log's name",
            ),
            (530, "NOT_ALLOWED - vhost shop not found", Misconfigured, "\"shop\""),
            (530, "NOT_ALLOWED - access to vhost 'shop' refused for user 'ada'", Forbidden, "\"ada\""),
            (
                530,
                "NOT_ALLOWED - access to vhost refused: connection limit (3) is reached",
                Unavailable,
                "too many connections",
            ),
            (
                530,
                "NOT_ALLOWED - number of channels opened for user 'ada' has reached the maximum allowed user limit of (3)",
                Unavailable,
                "`max-channels`",
            ),
            (320, "CONNECTION_FORCED - broker forced connection closure", Unavailable, "closed"),
            (501, "FRAME_ERROR", Protocol, "understand"),
            (540, "NOT_IMPLEMENTED", Unsupported, "3.10"),
            (541, "INTERNAL_ERROR", Unavailable, "log"),
            (541, "the corresponding feature flag is disabled", Unsupported, "`stream_queue`"),
        ] {
            let error = answer(code, words);
            assert_eq!(error.kind(), kind, "{words}: {error}");
            assert!(error.message().contains("127.0.0.1:5672"), "{error}");
            assert!(error.message().contains(part), "{error}");
        }
    }

    #[test]
    fn no_error_advises_to_delete() {
        for code in 200..600 {
            for words in
                ["", "limit", "queue", "for queue", "inequivalent", "inequivalent arg for queue", "is down"]
            {
                let (_, why) = meaning(code, words);
                assert!(!why.contains("delete that") && !why.contains("delete it"), "{code} {words}: {why}");
            }
        }
    }

    #[test]
    fn neither_passwords_nor_the_servers_words_are_repeated() {
        for (code, words) in [(403, "Login s3cret"), (403, "s3cret"), (406, "s3cret"), (541, "s3cret")] {
            let error = answer(code, words);
            let shown = format!("{error} {error:?} {:?}", address());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn only_other_limits_make_a_usable_stream() {
        for (arg, other_limits) in [("x-max-age", true), ("x-queue-type", false), ("durable", false)] {
            let words =
                format!("PRECONDITION_FAILED - inequivalent arg '{arg}' for queue 'live' in vhost 'shop'");
            let answer = AMQPError::from_id(406, words.into()).expect("a reply code");
            assert_eq!(has_other_limits(&Kind::ProtocolError(answer).into()), other_limits, "{arg}");
        }
        assert!(!has_other_limits(&io::Error::from(io::ErrorKind::TimedOut).into()));
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
            let error = address().error(&io::Error::from(io).into());
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains("127.0.0.1:5672"), "{error}");
        }
    }
}
