//! Outcome: what the one who asked makes of a reply, and of the end.

use super::{RequestError, error::refusal};
use crate::{Broker, CloseReason, Message, Model, Received};

/// How much of a refusal is looked at: each of its characters may be four bytes.
const MAX_READ: usize = RequestError::MAX_REFUSAL * 4;

/// Why no reply comes any more.
pub(super) fn ended(broker: &Broker, operation: &'static str, reason: CloseReason) -> RequestError {
    let error = match reason {
        CloseReason::Refused(error) => error,
        _ => broker.closed_error(),
    };
    error.with_operation(operation).into()
}

/// A reply as a value.
pub(super) fn readable<T: Model>(reply: Message) -> Result<Received<T>, RequestError> {
    if reply.exchange().is_refused() {
        let text = reply.payload()?;
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_READ)]);
        return Err(RequestError::Refused(refusal(&text, RequestError::MAX_REFUSAL)));
    }
    reply.into_decoded().map_err(RequestError::Unreadable)
}
