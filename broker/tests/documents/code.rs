//! The code that README.md and docs/ show, so that it compiles and, where it needs no server, runs.

use std::{
    error::Error,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use broker::{
    Broker, Channel, CloseReason, Event, Identity, Model, Options, Revocation, Revoked, Scope, StreamError,
    StreamItem,
};
use tokio::sync::mpsc;

pub(super) type Outcome = Result<(), Box<dyn Error>>;

#[derive(Default)]
struct Board(Mutex<Vec<(u32, u8)>>);

impl Board {
    fn draw(&self, index: u32, colour: u8) {
        self.0.lock().expect("no panic").push((index, colour));
    }

    #[expect(clippy::unused_async, reason = "reading a board is I/O")]
    async fn read_anew(&self) {
        self.0.lock().expect("no panic").clear();
    }
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
pub(super) struct PixelAdded {
    pub(super) index: u32,
    pub(super) colour: u8,
}

#[tokio::test]
async fn a_listener_handles_gaps() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let (session, board) = (broker.session(), Arc::new(Board::default()));
    let drawn = Arc::clone(&board);

    session
        .add_listener("pixel-added", move |item: StreamItem<PixelAdded>| {
            let board = Arc::clone(&board);
            async move {
                match item {
                    Ok(pixel) => board.draw(pixel.index, pixel.colour),
                    Err(StreamError::Gap(_)) => board.read_anew().await,
                    Err(other) => eprintln!("{other}"), // another type, or not readable
                }
            }
        })
        .await?;

    session.post_message("pixel-added", PixelAdded { index: 17, colour: 3 }, Scope::Global).await?;
    broker.drain().await;
    assert_eq!(*drawn.0.lock().expect("no panic"), [(17, 3)]);
    Ok(())
}

struct Claims {
    user: String,
    key: String,
}

fn check(token: &str) -> Result<Claims, Box<dyn Error>> {
    let (user, key) = token.split_once('/').ok_or("no token")?;
    Ok(Claims { user: user.to_owned(), key: key.to_owned() })
}

struct Socket(tokio::sync::oneshot::Sender<CloseReason>);

impl Socket {
    #[expect(clippy::unused_async, reason = "writing to a socket is I/O")]
    async fn say_goodbye(self, why: CloseReason) {
        self.0.send(why).expect("somebody reads");
    }
}

#[tokio::test]
async fn a_user_is_signed_in_and_signed_out_everywhere() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let (goodbye, said) = tokio::sync::oneshot::channel();
    let (token, socket) = ("ada/key-7", Socket(goodbye));

    let began = Instant::now(); // before the token is looked at
    let claims = check(token)?;
    let identity = Identity::new(claims.user, began).with_auth_id(claims.key).with_scopes(["board"]);
    let session = broker.session_for(identity).await?; // an error of kind `Revoked` if it was revoked meanwhile
    session.on_close(async move |why| socket.say_goodbye(why).await)?; // a revocation has closed the session by then

    // On any server: first in your own records, then here.
    session.revoke_authentication(Revocation::user("ada")).await?;

    assert!(matches!(said.await?, CloseReason::AuthenticationRevoked(Revoked::User)));
    assert!(matches!(session.closed().await, CloseReason::AuthenticationRevoked(Revoked::User)));
    Ok(())
}

#[expect(dead_code, reason = "needs a server of its own; it is enough that it compiles")]
async fn a_server_starts_while_its_backend_is_away() -> Outcome {
    let broker = broker::open("redis://127.0.0.1/", Options::default())?;
    tokio::time::timeout(Duration::from_secs(30), broker.ready()).await??;
    broker.close().await;
    Ok(())
}

#[tokio::test]
async fn a_configuration_file_is_connected_to() -> Outcome {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/broker.toml"))?;
    let config: broker::Config = toml::from_str(&text)?;
    let broker = config.connect().await?;
    broker.close().await;
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct ChatLine {
    text: String,
}

#[derive(Clone)]
struct Browser(mpsc::UnboundedSender<String>);

impl Browser {
    #[expect(clippy::unused_async, reason = "writing to a socket is I/O")]
    async fn send(&self, text: &str) {
        self.0.send(text.to_owned()).expect("somebody reads");
    }
}

#[tokio::test]
async fn a_room_is_forwarded_to_a_socket() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let (sender, mut sent) = mpsc::unbounded_channel();
    let (session, socket) = (broker.session(), Browser(sender));

    session
        .add_listener("room.kitchen", move |item: StreamItem<ChatLine>| {
            let socket = socket.clone();
            async move {
                match item {
                    Ok(line) => socket.send(&line.text).await,
                    Err(StreamError::Gap(_)) => socket.send("reload the history").await,
                    Err(other) => eprintln!("{other}"),
                }
            }
        })
        .await?;

    session.post_message("room.kitchen", ChatLine { text: "tea?".into() }, Scope::Global).await?;
    broker.drain().await;
    assert_eq!(sent.recv().await.as_deref(), Some("tea?"));
    assert_eq!(sent.recv().await, None);
    Ok(())
}

async fn bytes_in_and_out(broker: &Broker) -> Result<Vec<u8>, broker::Error> {
    let mut news = broker.subscribe("news").await?;
    broker.publish("news", "hello", Scope::Global).await?;
    while let Some(event) = news.next().await {
        match event {
            Event::Message(message) => return Ok(message.payload()?.to_vec()),
            Event::Gap(gap) => eprintln!("read the state again: {gap}"),
            other => eprintln!("not a message of this library: {other:?}"),
        }
    }
    Ok(Vec::new())
}

#[tokio::test]
async fn bytes_come_back_as_they_were() -> Outcome {
    let broker = broker::connect("memory:").await?;
    assert_eq!(bytes_in_and_out(&broker).await?, b"hello");
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
pub(super) struct Said {
    pub(super) text: String,
}

#[tokio::test]
async fn channels_have_types() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let room_id = "Ada's";

    const PIXELS: Channel<PixelAdded> = Channel::new("pixel-added");
    let room: Channel<Said> = Channel::of(["room", room_id]);

    let mut said = broker.create_stream(&room).await?;
    broker.post_message(PIXELS, PixelAdded { index: 17, colour: 3 }, Scope::Global).await?;
    broker.post_message(room, Said { text: "hello".to_owned() }, Scope::Global).await?;
    assert_eq!(said.next().await.ok_or("closed")??.text, "hello");
    Ok(())
}
