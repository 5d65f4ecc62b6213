//! The client of legacy streaming endpoints against the real server, by the ids of the behaviours.
#![cfg(feature = "endpoints")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use broker_streams::{
    Any, Authenticated, Authenticator, Endpoint, Failure, Model, Peer, StreamingEndpoint, Streams,
    StreamsBuilder,
};
use broker_streams_client::{CallError, EndpointStream, Endpoints, EndpointsBuilder, StreamingStatus};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, yield_now},
    time::timeout,
};

/// A limit against hangs.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("it hangs")
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Model)]
struct Simple {
    num: i64,
}

/// What has happened, in order.
type Notes = watch::Sender<Vec<String>>;

fn note(notes: &Notes, note: String) {
    notes.send_modify(|notes| notes.push(note));
}

/// Sends back what it gets, and says who sends.
struct Echo(Notes);

impl StreamingEndpoint for Echo {
    type User = ();

    async fn stream_opened(&self, peer: &Peer) -> Result<(), Failure> {
        note(&self.0, format!("{} opened", peer.endpoint()));
        Ok(())
    }

    async fn handle_stream_message(&self, peer: &Peer, (): &mut (), message: Any) -> Result<(), Failure> {
        if message.is::<String>() {
            let who = peer.session().identity().map(|identity| identity.user().to_owned());
            return Ok(peer.send_stream_message(&who).await?);
        }
        Ok(peer.send_stream_message(&message.read::<Simple>()?).await?)
    }

    async fn stream_closed(&self, peer: &Peer, (): ()) {
        note(&self.0, format!("{} closed", peer.endpoint()));
    }
}

/// Keys are `ada`, or `ada:` and a scope.
struct Keys;

impl Authenticator for Keys {
    async fn authenticate(
        &self,
        shown: broker_streams::Credentials,
    ) -> Result<Option<Authenticated>, Failure> {
        let (name, scope) = shown.secret().split_once(':').unwrap_or((shown.secret(), ""));
        Ok((name == "ada").then(|| Authenticated::new(name).with_scopes([scope])))
    }
}

/// A server on loopback, which ends with it.
struct Server {
    broker: broker::Broker,
    streams: Streams,
    notes: Notes,
    address: String,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::with("127.0.0.1:0", |streams| streams.authenticator(Keys)).await
    }

    async fn with(address: &str, more: impl FnOnce(StreamsBuilder) -> StreamsBuilder) -> Self {
        let notes = Notes::default();
        let echo = || Echo(notes.clone());
        let broker = broker::connect("memory:").await.unwrap();
        let streams = Streams::builder(broker.clone())
            .endpoint(Endpoint::new("test").streaming(echo()))
            .endpoint(Endpoint::new("login").requires_login().streaming(echo()))
            .endpoint(Endpoint::new("admin").requires_scopes(["admin"]).streaming(echo()))
            .endpoint(Endpoint::new("module.test").streaming(echo()));
        let streams = more(streams).build().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = axum::Router::<()>::new().route_service("/websocket", streams.endpoints_service());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { broker, streams, notes, address, task }
    }

    fn client(&self) -> EndpointsBuilder {
        Endpoints::builder(&format!("ws://{}/websocket", self.address))
    }

    /// A client that is connected, with that key.
    async fn connected(&self, key: &'static str) -> Endpoints {
        let client = self.client().credentials(move || async move { Some(key.to_owned()) }).build().unwrap();
        within(client.open_streaming_connection()).await.unwrap();
        client
    }

    /// Waits until something has happened so many times.
    async fn noted(&self, what: &str, times: usize) {
        let mut notes = self.notes.subscribe();
        let count = |notes: &Vec<String>| notes.iter().filter(|note| *note == what).count() == times;
        within(notes.wait_for(count)).await.unwrap();
    }

    /// Stops serving, and leaves the port to another.
    async fn stop(mut self) -> String {
        within(self.streams.drain(Duration::from_millis(200))).await;
        assert_eq!(self.streams.sockets(), 0);
        self.task.abort();
        let _ = within(&mut self.task).await;
        self.address.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn next<T: broker_streams::Value>(stream: &mut EndpointStream) -> T {
    within(stream.next()).await.unwrap().read().unwrap()
}

/// Sends numbers to an endpoint, which come back in order.
async fn echoed(client: &Endpoints, endpoint: &str) {
    let mut stream = client.stream(endpoint);
    for num in 1..=3 {
        within(client.send_stream_message(endpoint, &Simple { num })).await.unwrap();
    }
    for num in 1..=3 {
        assert_eq!(next::<Simple>(&mut stream).await, Simple { num });
    }
}

/// What is sent to an endpoint is ignored: what is sent behind it is answered, and nothing has come.
async fn ignored(client: &Endpoints, endpoint: &str) {
    let mut stream = client.stream(endpoint);
    within(client.send_stream_message(endpoint, &Simple { num: 1 })).await.unwrap();
    echoed(client, "test").await;
    let next = futures_util::FutureExt::now_or_never(stream.next());
    assert!(next.is_none(), "{endpoint}: {next:?}");
}

async fn who(client: &Endpoints) -> Option<String> {
    let mut stream = client.stream("test");
    within(client.send_stream_message("test", &"who".to_owned())).await.unwrap();
    next(&mut stream).await
}

#[tokio::test]
async fn lg_1_lg_3_lg_14_lg_15_messages_come_back_in_order_from_endpoints_that_were_opened() {
    let server = Server::start().await;
    let client = server.connected("").await;
    for endpoint in ["test", "module.test"] {
        server.noted(&format!("{endpoint} opened"), 1).await;
        echoed(&client, endpoint).await;
        echoed(&client, endpoint).await;
    }
}

#[tokio::test]
async fn lg_5_lg_6_lg_12_who_signs_in_and_connects_anew_is_let_in() {
    let server = Server::start().await;
    let key = Arc::new(Mutex::new(None));
    let provider = {
        let key = Arc::clone(&key);
        move || {
            let key = key.lock().unwrap().clone();
            async move { key }
        }
    };
    let client = server.client().credentials(provider).build().unwrap();
    within(client.open_streaming_connection()).await.unwrap();
    ignored(&client, "login").await;
    *key.lock().unwrap() = Some("ada".to_owned());
    client.close_streaming_connection();
    server.noted("test closed", 1).await;
    within(client.open_streaming_connection()).await.unwrap();
    echoed(&client, "login").await;
    // And out, and in again, on the live connection.
    for (shown, name) in [("mallory", None), ("ada", Some("ada"))] {
        *key.lock().unwrap() = Some(shown.to_owned());
        within(client.authenticate_again()).await.unwrap();
        assert_eq!(who(&client).await.as_deref(), name);
    }
    echoed(&client, "login").await;
    server.noted("login opened", 1).await;
}

#[tokio::test]
async fn lg_8_lg_9_a_message_to_an_endpoint_with_a_scope_needs_the_scope() {
    let server = Server::start().await;
    for key in ["ada", "ada:other"] {
        ignored(&server.connected(key).await, "admin").await;
    }
    server.noted("admin opened", 0).await;
    let client = server.connected("ada:admin").await;
    echoed(&client, "admin").await;
    server.noted("admin opened", 1).await;
}

#[tokio::test]
async fn lg_11_a_client_that_goes_is_closed_at_the_server() {
    let server = Server::start().await;
    let (closed, dropped) = (server.connected("ada").await, server.connected("ada").await);
    server.noted("login opened", 2).await;
    closed.close_streaming_connection();
    server.noted("login closed", 1).await;
    assert!(matches!(within(closed.send_stream_message("test", &1_i64)).await, Err(CallError::SocketLost)));
    drop(dropped);
    server.noted("login closed", 2).await;
    within(async {
        while server.streams.sockets() > 0 || closed.status() != StreamingStatus::Disconnected {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn lg_17_lg_18_a_server_that_stops_closes_its_connections_and_they_come_back_to_the_next() {
    for count in [1, 3] {
        let server = Server::start().await;
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = server.client().retry_every(Some(Duration::from_millis(50))).build().unwrap();
            within(client.open_streaming_connection()).await.unwrap();
            let stream = client.stream("test");
            clients.push((client, stream));
        }
        server.noted("test opened", count).await;
        let notes = server.notes.clone();
        let address = server.stop().await;
        assert_eq!(notes.borrow().iter().filter(|note| *note == "test closed").count(), count);
        let next_server = Server::with(&address, |streams| streams.authenticator(Keys)).await;
        for (client, stream) in &mut clients {
            assert!(matches!(within(stream.next()).await, Err(CallError::Restarted)));
            within(client.send_stream_message("test", &Simple { num: 7 })).await.unwrap();
            assert_eq!(next::<Simple>(stream).await.num, 7);
        }
        next_server.noted("test opened", count).await;
    }
}

#[tokio::test]
async fn lg_20_lg_21_lg_23_a_valid_key_signs_in_and_an_invalid_one_does_not_whatever_is_sent() {
    let server = Server::start().await;
    assert_eq!(who(&server.connected("ada").await).await.as_deref(), Some("ada"));
    let client = server.connected("mallory & co?#%").await;
    for _ in 0..3 {
        assert_eq!(who(&client).await, None);
        ignored(&client, "login").await;
    }
}

#[tokio::test]
async fn lg_37_without_an_authenticator_nobody_is_signed_in() {
    let server = Server::with("127.0.0.1:0", |streams| streams).await;
    let client = server.connected("ada").await;
    assert_eq!(who(&client).await, None);
    ignored(&client, "login").await;
}

#[tokio::test]
async fn a_revocation_closes_the_connection_and_a_good_key_lets_in_again() {
    let server = Server::start().await;
    let client = server
        .client()
        .retry_every(Some(Duration::from_millis(50)))
        .credentials(|| async { Some("ada".to_owned()) })
        .build()
        .unwrap();
    let mut stream = client.stream("test");
    within(client.open_streaming_connection()).await.unwrap();
    assert_eq!(who(&client).await.as_deref(), Some("ada"));
    assert_eq!(next::<Option<String>>(&mut stream).await.as_deref(), Some("ada"));
    within(server.broker.revoke(broker::Revocation::user("ada"))).await.unwrap();
    assert!(matches!(within(stream.next()).await, Err(CallError::Restarted)));
    assert_eq!(who(&client).await.as_deref(), Some("ada"), "the key is looked up anew");
}
