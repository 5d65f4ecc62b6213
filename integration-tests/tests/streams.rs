//! Streams to clients over every backend: two servers, a broker and a client each, and faults of the backend.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, sync::Arc, time::Duration};

use broker::{Broker, Revocation, Scope};
use broker_conformance::{Entry, case::Need, harness::Harness, line::Line, required};
use broker_streams::{
    Args, Authenticated, Authenticator, Call, Credentials, Endpoint, Failure, Incoming, Model, Out, Streams,
    method,
};
use broker_streams_client::{Again, CallError, CallEvents, CallStream, Cause, Client, Event, OpenResult};
use futures_util::stream;
use integration_tests::harness::ENTRIES;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(180);

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Model)]
struct Said {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Room {
    room: String,
}

/// Relays a room, and posts to it what comes in.
async fn room(
    call: Call,
    Args(Room { room }): Args<Room>,
    mut outgoing: Incoming<Said>,
    out: Out<Said>,
) -> Result<(), Failure> {
    let session = call.session();
    let said = session.create_stream::<Said>(&room).await?;
    // From here on nothing is missed: an open call may still be subscribing.
    out.send(Said { text: "joined".to_owned() }).await?;
    let posting = async {
        while let Some(item) = outgoing.next().await {
            // A post that fails is the speaker's loss, and no end of the call.
            drop(session.post_message(&room, item?, Scope::Global).await);
        }
        Ok::<_, Failure>(())
    };
    tokio::try_join!(posting, out.relay(said))?;
    Ok(())
}

async fn listens(call: Call, Args(Room { room }): Args<Room>, out: Out<Said>) -> Result<(), Failure> {
    let said = call.session().create_stream::<Said>(&room).await?;
    out.send(Said { text: "joined".to_owned() }).await?;
    out.relay(said).await
}

/// Everybody is who the token says.
struct Names;

impl Authenticator for Names {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        Ok(Some(Authenticated::new(credentials.secret())))
    }
}

/// One server of the cluster, and its broker.
struct Server {
    broker: Broker,
    streams: Streams,
    url: String,
    task: JoinHandle<()>,
    _line: Arc<dyn Line>,
}

impl Server {
    async fn start(cluster: &dyn Harness) -> Self {
        // Over a line, which leads to the backend also after it was started again.
        let line = cluster.line().await.unwrap();
        let broker = broker::connect_with(&line.url(), cluster.options()).await.unwrap();
        let chat = Endpoint::new("chat").method("room", method(room).inputs(["outgoing"]));
        let private = Endpoint::new("private").requires_login().method("listens", listens);
        let streams = Streams::builder(broker.clone())
            .authenticator(Names)
            .endpoint(chat)
            .endpoint(private)
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/v1/websocket", listener.local_addr().unwrap());
        let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { broker, streams, url, task, _line: line }
    }

    async fn end(self) {
        self.streams.close().await;
        self.broker.close().await;
        self.task.abort();
    }
}

/// A client in a room: what it hears, and a way to speak.
struct Member {
    events: CallEvents<Said>,
    speak: mpsc::UnboundedSender<Said>,
    _client: Client,
}

impl Member {
    async fn join(server: &Server) -> Self {
        let client = Client::builder(&server.url).build().unwrap();
        let (speak, mut spoken) = mpsc::unbounded_channel();
        let outgoing = stream::poll_fn(move |cx| spoken.poll_recv(cx));
        let call = client.call("chat", "room").args(&Room { room: "kitchen".to_owned() }).unwrap();
        let events = soon("a call", call.input("outgoing", outgoing).open::<Said>()).await.unwrap().events();
        let mut member = Self { events, speak, _client: client };
        member.hears("joined").await;
        member
    }

    fn say(&self, text: &str) {
        self.speak.send(Said { text: text.to_owned() }).unwrap();
    }

    async fn hears(&mut self, text: &str) {
        let event = soon("a value", self.events.next()).await;
        assert_eq!(event.unwrap().unwrap(), Event::Value(Said { text: text.to_owned() }));
    }

    /// Waits for the gap that a lost backend leaves; values that were on their way may come before it.
    async fn sees_a_gap(&mut self) {
        loop {
            match soon("a gap", self.events.next()).await.unwrap().unwrap() {
                Event::Gap { .. } => return,
                Event::Value(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for a text, whatever comes before it.
    async fn hears_at_last(&mut self, text: &str) {
        loop {
            match soon("the text", self.events.next()).await.unwrap().unwrap() {
                Event::Value(said) if said.text == text => return,
                Event::Value(_) | Event::Gap { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The cluster of a backend, with a server that is its own; `None` where there is none and nobody insists on one.
async fn cluster(entry: &Entry) -> Option<Box<dyn Harness>> {
    if let Err(reason) = (entry.available)().await {
        assert!(!required(entry.name()), "{}: {reason}", entry.name());
        eprintln!("{} is left out: {reason}", entry.name());
        return None;
    }
    Some((entry.start)(&[Need::OwnServer]).await.unwrap())
}

async fn connected(broker: &Broker) {
    let mut changes = broker.health_changes();
    soon("the backend", async {
        while let Some(health) = changes.next().await {
            if health.is_connected() {
                return;
            }
        }
    })
    .await;
}

/// Clients of two servers talk; the backend is killed and comes back: each client is told, and they talk again.
async fn talk(cluster: &dyn Harness) {
    let (one, other) = (Server::start(cluster).await, Server::start(cluster).await);
    let (mut ada, mut bob) = (Member::join(&one).await, Member::join(&other).await);
    ada.say("hello");
    ada.hears("hello").await;
    bob.hears("hello").await;
    bob.say("hello yourself");
    ada.hears("hello yourself").await;
    bob.hears("hello yourself").await;
    cluster.kill_server().await.unwrap();
    cluster.start_server().await.unwrap();
    tokio::join!(ada.sees_a_gap(), bob.sees_a_gap());
    tokio::join!(connected(&one.broker), connected(&other.broker));
    ada.say("again");
    tokio::join!(ada.hears_at_last("again"), bob.hears_at_last("again"));
    one.end().await;
    other.end().await;
}

async fn listen(server: &Server, user: &'static str) -> (Client, Result<CallStream<Said>, CallError>) {
    let credentials = move || async move { Some(format!("Bearer {user}")) };
    let client = Client::builder(&server.url).credentials(credentials).build().unwrap();
    let call = client.call("private", "listens").args(&Room { room: "hall".to_owned() }).unwrap();
    let opened = soon("a call", call.open::<Said>()).await;
    (client, opened)
}

/// A user is signed out on one server: the call on the other ends, and says that to sign in helps; others go on.
async fn sign_out(cluster: &dyn Harness) {
    let (one, other) = (Server::start(cluster).await, Server::start(cluster).await);
    let (_ada, mut of_ada) = listen(&other, "ada").await;
    let (_bob, mut of_bob) = listen(&other, "bob").await;
    let (of_ada, of_bob) = (of_ada.as_mut().unwrap(), of_bob.as_mut().unwrap());
    for call in [&mut *of_ada, of_bob] {
        assert_eq!(soon("a value", call.next()).await.unwrap().unwrap().text, "joined");
    }
    soon("the revocation", one.broker.revoke(Revocation::user("ada"))).await.unwrap();
    match soon("the end", of_ada.next()).await {
        Some(Err(CallError::Closed { why: Some(Cause::Revoked), again: Again::SignIn })) => {}
        end => panic!("{end:?}"),
    }
    one.broker.post_message("hall", Said { text: "to bob".to_owned() }, Scope::Global).await.unwrap();
    assert_eq!(soon("a value", of_bob.next()).await.unwrap().unwrap().text, "to bob");
    // Whoever signs in now is let in.
    let (_again, opened) = listen(&other, "ada").await;
    assert!(!matches!(opened, Err(CallError::Refused(OpenResult::AuthenticationFailed))), "{opened:?}");
    one.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_two_servers_talk_over_every_backend_and_see_its_loss() {
    for entry in ENTRIES {
        if let Some(cluster) = cluster(entry).await {
            talk(&*cluster).await;
            println!("{}: talked, lost, talked again", entry.name());
            drop(cluster);
            (entry.end)();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_on_one_server_ends_calls_of_another_over_every_backend() {
    for entry in ENTRIES {
        if let Some(cluster) = cluster(entry).await {
            sign_out(&*cluster).await;
            println!("{}: signed out", entry.name());
            drop(cluster);
            (entry.end)();
        }
    }
}
