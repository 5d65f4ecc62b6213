//! LastEventId: where a client that connects again had come to.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};

/// The header `Last-Event-ID` of a request, which an `EventSource` sends when it connects again: the id of the last message
/// that it received, as [`MessageId`](broker_core::MessageId) is displayed. `None` on the first connection, and where it is
/// not text.
///
/// The broker keeps no messages, and an id says nothing about time: an application that stores its messages under their
/// ids sends what came after this one, before the stream: by [`after`](crate::SseResponse::after). One that does not sends its
/// present state.
///
/// Anybody can send any header: look it up, and do not rely on it.
///
/// ```
/// use broker_axum::LastEventId;
///
/// async fn room(LastEventId(last): LastEventId) -> String {
///     match last {
///         Some(id) => format!("what came after {id}"),
///         None => "the whole room".to_owned(),
///     }
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(room));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastEventId(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let name = HeaderName::from_static("last-event-id");
        // In UTF-8, which is more than `to_str` takes.
        let text = parts.headers.get(name).and_then(|id| std::str::from_utf8(id.as_bytes()).ok());
        Ok(Self(text.filter(|id| !id.is_empty()).map(str::to_owned)))
    }
}
