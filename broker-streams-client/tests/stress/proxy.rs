//! A proxy between a client and its server, which passes whole frames on, sees each, and cuts the connection where it
//! is told to.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
};

use broker_streams_client::{Client, ClientBuilder};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{DuplexStream, duplex},
    net::TcpStream,
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Server,
    Client,
}

/// What becomes of a frame, and of the connection behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passes,
    /// It arrives, and nothing else does.
    CutBehind,
    /// It is lost with the connection.
    CutBefore,
}

/// What looks at each frame. Control frames of the WebSocket are none.
pub(crate) trait Watch: Send + 'static {
    fn connected(&mut self) {}
    fn frame(&mut self, to: To, text: &str) -> Verdict;
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

/// A client's builder that gets to a server through a proxy.
pub(crate) fn client(address: &str, watch: Arc<Mutex<dyn Watch>>) -> ClientBuilder {
    let address = address.to_owned();
    let connect = move || -> Connecting {
        let (address, watch) = (address.clone(), Arc::clone(&watch));
        Box::pin(async move {
            let server = TcpStream::connect(&address).await?;
            server.set_nodelay(true)?;
            let (ours, theirs) = duplex(16 << 10);
            // It ends with either of its sockets, or by a cut.
            tokio::spawn(pass(theirs, server, watch));
            Ok(ours)
        })
    };
    Client::builder("ws://server/v1/websocket").connector(connect)
}

/// Passes frames on. What is written before a cut arrives.
async fn pass(client: DuplexStream, server: TcpStream, watch: Arc<Mutex<dyn Watch>>) -> Option<()> {
    let mut client = accept_async(client).await.ok()?;
    let (mut server, _) = client_async("ws://server/v1/websocket", server).await.ok()?;
    watch.lock().unwrap().connected();
    loop {
        let (message, to) = tokio::select! {
            message = client.next() => (message?.ok()?, To::Server),
            message = server.next() => (message?.ok()?, To::Client),
        };
        let verdict = match &message {
            Message::Text(text) => watch.lock().unwrap().frame(to, text),
            // Each end answers the pings of the proxy's end.
            Message::Ping(_) | Message::Pong(_) => continue,
            _ => Verdict::Passes,
        };
        if verdict == Verdict::CutBefore {
            return None;
        }
        match to {
            To::Server => server.send(message).await.ok()?,
            To::Client => client.send(message).await.ok()?,
        }
        if verdict == Verdict::CutBehind {
            return None;
        }
    }
}
