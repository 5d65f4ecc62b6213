//! The code that the pages on posting, readers, requests and several types show.

use std::{error::Error, time::Duration};

use broker::{
    Broker, Channel, ChannelName, ErrorKind, Event, Message, Messages, Model, Received, Scope, Session,
    SetEvent, SubscribeOptions, TypedPost,
};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing_subscriber::layer::SubscriberExt;

use super::code::{Outcome, PixelAdded, Said};

#[tokio::test]
async fn posts_have_handles_headers_and_senders() -> Outcome {
    const PIXELS: Channel<PixelAdded> = Channel::new("pixel-added");
    let broker = broker::connect("memory:").await?;
    let (session, other) = (broker.session(), broker.session());
    let (mut own, mut others) = (session.create_stream(PIXELS).await?, other.create_stream(PIXELS).await?);

    let pixels = broker.channel(&PIXELS)?;
    pixels.post_message(PixelAdded { index: 17, colour: 3 }, Scope::Local).await?;
    assert_eq!(own.next().await.ok_or("closed")??.index, 17);

    let (mut under_way, mut again) = (Vec::new(), Vec::new());
    for index in 0..100 {
        under_way.push(pixels.send(PixelAdded { index, colour: 3 }, Scope::Global).await?);
    }
    for (index, post) in (0..).zip(under_way) {
        match post.await {
            Ok(_) => {}
            // Perhaps sent: again, if twice is better than never.
            Err(error) if error.kind() == ErrorKind::Interrupted => again.push(index),
            Err(error) => eprintln!("{index} was not sent: {error}"),
        }
    }
    assert_eq!(again, [0_u32; 0]);
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

#[test]
fn a_tracer_is_installed() -> Outcome {
    let exporter = InMemorySpanExporter::default();

    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;

    Ok(())
}
