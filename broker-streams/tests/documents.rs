//! The code that `docs/streams.md` shows. A test of `broker` finds each block here.

#![allow(clippy::unwrap_used, dead_code, reason = "a test, of code of which some is only shown")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::serve::ListenerExt;
use broker::{Broker, Revocation, Scope, StreamError};
use broker_streams::{
    Args, Authenticated, Authenticator, Call, Choice, Credentials, Endpoint, Failure, Fault, Incoming,
    Limits, Model, Out, State, Streams, method,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, Model)]
struct Update {
    pixel: usize,
    colour: u8,
}

#[derive(Clone, Serialize, Deserialize, Model)]
struct Image {
    pixels: Vec<u8>,
}

#[derive(Choice)]
enum Picture {
    Whole(Image),
    Pixel(Update),
}

#[derive(Debug, Serialize, Deserialize, Fault)]
struct NoSuchPixel {
    pixel: usize,
}

impl std::fmt::Display for NoSuchPixel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no pixel {}", self.pixel)
    }
}

impl Error for NoSuchPixel {}

#[derive(Clone, Default)]
struct Board(Arc<Mutex<Vec<u8>>>);

impl Board {
    fn set(&self, pixel: usize, colour: u8) -> Option<()> {
        *self.0.lock().unwrap().get_mut(pixel)? = colour;
        Some(())
    }

    fn image(&self) -> Picture {
        Picture::Whole(Image { pixels: self.0.lock().unwrap().clone() })
    }
}

async fn set_pixel(
    call: Call,
    Args(update): Args<Update>,
    State(board): State<Board>,
) -> Result<(), Failure> {
    board.set(update.pixel, update.colour).ok_or(NoSuchPixel { pixel: update.pixel })?; // the client sees it
    call.session().post_message("pixels", update, Scope::Auto).await?; // an error of this is logged, never sent
    Ok(())
}

async fn image_updates(call: Call, State(board): State<Board>, out: Out<Picture>) -> Result<(), Failure> {
    let mut updates = call.session().create_stream::<Update>("pixels").await?; // subscribe first,
    out.send(board.image()).await?; // then the picture: no update falls between
    while let Some(item) = updates.next().await {
        match item {
            Ok(update) => out.send(Picture::Pixel(update.into_inner())).await?, // waits for a slow client
            Err(StreamError::Gap(_)) => out.send(board.image()).await?,
            Err(other) => tracing::warn!(%other, "not an update"),
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Room {
    room: String,
}

#[derive(Clone, Serialize, Deserialize, Model)]
struct Say {
    text: String,
}

#[derive(Clone, Serialize, Deserialize, Model)]
struct Said {
    who: String,
    text: String,
}

async fn room(
    call: Call,
    Args(Room { room }): Args<Room>,
    mut outgoing: Incoming<Say>,
    out: Out<Said>,
) -> Result<(), Failure> {
    let (session, channel) = (call.session(), format!("room.{room}"));
    let who = call.who().map_or("somebody", |identity| identity.user());
    let said = session.create_stream::<Said>(&channel).await?;
    let posting = async {
        while let Some(say) = outgoing.next().await {
            let said = Said { who: who.to_owned(), text: say?.text };
            session.post_message(&channel, said, Scope::Auto).await?;
        }
        Ok::<_, Failure>(())
    };
    let listening = out.relay(said);
    tokio::try_join!(posting, listening)?;
    Ok(())
}

struct Tokens;

impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        Ok(claims(credentials.secret()).map(|claims| {
            let known = Authenticated::new(claims.user).with_auth_id(claims.key).with_scopes(claims.scopes);
            known.issued(claims.issued) // a token from before a revocation stays revoked
        }))
    }
}

struct Claims {
    user: String,
    key: String,
    scopes: Vec<String>,
    issued: SystemTime,
}

fn claims(token: &str) -> Option<Claims> {
    let user = token.strip_prefix("token-of-")?.to_owned();
    Some(Claims { user, key: "key-7".to_owned(), scopes: vec!["chat".to_owned()], issued: SystemTime::now() })
}

fn build(broker: Broker) -> Result<Streams, Box<dyn Error>> {
    let streams = Streams::builder(broker)
        .authenticator(Tokens)
        .state(Board::default())
        .endpoint(Endpoint::new("board").method("setPixel", set_pixel).method("imageUpdates", image_updates))
        .endpoint(
            Endpoint::new("chat")
                .requires_scopes(["chat"])
                .method("room", method(room).inputs(["outgoing"]).resumable()),
        )
        .build()?; // what would be wrong at every call is an error here
    Ok(streams)
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let broker = broker::from_env().await?;
    let streams = build(broker.clone())?;
    let app = axum::Router::new().route_service("/v1/websocket", streams.service());
    let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
    // Else a small value can wait for 40 ms behind the one before it. By axum's `ListenerExt`.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    let stopped = async move {
        tokio::signal::ctrl_c().await.ok();
        streams.drain(Duration::from_secs(8)).await; // calls come to an end, sockets are closed
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    broker.drain().await;
    Ok(())
}

async fn sign_out(broker: &Broker, user: &str) -> Result<(), broker::Error> {
    broker.revoke(Revocation::user(user)).await?; // on whatever server the calls are
    Ok(())
}

fn limited(broker: Broker) -> Result<Streams, Box<dyn Error>> {
    let mut limits = Limits::default();
    limits.calls_per_socket = 64;
    let streams =
        Streams::builder(broker).limits(limits).allow_origins(["https://app.example.org"]).build()?;
    Ok(streams)
}

#[tokio::test]
async fn what_is_shown_can_be_built() {
    let broker = broker::connect("memory:").await.unwrap();
    let streams = build(broker.clone()).unwrap();
    limited(broker.clone()).unwrap();
    sign_out(&broker, "ada").await.unwrap();
    streams.close().await;
}

#[tokio::test]
async fn the_room_that_is_shown_carries_what_is_said() {
    let broker = broker::connect("memory:").await.unwrap();
    let server = support::Server::serve(build(broker).unwrap(), "127.0.0.1:0").await;
    let (mut ada, mut bob) = (server.connect().await, server.connect().await);
    for (raw, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
        let mut open = support::open(1, "chat", "room", &serde_json::json!({"room": "a"}), &["outgoing"]);
        open["data"]["auth"] = format!("Bearer token-of-{name}").into();
        raw.json(&open).await;
        assert_eq!(raw.frames(1).await, ["success"]);
    }
    let mut say = support::value(1, "room", "outgoing", "Say", &serde_json::json!({"text": "hello"}));
    say["data"]["en"] = "chat".into();
    ada.json(&say).await;
    for raw in [&mut ada, &mut bob] {
        assert_eq!(raw.frames(1).await, [r#"Said {"text":"hello","who":"ada"}"#]);
    }
}
