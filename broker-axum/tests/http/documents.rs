//! The code that `docs/http.md` shows. A test of `broker` finds each block here.

use std::{error::Error, time::Instant};

use axum::{
    Router,
    extract::{Path, Request, WebSocketUpgrade},
    http::HeaderMap,
    middleware::map_request,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use broker::{Channel, ChannelHandle, Identity, Receipt, Scope};
use broker_axum::{
    HttpError, RequestSession, UserSession, WebSocketForward, probes, serve, shutdown_signal, sse,
};
use futures_util::SinkExt;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::server::{Said, Server};

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
