//! Driver: from a URL to a link.

use std::sync::Arc;

use async_trait::async_trait;
use broker_core::{
    BrokerUrl, Result,
    driver::{ConnectContext, Driver, Encryption, ErrorContext, Link, Place, ServerAddr},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{connection::Connection, link::LineLink};

pub(crate) const DEFAULT_PORT: u16 = 7677;
const GREETING: &str = "LINES 1\n";

#[derive(Debug)]
struct LineDriver {
    server: ServerAddr,
    peer: ErrorContext,
}

/// Makes the driver. Does no I/O.
pub(crate) fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    url.allow_keys(&[])?;
    if url.username().is_some() || url.password().is_some() {
        return Err(url.invalid("has a user or a password, and the server knows neither; leave them out"));
    }
    if !url.path().is_empty() {
        return Err(url.invalid("has a path; leave it out"));
    }
    let server = url.server(DEFAULT_PORT)?;
    let peer = ErrorContext::new("line-server", &server, "everybody");
    Ok(Arc::new(LineDriver { server, peer }))
}

#[async_trait]
impl Driver for LineDriver {
    fn name(&self) -> &'static str {
        "lines"
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let (peer, stream) = Place::reach(std::slice::from_ref(&self.server), |place| async move {
            let peer = self.peer.at(&place);
            let attempt = greet(&peer, &place);
            let stream = peer.recognise(place.address, Encryption::None, attempt).await?;
            Ok((peer, stream))
        })
        .await?;
        Ok(Box::new(LineLink::new(Connection::start(stream, peer, context.inbox))))
    }
}

/// Opens a connection, and reads the server's greeting.
async fn greet(peer: &ErrorContext, place: &Place) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(place.address).await.map_err(|error| peer.io(&error))?;
    stream.set_nodelay(true).map_err(|error| peer.io(&error))?;
    stream.write_all(GREETING.as_bytes()).await.map_err(|error| peer.io(&error))?;
    let mut answer = Vec::new();
    let mut limited = (&mut stream).take(GREETING.len() as u64);
    limited.read_to_end(&mut answer).await.map_err(|error| peer.io(&error))?;
    match &answer[..] {
        answer if answer == GREETING.as_bytes() => Ok(stream),
        [] => Err(peer.disconnected()),
        _ => Err(peer.not_this_protocol()),
    }
}
