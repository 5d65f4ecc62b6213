//! The code that README.md and docs/ show, so that it compiles and, where it needs no server, runs.

use std::{
    error::Error,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use broker::{
    Broker, Channel, ChannelName, CloseReason, Event, Identity, Message, Messages, Model, Options, Received,
    Revocation, Revoked, Scope, Session, SetEvent, StreamError, StreamItem, SubscribeOptions, TypedPost,
};
use tokio::sync::mpsc;

type Outcome = Result<(), Box<dyn Error>>;

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
struct PixelAdded {
    index: u32,
    colour: u8,
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
    from: u32,
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
    let (session, socket, me) = (broker.session(), Browser(sender), 1);

    session
        .add_listener("room.kitchen", move |item: StreamItem<ChatLine>| {
            let socket = socket.clone();
            async move {
                match item {
                    Ok(line) if line.from == me => {} // its own
                    Ok(line) => socket.send(&line.text).await,
                    Err(StreamError::Gap(_)) => socket.send("reload the history").await,
                    Err(other) => eprintln!("{other}"),
                }
            }
        })
        .await?;

    for (from, text) in [(1, "mine"), (2, "tea?")] {
        session.post_message("room.kitchen", ChatLine { from, text: text.into() }, Scope::Global).await?;
    }
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
struct Said {
    text: String,
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

#[tokio::test]
async fn posts_have_handles_headers_and_senders() -> Outcome {
    const PIXELS: Channel<PixelAdded> = Channel::new("pixel-added");
    let broker = broker::connect("memory:").await?;
    let (session, other) = (broker.session(), broker.session());
    let (mut own, mut others) = (session.create_stream(PIXELS).await?, other.create_stream(PIXELS).await?);

    let pixels = broker.channel(&PIXELS)?;
    pixels.post_message(PixelAdded { index: 17, colour: 3 }, Scope::Local).await?;
    assert_eq!(own.next().await.ok_or("closed")??.index, 17);

    let mut under_way = Vec::new();
    for index in 0..100 {
        under_way.push(pixels.send(PixelAdded { index, colour: 3 }, Scope::Global).await?);
    }
    for post in under_way {
        post.await?;
    }
    for index in 0..100 {
        assert_eq!(own.next().await.ok_or("closed")??.index, index);
    }

    let moved = TypedPost::new(PixelAdded { index: 17, colour: 4 }).excluding_me();
    session.post_message(PIXELS, moved, Scope::Global).await?;

    let pixel = TypedPost::new(PixelAdded { index: 17, colour: 3 }).with_header("request", "4bf92f35");
    session.post_message(PIXELS, pixel, Scope::Global).await?;

    let received = own.next().await.ok_or("closed")??;
    assert_eq!(received.header("request"), Some("4bf92f35"));
    let colours = async {
        let mut colours = Vec::new();
        for _ in 0..103 {
            colours.push(others.next().await.ok_or("closed")??.colour);
        }
        Ok::<_, Box<dyn Error>>(colours)
    };
    assert_eq!(colours.await?[101..], [4, 3]);
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Price {
    cents: u64,
}

#[tokio::test]
async fn readers_have_options_of_their_own() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let session = broker.session();

    let options = SubscribeOptions::new().capacity(16).timeout(Duration::from_secs(1));
    let mut news = session.subscribe_with("news", options).await?;

    let latest = SubscribeOptions::new().latest_only();
    let mut prices = session.create_stream_with::<Price>("prices", latest).await?;

    session.post("news", "hello", Scope::Global).await?;
    session.post_message("prices", Price { cents: 7 }, Scope::Global).await?;
    assert!(matches!(news.next().await, Some(Event::Message(_))));
    assert_eq!(prices.next().await.ok_or("ended")??.cents, 7);
    Ok(())
}

/// A client that is connected.
#[derive(Default)]
struct Client(Vec<String>);

impl Client {
    fn send(&mut self, channel: &ChannelName, payload: impl AsRef<[u8]>) {
        self.0.push(format!("{channel}: {}", String::from_utf8_lossy(payload.as_ref())));
    }

    fn read_anew(&mut self, channel: &ChannelName) {
        self.0.push(format!("{channel}: anew"));
    }

    fn forget(&mut self, channel: &ChannelName) {
        self.0.push(format!("{channel}: gone"));
    }
}

async fn follow(session: &Session, mut client: Client) -> Result<Client, Box<dyn Error>> {
    let mut rooms = session.channel_set();
    rooms.join_all(["room.1", "room.2"]).await?;
    while let Some((channel, event)) = rooms.next().await {
        match event {
            SetEvent::Message(message) => client.send(&channel, message.payload()?),
            SetEvent::Gap(_) => client.read_anew(&channel),
            SetEvent::Refused(_) => client.forget(&channel), // it has left the set
            _ => {}
        }
    }
    Ok(client)
}

#[tokio::test]
async fn one_stream_reads_many_channels() -> Outcome {
    let broker = Broker::local();
    let session = broker.session();
    let posting = async {
        broker.publish("room.2", "hello", Scope::Local).await?;
        broker.drain().await;
        Ok::<(), broker::Error>(())
    };
    let (client, posted) = tokio::join!(follow(&session, Client::default()), posting);
    posted?;
    assert_eq!(client?.0, ["room.2: hello"]);
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Quote {
    of: String,
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Cents(u64);

const QUOTES: Channel<Quote> = Channel::new("quotes");

#[tokio::test]
async fn a_request_is_answered() -> Outcome {
    let broker = broker::connect("memory:").await?;
    let session = broker.session();

    session
        .reply_to(QUOTES, async |quote: Received<Quote>| match quote.of.as_str() {
            "tea" => Ok(Cents(250)),
            other => Err(format!("there is no {other}")),
        })
        .await?;

    let limit = Duration::from_secs(2);
    let cents: Received<Cents> = session.request(QUOTES, Quote { of: "tea".to_owned() }, limit).await?;

    assert_eq!(cents.0, 250);
    Ok(())
}

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct WhoIsThere;

#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Here {
    name: String,
}

#[tokio::test]
async fn replies_are_gathered() -> Outcome {
    let broker = broker::connect("memory:").await?;
    broker.reply_to("roll-call", |_: Received<WhoIsThere>| Here { name: "Ada".to_owned() }).await?;

    let limit = Duration::from_millis(200);
    let mut replies = broker.request_many::<_, Here>("roll-call", WhoIsThere, limit).await?;
    while let Some(reply) = replies.next().await {
        match reply {
            Ok(here) => println!("{} is there", here.name),
            Err(error) => eprintln!("{error}"), // a refusal, or a reply that may be lost; the stream goes on
        }
    }

    Ok(())
}

#[derive(Clone, serde::Serialize, serde::Deserialize, Model)]
struct Left {
    name: String,
}

#[tokio::test]
async fn a_channel_carries_several_types() -> Outcome {
    #[derive(Messages)]
    enum Chat {
        Said(Received<Said>),
        Left(Left),
        #[messages(other)]
        Other(Message),
    }

    let broker = broker::connect("memory:").await?;
    let session = broker.session();
    let leaving = session.clone();
    session
        .add_listener("room", move |chat: Chat| match chat {
            Chat::Said(_) => leaving.close(),
            Chat::Left(_) | Chat::Other(_) => {}
        })
        .await?;

    let mut room = session.create_stream_of::<Chat>("room").await?;
    session.post_message("room", Said { text: "hello".to_owned() }, Scope::Global).await?;
    while let Some(item) = room.next().await {
        match item {
            Ok(Chat::Said(said)) => println!("{}", said.text),
            Ok(Chat::Left(Left { name })) => println!("{name} has left"),
            Ok(Chat::Other(message)) => println!("unknown: {:?}", message.type_name()),
            Err(error) => println!("{error}"), // a gap, or a value that does not decode
        }
    }

    Ok(())
}
