//! Echo: a value that a client sends over a WebSocket, and that a method sends back; server and client on one thread, without a
//! kernel between them.

use std::{future::pending, io, time::Duration};

use axum::{Router, serve::Listener};
use broker_streams::{Endpoint, Failure, Incoming, Limits, Model, Out, Streams, method};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Runtime,
};

use crate::{MESSAGES, Outcome, measure, options};

const CALL: &str = "00000000-8f0a-4a8e-9a50-2f0c9f5f0a11";

#[derive(Clone, Debug, Serialize, Deserialize, Model)]
struct Said {
    text: String,
}

async fn echo(mut input: Incoming<Said>, out: Out<Said>) -> Result<(), Failure> {
    while let Some(said) = input.next().await {
        out.send(said?).await?;
    }
    Ok(())
}

pub(crate) fn run(runtime: &Runtime) -> Outcome {
    let (mut client, length) = runtime.block_on(opened())?;
    let sent = frame(&value());
    let mut answer = vec![0; length];
    measure(runtime, async || {
        for _ in 0..MESSAGES {
            client.write_all(&sent).await?;
            client.read_exact(&mut answer).await?;
        }
        Ok(())
    })
}

fn value() -> String {
    let text = "x".repeat(26);
    format!(
        r#"{{"type":"msm","data":{{"en":"bench","m":"echo","cid":"{CALL}","p":"input","o":{{"className":"Said","data":{{"text":"{text}"}}}}}}}}"#
    )
}

/// A client whose call is open, and how long the frame of each answer is.
async fn opened() -> Outcome<(DuplexStream, usize)> {
    let broker = broker::connect_with("memory:", options()).await?;
    let mut limits = Limits::default();
    (limits.ping, limits.silence) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let endpoint = Endpoint::new("bench").method("echo", method(echo).inputs(["input"]));
    let streams = Streams::builder(broker).limits(limits).endpoint(endpoint).build()?;
    let app = Router::new().route_service("/", streams.service());
    let (mut client, server) = duplex(64 << 10);
    tokio::spawn(async { axum::serve(Once(Some(server)), app).await });

    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(upgrade.as_bytes()).await?;
    said(&mut client, "\r\n\r\n").await?;
    let open = format!(
        r#"{{"type":"omsc","data":{{"en":"bench","m":"echo","cid":"{CALL}","args":"{{}}","is":["input"]}}}}"#
    );
    client.write_all(&frame(&open)).await?;
    said(&mut client, "}}").await?;
    client.write_all(&frame(&value())).await?;
    let length = said(&mut client, "}}}}").await?;
    Ok((client, length))
}

/// Reads until what was read ends like this, and says how long it is.
async fn said(client: &mut DuplexStream, end: &str) -> Outcome<usize> {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        if client.read_buf(&mut read).await? == 0 {
            return Err(format!("the server has ended: {}", String::from_utf8_lossy(&read)).into());
        }
    }
    Ok(read.len())
}

/// One frame of text, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = text.len() as u16;
    let mut bytes = vec![0x81];
    if length < 126 {
        bytes.push(0x80 | length as u8);
    } else {
        bytes.push(0x80 | 126);
        bytes.extend_from_slice(&length.to_be_bytes());
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A listener to whom one client comes.
struct Once(Option<DuplexStream>);

impl Listener for Once {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.0.take() {
            Some(io) => (io, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(())
    }
}
