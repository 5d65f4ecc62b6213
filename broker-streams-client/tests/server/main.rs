//! The client against the real server, by the ids of the behaviours.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod cursors;
mod cuts;
mod methods;
mod types;

use std::{future::Future, time::Duration};

use broker_streams::{Streams, StreamsBuilder};
use broker_streams_client::{Client, ClientBuilder};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

/// A limit against hangs.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("it hangs")
}

/// A server on loopback, which ends with it.
pub(crate) struct Server {
    pub(crate) broker: broker::Broker,
    pub(crate) streams: Streams,
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(build: impl FnOnce(StreamsBuilder) -> StreamsBuilder) -> Self {
        let broker = broker::connect("memory:").await.unwrap();
        let streams = build(Streams::builder(broker.clone())).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { broker, streams, address, task }
    }

    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(&format!("ws://{}/v1/websocket", self.address))
    }

    /// One client with the extension, and one without.
    pub(crate) fn clients(&self) -> [Client; 2] {
        [self.client().build().unwrap(), self.client().plain().build().unwrap()]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
