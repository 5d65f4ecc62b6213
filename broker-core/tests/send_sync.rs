//! Every public type can be sent and shared, and so can the futures of every verb.

use std::time::{Duration, Instant};

use broker_core::{
    AuthenticatedAt, Backend, Broker, BrokerUrl, ChannelName, ChannelSet, CloseReason, EnumStream, Error,
    Event, Gap, Headers, Health, HookId, Identity, ListenerId, Malformed, Message, MessageStream, Messages,
    Model, Options, Post, Received, ReplyStream, RequestError, RequestOptions, Revocation, RevocationOutcome,
    Revoked, Scope, Session, SetEvent, StreamError, StreamItem, SubscribeOptions, Subscription,
    driver::{ErrorContext, Inbox, LogCursor, LogPage, LogSpec, ServerAddr, TlsFiles, UrlFile},
};

#[derive(serde::Serialize, serde::Deserialize)]
struct Pixel;

impl Model for Pixel {
    const NAME: &'static str = "Pixel";
}

enum Pixels {}

impl Messages for Pixels {
    const NAMES: &'static [&'static str] = &[];

    fn from_message(message: Message) -> Result<Self, StreamError> {
        Err(StreamError::WrongType { expected: "Pixels", message })
    }
}

fn both<T: Send + Sync>() {}
fn sent<T: Send>(value: T) {
    drop(value);
}

#[test]
fn types() {
    both::<(
        Backend,
        Broker,
        BrokerUrl,
        ChannelName,
        ChannelSet,
        CloseReason,
        Error,
        Event,
        Gap,
        Headers,
        Health,
    )>();
    both::<(Inbox, StreamItem<Pixel>, ListenerId, Malformed, Message, Options, Post, Received<Pixel>, Scope)>(
    );
    both::<(Session, StreamError, Subscription, MessageStream<Pixel>)>();
    both::<(AuthenticatedAt, HookId, Identity, Revocation, RevocationOutcome, Revoked)>();
    both::<(LogCursor, LogPage, LogSpec)>();
    both::<(ChannelSet, SetEvent, SubscribeOptions)>();
    both::<(EnumStream<Pixels>, ReplyStream<Pixel>, RequestError, RequestOptions)>();
    both::<(ErrorContext, ServerAddr, TlsFiles, UrlFile)>();
}

#[test]
fn futures() {
    let broker = Broker::local();
    let session = broker.session();
    sent(broker.publish("c", "x", Scope::Auto));
    sent(broker.subscribe("c"));
    sent(broker.ready());
    sent(broker.drain());
    sent(broker.close());
    sent(session.post_message("c", Pixel, Scope::Auto));
    sent(session.post("c", "x", Scope::Auto));
    sent(session.create_stream::<Pixel>("c"));
    sent(session.subscribe("c"));
    sent(session.subscribe_with("c", SubscribeOptions::new()));
    sent(broker.create_stream_with::<Pixel>("c", SubscribeOptions::new()));
    let mut set = session.channel_set();
    sent(set.join("c"));
    sent(set.join_all(["c", "d"]));
    sent(set.next());
    sent(session.create_stream_of::<Pixels>("c"));
    sent(broker.create_stream_of::<Pixels>("c"));
    sent(session.add_listener("c", |_: Received<Pixel>| async {}));
    sent(session.add_listener("c", async |_: StreamItem<Pixel>| {}));
    sent(session.revoke_authentication(Revocation::user("ada")));
    sent(broker.revoke(Revocation::user("ada")));
    sent(broker.session_for(Identity::new("ada", Instant::now())));
    sent(session.closed());
    let limit = RequestOptions::new(Duration::from_secs(1));
    sent(session.request::<_, Pixel>("c", Pixel, limit));
    sent(broker.request_many::<_, Pixel>("c", Pixel, limit));
    sent(session.reply_to("c", |_: Received<Pixel>| Pixel));
    sent(broker.reply_to("c", async |_: Received<Pixel>| Ok::<_, Error>(Pixel)));
}
