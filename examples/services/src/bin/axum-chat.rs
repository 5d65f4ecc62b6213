//! A chat service: rooms over WebSockets and server-sent events, posts, sign-in and sign-out on every server, traces that
//! pass through, probes, and a shutdown in order.
//!
//! ```sh
//! token=$(curl -s -d ada http://127.0.0.1:8080/sign-in)
//! curl -N http://127.0.0.1:8080/rooms/tea/events &
//! curl -H "authorization: Bearer $token" -H "content-type: application/json" \
//!     -d '{"text":"hello"}' http://127.0.0.1:8080/rooms/tea
//! ```

use std::{
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Path, Request, WebSocketUpgrade},
    http::{HeaderMap, StatusCode},
    middleware::map_request,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use broker::{
    AuthenticatedAt, Broker, Channel, Identity, Model, Receipt, Revocation, Scope, Session, TypedPost,
};
use broker_axum::{HttpError, RequestSession, UserSession, WebSocketForward, probes, sse};
use serde::{Deserialize, Serialize};

/// What everybody in a room receives.
#[derive(Debug, PartialEq, Serialize, Deserialize, Model)]
struct Said {
    by: String,
    text: String,
}

/// What a client sends.
#[derive(Deserialize)]
struct Say {
    text: String,
}

fn channel(room: &str) -> Channel<Said> {
    Channel::of(["room", room])
}

fn app(broker: Broker) -> Router {
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/rooms/{room}", post(say))
        .route("/rooms/{room}/events", get(events))
        .route("/rooms/{room}/socket", any(socket))
        .layer(map_request(authenticate))
        .merge(probes())
        .with_state(broker)
}

/// Gives out a token: who, and since when. Elsewhere a password is asked for, and the token is signed.
async fn sign_in(name: String) -> Result<String, StatusCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    if name.is_empty() { Err(StatusCode::BAD_REQUEST) } else { Ok(format!("{name}@{now}")) }
}

/// Puts the identity of the token into the request.
async fn authenticate(mut request: Request) -> Request {
    let header = request.headers().get("authorization").and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")?.rsplit_once('@'));
    if let Some((name, Ok(micros))) = token.map(|(name, at)| (name, at.parse())) {
        let issued = AuthenticatedAt::issued_here(UNIX_EPOCH + Duration::from_micros(micros));
        let identity = Identity::new(name, issued);
        request.extensions_mut().insert(identity);
    }
    request
}

/// Ends every session of the user, on every server.
async fn sign_out(user: UserSession) -> Result<(), HttpError> {
    user.revoke_authentication(Revocation::user(user.name())).await?;
    Ok(())
}

async fn say(
    user: UserSession,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(say): Json<Say>,
) -> Result<StatusCode, HttpError> {
    post_to(&user.into_session(), &room, say, &headers).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Anybody may listen.
async fn events(session: RequestSession, Path(room): Path<String>) -> Result<impl IntoResponse, HttpError> {
    let said = session.create_stream(channel(&room)).await?;
    Ok(sse(said.owning(session.0)))
}

async fn socket(
    user: UserSession,
    Path(room): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, HttpError> {
    let session = user.into_session();
    let said = session.create_stream(channel(&room)).await?;
    Ok(WebSocketForward::new(upgrade, said).on_message(move |say| {
        let (session, room, headers) = (session.clone(), room.clone(), headers.clone());
        async move { post_to(&session, &room, say, &headers).await }
    }))
}

/// Posts what a user says, with the trace of the request.
async fn post_to(session: &Session, room: &str, say: Say, headers: &HeaderMap) -> broker::Result<Receipt> {
    let by = session.identity().map_or("", Identity::user).to_owned();
    let mut said = TypedPost::new(Said { by, text: say.text });
    if let Some(trace) = headers.get("traceparent").and_then(|trace| trace.to_str().ok()) {
        said = said.with_header("traceparent", trace);
    }
    session.post_message(channel(room), said, Scope::Global).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    services::run(app).await
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use services::{Running, within_a_minute};
    use tokio::net::TcpStream;
    use tokio_tungstenite::{
        MaybeTlsStream, WebSocketStream, connect_async,
        tungstenite::{Message, client::IntoClientRequest},
    };

    use super::*;

    async fn post(chat: &Running, path: &str, token: &str, body: &'static str) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("http://{}{path}", chat.address));
        let request = request.header("content-type", "application/json").header("traceparent", "00-7");
        request.bearer_auth(token).body(body).send().await.unwrap()
    }

    async fn sign_in(chat: &Running) -> String {
        post(chat, "/sign-in", "", "ada").await.text().await.unwrap()
    }

    async fn socket(chat: &Running, token: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let mut request = format!("ws://{}/rooms/tea/socket", chat.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request.headers_mut().insert("traceparent", "00-8".parse().unwrap());
        connect_async(request).await.unwrap().0
    }

    #[tokio::test]
    async fn what_is_said_reaches_the_room_with_its_trace() {
        within_a_minute(async {
            let chat = Running::start(app).await.unwrap();
            let mut room = chat.broker.create_stream(channel("tea")).await.unwrap();
            let ada = sign_in(&chat).await;
            let mut socket = socket(&chat, &ada).await;
            assert_eq!(post(&chat, "/rooms/tea", "nobody", r#"{"text":"x"}"#).await.status(), 401);
            assert_eq!(post(&chat, "/rooms/tea", &ada, r#"{"text":"posted"}"#).await.status(), 202);
            socket.send(Message::text(r#"{"text":"sent"}"#)).await.unwrap();
            for (text, trace) in [("posted", "00-7"), ("sent", "00-8")] {
                let said = room.next().await.unwrap().unwrap();
                assert_eq!(*said, Said { by: "ada".to_owned(), text: text.to_owned() });
                assert_eq!(said.header("traceparent"), Some(trace));
                assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains(text));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_sign_out_ends_what_is_open_and_the_token() {
        within_a_minute(async {
            let chat = Running::start(app).await.unwrap();
            let ada = sign_in(&chat).await;
            let mut socket = socket(&chat, &ada).await;
            assert_eq!(post(&chat, "/sign-out", &ada, "").await.status(), 200);
            let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else { panic!("open") };
            assert_eq!(u16::from(frame.code), 4001);
            assert_eq!(post(&chat, "/rooms/tea", &ada, r#"{"text":"x"}"#).await.status(), 401);
            let anew = sign_in(&chat).await;
            assert_eq!(post(&chat, "/rooms/tea", &anew, r#"{"text":"x"}"#).await.status(), 202);
        })
        .await;
    }

    #[tokio::test]
    async fn a_shutdown_yields_the_rest() {
        within_a_minute(async {
            let chat = Running::start(app).await.unwrap();
            let get = async |path| reqwest::get(format!("http://{}{path}", chat.address)).await.unwrap();
            assert_eq!(get("/readyz").await.status(), 200);
            let (events, ada) = (get("/rooms/tea/events").await, sign_in(&chat).await);
            let mut socket = socket(&chat, &ada).await;
            post(&chat, "/rooms/tea", &ada, r#"{"text":"last"}"#).await;
            let stopped = chat.stop();
            let events = events.text().await.unwrap();
            assert!(events.contains(r#"data: {"by":"ada","text":"last"}"#), "{events}");
            assert!(events.ends_with("data: {\"reason\":\"going-away\"}\n\n"), "{events}");
            while !socket.next().await.unwrap().unwrap().is_close() {}
            drop(socket);
            stopped.await.unwrap().unwrap();
        })
        .await;
    }
}
