//! What clients are sent of an item and of an end: JSON, and words that reveal nothing about the backend.

use broker_core::{CloseReason, Gap, GapCause, Model, Received, StreamError, StreamItem};
use serde_json::json;

/// What becomes of an item of a stream.
pub(crate) enum Shown {
    /// A message: its id, if it has one, and its value as JSON.
    Message { id: Option<String>, json: String },
    /// Something else, as JSON.
    Notice { event: &'static str, json: String },
}

impl Shown {
    pub(crate) fn of<T: Model>(item: &StreamItem<T>) -> Self {
        match item {
            Ok(received) => Self::message(received),
            Err(StreamError::Gap(gap)) => Self::Notice { event: "gap", json: gap_json(gap) },
            Err(StreamError::WrongType { .. }) => Self::unreadable("wrong-type"),
            Err(_) => Self::unreadable("malformed"),
        }
    }

    fn message<T: Model>(received: &Received<T>) -> Self {
        // What a reader of the type ignores need not be UTF-8.
        let json = received.json().ok().and_then(|json| String::from_utf8(json.into()).ok());
        match json {
            Some(json) => Self::Message { id: Some(received.id().to_string()), json },
            None => Self::unreadable("malformed"),
        }
    }

    /// A value that no message has carried here.
    pub(crate) fn value<T: Model>(value: &T) -> Self {
        match serde_json::to_string(value) {
            Ok(json) => Self::Message { id: None, json },
            Err(_) => Self::unreadable("malformed"),
        }
    }

    /// What it is not says nothing about the sender.
    fn unreadable(error: &str) -> Self {
        Self::Notice { event: "unreadable", json: json!({ "error": error }).to_string() }
    }
}

fn gap_json(gap: &Gap) -> String {
    // By hand, for a fixed order of the fields.
    let missed = gap.missed.map_or_else(|| "null".to_owned(), |missed| missed.to_string());
    format!(r#"{{"missed":{missed},"cause":"{}"}}"#, gap.cause.as_str())
}

/// Whether a client has to read anew what it may have missed, and can: a stream that begins would begin with the same
/// gap again.
pub(crate) fn is_loss(cause: GapCause) -> bool {
    !matches!(cause, GapCause::Conflated | GapCause::Subscribed)
}

/// Why a stream ended, in one word for a program.
pub(crate) fn end_reason(reason: Option<&CloseReason>) -> Option<&'static str> {
    Some(match reason? {
        CloseReason::SessionClosed | CloseReason::Removed => "closed",
        CloseReason::BrokerClosed => "going-away",
        CloseReason::AuthenticationRevoked(_) => "revoked",
        CloseReason::AuthenticationUncertain(_) => "sign-in-again",
        _ => "failed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_without_internals() {
        let refused = broker_core::Error::new(broker_core::ErrorKind::Forbidden, "user shop at 10.0.0.7");
        for (reason, word) in [
            (CloseReason::SessionClosed, "closed"),
            (CloseReason::BrokerClosed, "going-away"),
            (CloseReason::AuthenticationRevoked(broker_core::Revoked::User), "revoked"),
            (CloseReason::AuthenticationUncertain(broker_core::Uncertainty::Unlogged), "sign-in-again"),
            (CloseReason::Refused(refused), "failed"),
        ] {
            assert_eq!(end_reason(Some(&reason)), Some(word));
        }
        assert_eq!(end_reason(None), None);
    }

    fn file(path: &str) -> String {
        let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The source says which there are: a match here needs a wildcard.
    #[test]
    fn every_cause_has_a_word_and_is_in_the_documents() {
        let causes = [
            (GapCause::Overflow, "overflow"),
            (GapCause::LinkLost, "link-lost"),
            (GapCause::Dropped, "dropped"),
            (GapCause::Skipped, "skipped"),
            (GapCause::Conflated, "conflated"),
            (GapCause::Subscribed, "subscribed"),
        ];
        let source = file("broker-core/src/event.rs");
        let (_, body) = source.split_once("pub enum GapCause {\n").unwrap();
        let (body, _) = body.split_once("\n}").unwrap();
        let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
        let variants: Vec<_> =
            lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).collect();
        assert_eq!(variants, causes.map(|(cause, _)| format!("{cause:?},")));
        for (variant, word) in causes {
            assert_eq!(variant.as_str(), word, "{variant:?}");
            for page in ["docs/http.md", "broker-axum/src/sse.rs", "broker-axum/src/ws.rs"] {
                assert!(file(page).contains(&format!("`{word}`")), "{word} is not in {page}");
            }
        }
    }
}
