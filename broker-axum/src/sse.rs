//! SSE: a typed stream as server-sent events.

mod stored;

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
use broker_core::{Model, StreamError, StreamItem};
use futures_core::Stream;
use serde_json::json;

use crate::{
    ItemStream,
    items::{Shown, end_reason, is_loss},
};
use stored::Stored;

/// The pause after which a comment is sent, so that proxies do not close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends a typed stream to the client as server-sent events, until it ends or the client leaves.
///
/// | item | event | `data` |
/// |---|---|---|
/// | a message | none, so that `EventSource.onmessage` receives it; or the [type's name](SseResponse::named) | its value as JSON; `id` is that of the message |
/// | a gap | `gap` | `{"missed":3,"cause":"overflow"}`; `missed` is `null` where the number is not known; for the cause see below |
/// | what is no message of this type | `unreadable` | `{"error":"wrong-type"}` or `{"error":"malformed"}` |
/// | the end | `end` | `{"reason":"going-away"}`: this server shuts down, connect again; `revoked` or `sign-in-again`: the user has to; `closed`: the application has closed the session; `failed`; `gap`: see [`end_at_gap`](SseResponse::end_at_gap); or `null`, where it is not known |
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
/// A client that does not read holds up no other: it misses messages, and receives a gap with their number. How long
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
    let events = SseEvents { source: Some(stream), stored: None, named: false, id: None, end_at_gap: false };
    SseResponse { events, keep_alive: KEEP_ALIVE }
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

    /// Sends what the application has stored before what the stream yields: as messages, in this order. For a client that
    /// connects again with a [`LastEventId`](crate::LastEventId).
    ///
    /// Open the stream first, and read the store afterwards: then nothing falls between the two, and what is in both is sent
    /// once, for a message of the stream is passed over if its id is that of a stored one. That needs [`ids`](Self::ids):
    /// without it what is stored has no id, and nothing is passed over. The ids of `stored` are kept until the response ends.
    ///
    /// Keep and post messages in one order. A message that was kept before the first of `stored`, and is posted only now, is
    /// sent, so a client may rarely receive one that it had from the store already.
    ///
    /// What is stored is sent to its end also if the stream ends meanwhile; the `end` follows it. A second call replaces the first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum::response::IntoResponse;
    /// use broker::{Model, Scope};
    /// use broker_axum::sse;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize, Model)]
    /// struct News { number: u64 }
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let news = broker.create_stream::<News>("news").await?;
    /// for number in [2, 3] {
    ///     broker.post_message("news", News { number }, Scope::Global).await?;
    /// }
    /// let stored = [News { number: 1 }, News { number: 2 }]; // read after the stream was opened
    /// let response = sse(news).ids(|news| news.number.to_string()).after(stored).into_response();
    /// # let shutdown = tokio::spawn(async move { broker.drain().await });
    /// let body = axum::body::to_bytes(response.into_body(), 1024).await?;
    /// let body = std::str::from_utf8(&body)?;
    /// let ids: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    /// assert_eq!(ids, ["1", "2", "3"]);
    /// # shutdown.await?;
    /// # Ok(()) }
    /// ```
    pub fn after<I>(mut self, stored: I) -> Self
    where
        I: IntoIterator<Item = S::Model, IntoIter: Send + 'static>,
    {
        self.events.stored = Some(Stored::new(stored.into_iter()));
        self
    }

    /// Ends the response at a gap, with the reason `gap`, in place of the event `gap`: an `EventSource` connects again, and
    /// receives what it missed from the store, by [`after`](Self::after). Not at a gap of the causes `conflated` and
    /// `subscribed`, which are events as without this call.
    pub fn end_at_gap(mut self) -> Self {
        self.events.end_at_gap = true;
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
    stored: Option<Stored<S::Model>>,
    named: bool,
    id: Option<MakeId<S::Model>>,
    end_at_gap: bool,
}

type MakeId<T> = Box<dyn FnMut(&T) -> String + Send>;

impl<S: ItemStream> SseEvents<S> {
    /// The event of the next stored value.
    fn next_stored(&mut self) -> Option<Event> {
        let (value, id) = self.stored.as_mut()?.next(self.id.as_mut())?;
        Some(self.shown(Shown::value(&value), id))
    }

    /// The event of an item, unless it was sent already.
    fn event(&mut self, item: &StreamItem<S::Model>) -> Option<Event> {
        let own = match (&mut self.id, item) {
            (Some(make), Ok(received)) => Some(make(received)),
            _ => None,
        };
        if let (Some(own), Some(stored)) = (&own, &self.stored)
            && stored.has_sent(own)
        {
            return None;
        }
        Some(self.shown(Shown::of(item), own))
    }

    /// With an id of the application in place of the message's.
    fn shown(&self, shown: Shown, own: Option<String>) -> Event {
        let (id, json) = match shown {
            Shown::Message { id, json } => (own.or(id), json),
            Shown::Notice { event, json } => return Event::default().event(event).data(json),
        };
        let event = match id {
            Some(id) if !id.contains(['\r', '\n', '\0']) => Event::default().id(id),
            _ => Event::default(),
        };
        let event = event.data(json);
        let name = S::Model::NAME;
        let taken = ["gap", "unreadable", "end"].contains(&name) || name.contains(['\r', '\n']);
        if self.named && !taken { event.event(name) } else { event }
    }

    fn end(&mut self, reason: Option<&str>) -> Event {
        self.source = None;
        Event::default().event("end").data(json!({ "reason": reason }).to_string())
    }
}

impl<S: ItemStream> Stream for SseEvents<S> {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(event) = self.next_stored() {
            return Poll::Ready(Some(Ok(event)));
        }
        let end_at_gap = self.end_at_gap;
        loop {
            let Some(source) = &mut self.source else { return Poll::Ready(None) };
            let event = match ready!(Pin::new(&mut *source).poll_next(cx)) {
                Some(Err(StreamError::Gap(gap))) if end_at_gap && is_loss(gap.cause) => self.end(Some("gap")),
                Some(item) => match self.event(&item) {
                    Some(event) => event,
                    None => continue,
                },
                None => {
                    let reason = end_reason(source.close_reason());
                    self.end(reason)
                }
            };
            return Poll::Ready(Some(Ok(event)));
        }
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
