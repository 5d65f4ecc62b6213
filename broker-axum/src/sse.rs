//! SSE: a typed stream as server-sent events.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    http::HeaderName,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use broker_core::{Model, StreamItem};
use futures_core::Stream;
use serde_json::json;

use crate::{
    ItemStream,
    items::{Shown, end_reason},
};

/// The pause after which a comment is sent, so that proxies do not close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends a typed stream to the client as server-sent events, until it ends or the client leaves.
///
/// | item | event | `data` |
/// |---|---|---|
/// | a message | none, so that `EventSource.onmessage` receives it; or the [type's name](SseResponse::named) | its value as JSON; `id` is that of the message |
/// | a gap | `gap` | `{"missed":3,"cause":"overflow"}`; `missed` is `null` where the number is not known; for the cause see below |
/// | what is no message of this type | `unreadable` | `{"error":"wrong-type"}` or `{"error":"malformed"}` |
/// | the end | `end` | `{"reason":"going-away"}`: this server shuts down, connect again; `revoked` or `sign-in-again`: the user has to; `closed`: the application has closed the session; `failed`; or `null`, where it is not known |
///
/// The cause of a gap is one of these:
///
/// | cause | what it means to the client |
/// |---|---|
/// | `overflow`, `link-lost`, `dropped`, `skipped` | messages are missing, or may be: it reads the present state anew |
/// | `conflated` | the stream is of [the newest only](broker_core::SubscribeOptions::latest_only): nothing is to be read anew, for the next message is the newest |
/// | `subscribed` | the stream [did not wait](broker_core::SubscribeOptions::without_waiting) and begins here: it reads the present state |
/// | `unknown` | one that this version has no word for: as the first |
///
/// An `EventSource` connects again after any end. So the page closes it at an `end` whose reason is `revoked`. The name is
/// not `error`, because an `EventSource` has an event of its own that is called so.
///
/// A client that does not read holds up nobody else: it misses messages, and receives a gap with their number. How long
/// the connection may be kept so is bounded by [`serve`](crate::serve).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::response::IntoResponse;
/// use broker::{Model, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Said { text: String }
///
/// let broker = broker::connect("memory:").await?;
/// let response = broker_axum::sse(broker.create_stream::<Said>("room").await?).into_response();
/// broker.post_message("room", Said { text: "hello".to_owned() }, Scope::Global).await?;
/// let shutdown = tokio::spawn(async move { broker.drain().await });
///
/// let body = axum::body::to_bytes(response.into_body(), 1024).await?;
/// let body = std::str::from_utf8(&body)?;
/// assert!(body.contains("data: {\"text\":\"hello\"}\n"));
/// assert!(body.ends_with("event: end\ndata: {\"reason\":\"going-away\"}\n\n"));
/// # shutdown.await?;
/// # Ok(()) }
/// ```
pub fn sse<S: ItemStream>(stream: S) -> SseResponse<S> {
    SseResponse { events: SseEvents { source: Some(stream), named: false, id: None }, keep_alive: KEEP_ALIVE }
}

/// The response that [`sse`] makes.
#[must_use = "a handler returns it"]
pub struct SseResponse<S: ItemStream> {
    events: SseEvents<S>,
    keep_alive: Duration,
}

impl<S: ItemStream> SseResponse<S> {
    /// Names the event of each message after its type, as [`Model::NAME`]: for a page that listens with
    /// `addEventListener`. A type whose name is that of another event here (`gap`, `unreadable`, `end`), or has a line
    /// break, is sent without a name.
    pub fn named(mut self) -> Self {
        self.events.named = true;
        self
    }

    /// Makes the `id` of each message from its value: where the application keeps the messages, the number under which it
    /// finds them. The client sends it back as the [`LastEventId`](crate::LastEventId). An id with a line break or a NUL is
    /// left out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::Model;
    /// use broker_axum::sse;
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, Model)]
    /// struct News { number: u64, text: String }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let news = broker.create_stream::<News>("news").await?;
    /// let response = sse(news).ids(|news| news.number.to_string());
    /// # Ok(()) }
    /// ```
    pub fn ids(mut self, id: impl FnMut(&S::Model) -> String + Send + 'static) -> Self {
        self.events.id = Some(Box::new(id));
        self
    }

    /// Sends a comment after a pause of this length; 15 s without this call.
    pub fn keep_alive(mut self, pause: Duration) -> Self {
        self.keep_alive = pause;
        self
    }

    /// The events alone, for an [`Sse`] with other settings.
    pub fn into_events(self) -> SseEvents<S> {
        self.events
    }
}

impl<S: ItemStream> IntoResponse for SseResponse<S> {
    fn into_response(self) -> Response {
        // A reverse proxy that collects the body would hold back events.
        let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
        let sse = Sse::new(self.events).keep_alive(KeepAlive::new().interval(self.keep_alive));
        (unbuffered, sse).into_response()
    }
}

/// The events of a stream, and one for its end. Made by [`SseResponse::into_events`].
pub struct SseEvents<S: ItemStream> {
    /// `None` once its end was yielded.
    source: Option<S>,
    named: bool,
    id: Option<MakeId<S::Model>>,
}

type MakeId<T> = Box<dyn FnMut(&T) -> String + Send>;

impl<S: ItemStream> SseEvents<S> {
    fn event(&mut self, item: &StreamItem<S::Model>) -> Event {
        match Shown::of(item) {
            Shown::Message { id, json } => {
                let id = match (&mut self.id, item) {
                    (Some(make), Ok(received)) => make(received),
                    _ => id,
                };
                let event = Event::default();
                let event = if id.contains(['\r', '\n', '\0']) { event } else { event.id(id) }.data(json);
                let name = S::Model::NAME;
                let taken = ["gap", "unreadable", "end"].contains(&name) || name.contains(['\r', '\n']);
                if self.named && !taken { event.event(name) } else { event }
            }
            Shown::Notice { event, json } => Event::default().event(event).data(json),
        }
    }
}

impl<S: ItemStream> Stream for SseEvents<S> {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        let event = match ready!(Pin::new(&mut *source).poll_next(cx)) {
            Some(item) => self.event(&item),
            None => {
                let reason = json!({ "reason": end_reason(source.close_reason()) });
                self.source = None;
                Event::default().event("end").data(reason.to_string())
            }
        };
        Poll::Ready(Some(Ok(event)))
    }
}

impl<S: ItemStream> fmt::Debug for SseResponse<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseResponse")
            .field("events", &self.events)
            .field("keep_alive", &self.keep_alive)
            .finish()
    }
}

impl<S: ItemStream> fmt::Debug for SseEvents<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseEvents").field("ended", &self.source.is_none()).finish_non_exhaustive()
    }
}
