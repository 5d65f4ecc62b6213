//! Many of everything between the client and the real server, with a proxy between them that sees each frame.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cuts;
mod proxy;
mod windows;

use std::{future::Future, time::Duration};

use axum::serve::ListenerExt;
use broker_streams::{Endpoint, Failure, Incoming, Out, Streams, method};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

/// A limit against hangs.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("it hangs")
}

/// Random numbers that a seed gives.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// From the clock. The seed is printed.
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Another row of numbers.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.below(u64::MAX) | 1)
    }

    /// Sometimes consumes nothing for a while.
    pub(crate) async fn dawdle(&mut self) {
        match self.below(2000) {
            0 => tokio::time::sleep(Duration::from_millis(self.below(4))).await,
            1..40 => {
                for _ in 0..self.below(100) {
                    tokio::task::yield_now().await;
                }
            }
            _ => {}
        }
    }
}

/// Sends back what it gets, at its own pace.
async fn echo(mut input: Incoming<i64>, out: Out<i64>) -> Result<(), Failure> {
    let mut random = Random(7 << 40 | 1);
    while let Some(number) = input.next().await {
        random.dawdle().await;
        out.send(number?).await?;
    }
    Ok(())
}

/// A server on loopback, which ends with it.
pub(crate) struct Server {
    pub(crate) streams: Streams,
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let broker = broker::connect("memory:").await.unwrap();
        let echo = method(echo).inputs(["input"]).resumable();
        let endpoint = Endpoint::new("test").method("echo", echo);
        let streams = Streams::builder(broker).endpoint(endpoint).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // A small write waits for the acknowledgement of the last one otherwise, for up to 40 ms.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { streams, address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
