//! A server with streaming endpoints of every kind, and what they have noted.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use broker::Session;
use broker_streams::{
    Any, Authenticated, Authenticator, Credentials, Endpoint, Failure, Peer, Scheme, StreamingEndpoint,
    Streams, StreamsBuilder,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::support::{Raw, Server, soon};

/// What has happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<(Mutex<Vec<String>>, Notify)>);

impl Notes {
    pub(crate) fn add(&self, note: impl Into<String>) {
        self.0.0.lock().unwrap().push(note.into());
        self.0.1.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, note: &str) -> usize {
        self.all().iter().filter(|noted| *noted == note).count()
    }

    pub(crate) async fn wait(&self, note: &str) {
        soon(note, async {
            loop {
                let mut added = std::pin::pin!(self.0.1.notified());
                added.as_mut().enable();
                if self.count(note) > 0 {
                    return;
                }
                added.await;
            }
        })
        .await;
    }
}

/// Sends back what it receives. Some values make it do something else.
pub(crate) struct Echo {
    pub(crate) notes: Notes,
    pub(crate) open: watch::Receiver<bool>,
    /// What outlives its connection.
    pub(crate) kept: Arc<Mutex<Vec<(Peer, Session)>>>,
}

pub(crate) struct User {
    notes: Notes,
    name: String,
    messages: i64,
}

impl Drop for User {
    fn drop(&mut self) {
        self.notes.add(format!("{} dropped", self.name));
    }
}

impl StreamingEndpoint for Echo {
    type User = User;

    async fn stream_opened(&self, peer: &Peer) -> Result<User, Failure> {
        let (notes, name) = (self.notes.clone(), peer.endpoint().to_owned());
        notes.add(format!("{name} opened"));
        let closing = notes.clone();
        let ended = format!("{name} session over");
        peer.session().on_close(async move |_| closing.add(ended))?;
        Ok(User { notes, name, messages: 0 })
    }

    async fn handle_stream_message(&self, peer: &Peer, user: &mut User, message: Any) -> Result<(), Failure> {
        user.messages += 1;
        if !message.is::<String>() {
            return Ok(peer.send_stream_message(&message.read::<i64>()?).await?);
        }
        match message.read::<String>()?.as_str() {
            "who" => {
                let session = peer.session();
                let who = session.identity().map(|identity| identity.user().to_owned());
                peer.send_stream_message(&who).await?;
            }
            "count" => peer.send_stream_message(&user.messages).await?,
            "fail" => return Err(Failure::internal("it failed")),
            "panic" => panic!("it panicked"),
            how @ ("wait" | "wait in silence") => {
                self.notes.add("waiting");
                let _ = self.open.clone().wait_for(|open| *open).await;
                if how == "wait" {
                    peer.send_stream_message(&"waited".to_owned()).await?;
                }
            }
            "keep" => self.kept.lock().unwrap().push((peer.clone(), peer.session())),
            "flood" => loop {
                peer.send_stream_message(&"x".repeat(10_000)).await?;
                self.notes.add("sent");
            },
            note => self.notes.add(note),
        }
        Ok(())
    }

    async fn stream_closed(&self, peer: &Peer, user: User) {
        let sent = peer.send_stream_message(&user.messages).await;
        self.notes.add(format!("{} closed, sends: {}", user.name, sent.is_ok()));
    }
}

/// Cannot be opened.
struct Broken(Notes);

impl StreamingEndpoint for Broken {
    type User = ();

    async fn stream_opened(&self, _: &Peer) -> Result<(), Failure> {
        Err(Failure::internal("it cannot be opened"))
    }

    async fn handle_stream_message(&self, _: &Peer, (): &mut (), _: Any) -> Result<(), Failure> {
        self.0.add("broken handled");
        Ok(())
    }
}

/// Has nothing but what it must have.
struct Silent;

impl StreamingEndpoint for Silent {
    type User = ();

    async fn stream_opened(&self, _: &Peer) -> Result<(), Failure> {
        Ok(())
    }
}

/// Keys are `user` or `user:scope`; nobody else is known than ada, grace, and mayfly, who lives for a moment.
struct Keys(Notes);

impl Authenticator for Keys {
    async fn authenticate(&self, shown: Credentials) -> Result<Option<Authenticated>, Failure> {
        self.0.add(format!("asked at {}", shown.uri()));
        assert_eq!(shown.scheme(), Scheme::Raw);
        let (name, scope) = shown.secret().split_once(':').unwrap_or((shown.secret(), ""));
        if !["ada", "grace", "mayfly"].contains(&name) {
            return Ok(None);
        }
        let known = Authenticated::new(name).with_auth_id(shown.secret()).with_scopes([scope]);
        let soon = SystemTime::now() + Duration::from_millis(50);
        Ok(Some(if name == "mayfly" { known.until(soon) } else { known }))
    }
}

/// A server, its notes, and what lets `wait` go on.
pub(crate) struct Test {
    pub(crate) server: Server,
    pub(crate) broker: broker::Broker,
    pub(crate) notes: Notes,
    pub(crate) open: watch::Sender<bool>,
}

impl Test {
    pub(crate) async fn start() -> Self {
        Self::with(|streams, notes| streams.authenticator(Keys(notes))).await
    }

    pub(crate) async fn with(more: impl FnOnce(StreamsBuilder, Notes) -> StreamsBuilder) -> Self {
        let (notes, (open, opening)) = (Notes::default(), watch::channel(false));
        let kept = Arc::default();
        let echo = || Echo { notes: notes.clone(), open: opening.clone(), kept: Arc::clone(&kept) };
        let failures = notes.clone();
        let broker = broker::connect("memory:").await.unwrap();
        let streams = Streams::builder(broker.clone())
            .endpoint(Endpoint::new("broken").streaming(Broken(notes.clone())))
            .endpoint(Endpoint::new("test").streaming(echo()))
            .endpoint(Endpoint::new("silent").streaming(Silent))
            .endpoint(Endpoint::new("methods"))
            .endpoint(Endpoint::new("login").requires_login().streaming(echo()))
            .endpoint(Endpoint::new("admin").requires_scopes(["admin"]).streaming(echo()))
            .endpoint(Endpoint::new("module.test").streaming(echo()))
            .on_stream_failure(move |peer, failure| {
                failures.add(format!("{}: {failure}", peer.endpoint()));
            });
        let streams = more(streams, notes.clone()).build().unwrap();
        let server = Server::serve(streams, "127.0.0.1:0").await;
        Self { server, broker, notes, open }
    }

    pub(crate) fn url(&self, key: &str) -> String {
        let query = if key.is_empty() { String::new() } else { format!("?auth={key}") };
        self.server.url.replace("/v1/websocket", &format!("/websocket{query}"))
    }

    pub(crate) async fn connect(&self, key: &str) -> Raw {
        connect(&self.url(key)).await
    }
}

/// A connection, whose frames are others than those of calls.
pub(crate) async fn connect(url: &str) -> Raw {
    let mut raw = Raw::connect(url).await;
    raw.1 = true;
    raw
}

/// A message.
pub(crate) fn message(endpoint: &str, value: &Value) -> Value {
    let class_name = if value.is_string() { "String" } else { "int" };
    json!({"endpoint": endpoint, "object": {"className": class_name, "data": value}})
}

/// Sends a value to an endpoint.
pub(crate) async fn say(raw: &mut Raw, endpoint: &str, value: impl Into<Value>) {
    raw.json(&message(endpoint, &value.into())).await;
}

/// What was received: the endpoint and the value.
pub(crate) async fn hear(raw: &mut Raw) -> (String, Value) {
    let heard = raw.next().await;
    let endpoint = heard["endpoint"].as_str().unwrap().to_owned();
    (endpoint, heard["object"]["data"].clone())
}

/// Sends a value, and receives what comes back.
pub(crate) async fn echoed(raw: &mut Raw, endpoint: &str, value: impl Into<Value>) {
    let value = value.into();
    say(raw, endpoint, value.clone()).await;
    assert_eq!(hear(raw).await, (endpoint.to_owned(), value));
}

/// What is sent to an endpoint is ignored: what is sent behind it is answered first.
pub(crate) async fn ignored(raw: &mut Raw, endpoint: &str) {
    say(raw, endpoint, 1).await;
    echoed(raw, "test", 2).await;
}

/// Who the client is to an endpoint.
pub(crate) async fn who(raw: &mut Raw) -> Option<String> {
    say(raw, "test", "who").await;
    hear(raw).await.1.as_str().map(str::to_owned)
}

/// Signs in, or out, on the live connection.
pub(crate) async fn sign_in(raw: &mut Raw, key: Option<&str>) {
    raw.json(&json!({"command": "auth", "args": {"key": key}})).await;
}
