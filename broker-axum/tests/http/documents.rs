//! The code that `docs/http.md` shows. A test of `broker` finds each block here.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{FromRef, Path, Request, State, WebSocketUpgrade},
    http::HeaderMap,
    middleware::map_request,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use broker::{Broker, Channel, ChannelHandle, Identity, Model, Receipt, Revocation, Scope, SetEvent};
use broker_axum::{
    HttpError, LastEventId, RequestSession, UserSession, WebSocketForward, probes, serve, shutdown_signal,
    sse,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt;

use crate::server::{Said, Server, said, within};

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
    let began = Instant::now(); // std::time::Instant, before the token is looked at
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

async fn rooms(user: UserSession, upgrade: WebSocketUpgrade) -> Result<Response, HttpError> {
    let mut rooms = user.channel_set();
    rooms.join_all(["tea", "coffee"].map(channel)).await?;
    Ok(upgrade.on_upgrade(move |mut socket| async move {
        loop {
            let frame = tokio::select! {
                item = rooms.next() => match item {
                    Some((channel, SetEvent::Message(message))) => match message.decode::<Said>() {
                        Ok(said) => json!({ "channel": channel.as_str(), "text": said.text }),
                        Err(_) => continue, // another type
                    },
                    Some((channel, SetEvent::Gap(_))) => json!({ "channel": channel.as_str(), "gap": true }),
                    Some(_) => continue,
                    None => break, // `rooms.close_reason()` says why
                },
                received = socket.recv() => match received {
                    Some(Ok(_)) => continue, // or `rooms.join(…)`, or a post
                    _ => break,
                },
            };
            let sent = timeout(Duration::from_secs(10), socket.send(frame.to_string().into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
        drop(user); // the set ends with its session
    }))
}

async fn sign_out(user: UserSession, State(broker): State<Broker>) -> Result<(), HttpError> {
    broker.revoke(Revocation::user(user.name())).await?;
    Ok(())
}

#[tokio::test]
async fn the_set_of_rooms_that_is_shown_ends_at_the_sign_out() {
    let broker = broker::connect("memory:").await.unwrap();
    let app = Router::new().route("/rooms", any(rooms)).route("/sign-out", any(sign_out)).layer(map_request(
        |mut request: Request| async {
            request.extensions_mut().insert(Identity::new("ada", Instant::now()));
            request
        },
    ));
    let server = Server::start(&broker, app).await;
    let mut socket = server.socket("/rooms").await;
    socket.send(Message::text("anything")).await.unwrap();
    for (room, text) in [("tea", "hello"), ("coffee", "hi")] {
        broker.post_message(channel(room), said(text), Scope::Global).await.unwrap();
        let frame = within("a frame", socket.next()).await.unwrap().unwrap();
        let frame = frame.into_text().unwrap();
        assert!(frame.contains(room) && frame.contains(text), "{frame}");
    }
    assert_eq!(server.get("/sign-out").await.status(), 200);
    // Dropped, without a goodbye.
    within("the end", async { while let Some(Ok(_)) = socket.next().await {} }).await;
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
