//! The code that `docs/http.md` shows. A test of `broker` finds each block here.

use std::{error::Error, time::Instant};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{FromRef, Path, Request, State, WebSocketUpgrade},
    http::HeaderMap,
    middleware::map_request,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use broker::{Broker, Channel, ChannelHandle, Identity, Model, Receipt, Scope};
use broker_axum::{
    HttpError, LastEventId, RequestSession, UserSession, WebSocketForward, probes, serve, shutdown_signal,
    sse,
};
use futures_util::SinkExt;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt;

use crate::server::{Said, Server, within};

fn channel(room: &str) -> Channel<Said> {
    Channel::of(["room", room])
}

struct Claims {
    user: String,
    key: String,
}

fn check(headers: &HeaderMap) -> Option<Claims> {
    headers.contains_key("upgrade").then(|| Claims { user: "ada".to_owned(), key: "key-7".to_owned() })
}

#[expect(dead_code, reason = "it would wait for a signal; it is enough that it compiles")]
async fn a_service() -> Result<(), Box<dyn Error>> {
    let broker = broker::from_env().await?;
    let app = Router::new()
        .route("/rooms/{room}/events", get(events))
        .route("/rooms/{room}/socket", any(socket))
        .layer(map_request(authenticate))
        .merge(probes())
        .with_state(broker.clone());
    let listener = TcpListener::bind("0.0.0.0:8080").await?;
    serve(listener, app, broker).with_graceful_shutdown(shutdown_signal()).await?;
    Ok(())
}

async fn authenticate(mut request: Request) -> Request {
    let began = Instant::now(); // before the token is looked at
    if let Some(claims) = check(request.headers()) {
        let identity = Identity::new(claims.user, began).with_auth_id(claims.key);
        request.extensions_mut().insert(identity);
    }
    request
}

async fn events(session: RequestSession, Path(room): Path<String>) -> Result<impl IntoResponse, HttpError> {
    let said = session.create_stream(channel(&room)).await?;
    Ok(sse(said.owning(session.0)))
}

async fn socket(
    user: UserSession,
    Path(room): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, HttpError> {
    let session = user.into_session();
    let room = session.channel(channel(&room))?;
    let said = session.create_stream(&room).await?.owning(session);
    Ok(WebSocketForward::new(upgrade, said).on_message_with(room, post))
}

async fn post(room: ChannelHandle<Said>, said: Said) -> Result<Receipt, broker::Error> {
    room.post_message(said, Scope::Global).await
}

#[derive(Clone, serde::Serialize, serde::Deserialize, Model)]
struct News {
    number: u64,
}

const NEWS: Channel<News> = Channel::new("news");

#[derive(Clone)]
struct Store(Broker);

impl FromRef<Store> for Broker {
    fn from_ref(store: &Store) -> Self {
        store.0.clone()
    }
}

impl Store {
    /// As if three were kept, of which two are posted only now.
    async fn after(&self, last: Option<String>) -> Vec<News> {
        for number in [2, 3, 4] {
            self.0.post_message(NEWS, News { number }, Scope::Global).await.unwrap();
        }
        let last = last.map_or(0, |last| last.parse().unwrap());
        (last + 1..=3).map(|number| News { number }).collect()
    }
}

async fn news(
    session: RequestSession,
    LastEventId(last): LastEventId,
    State(store): State<Store>,
) -> Result<impl IntoResponse, HttpError> {
    let live = session.create_stream(NEWS).await?.owning(session.0); // before the store is read
    let stored = store.after(last).await;
    Ok(sse(live).ids(|news| news.number.to_string()).after(stored).end_at_gap())
}

#[tokio::test]
async fn the_news_that_are_shown_come_once() {
    let broker = broker::connect("memory:").await.unwrap();
    let app = Router::new().route("/news", get(news)).with_state(Store(broker.clone()));
    let request = Request::get("/news").header("last-event-id", "1").body(Body::empty()).unwrap();
    let body = app.oneshot(request).await.unwrap().into_body();
    let reading = tokio::spawn(to_bytes(body, 1 << 20));
    broker.drain().await;
    let body = within("the body", reading).await.unwrap().unwrap();
    let body = std::str::from_utf8(&body).unwrap();
    let ids: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["2", "3", "4"], "{body}");
}

#[tokio::test]
async fn the_handlers_that_are_shown_work() {
    let broker = broker::connect("memory:").await.unwrap();
    let app = Router::new()
        .route("/rooms/{room}/events", get(events))
        .route("/rooms/{room}/socket", any(socket))
        .layer(map_request(authenticate));
    let server = Server::start(&broker, app).await;
    let mut events = server.events("/rooms/tea/events").await;
    let mut socket = server.socket("/rooms/tea/socket").await;
    socket.send(Message::text("{\"text\":\"hello\"}")).await.unwrap();
    assert_eq!(events.text().await, "hello");
}
