//! Opening: one connection to one server, which is never opened again; and what a server says before anybody signs in.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::{Client, ServerInfo};
use broker_core::{
    Result,
    driver::{Encryption, ErrorContext, Inbox, ServerAddr, random},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
};

use crate::{
    address::Address, client_thread::ClientThread, connection_state::ConnectionState, errors::refused,
};

/// More than core ever has under way, so that no call waits for room in the client's queue.
const WAITING_CALLS: usize = 1 << 20;
/// Whoever calls has a limit of its own; a second one in the client would only blur whose it was.
pub(crate) const NO_LIMIT: Duration = Duration::from_secs(86_400);
/// No server's greeting is longer.
const GREETING: u64 = 64 << 10;

/// Opens a connection that is never opened again.
pub(crate) async fn open(
    to: &Address,
    server: &ServerAddr,
    limit: Duration,
    peer: &ErrorContext,
    inbox: Inbox,
) -> Result<(Client, ClientThread)> {
    let own = format!("{}.{:016x}{:016x}", to.inbox, random(), random());
    let connection = ConnectionState::new(peer.clone(), inbox, own);
    let opened = Arc::new(AtomicBool::new(false));
    let (again, noting) = (Arc::clone(&opened), Arc::clone(&connection));
    let options = to.options().await?;
    let options = options
        .client_capacity(WAITING_CALLS)
        .connection_timeout(limit)
        .ignore_discovered_servers()
        // The client always tries again. It has to wait with that for longer than it lives: it ends with its link.
        .reconnect_delay_callback(move |_| if again.load(Relaxed) { NO_LIMIT } else { Duration::ZERO })
        .event_callback(move |event| {
            noting.note(&event);
            ready(())
        });
    let (client_thread, server) = (ClientThread::new(connection)?, to.client_addr(server)?);
    let connected = client_thread.run(async move {
        let connected = options.connect(server).await;
        opened.store(true, Relaxed);
        connected
    });
    // Some lines that no NATS server sends, such as a lone `-ERR`, make the client panic.
    let connected = connected.await.ok_or_else(|| peer.not_this_protocol())?;
    Ok((connected.map_err(|error| refused(peer, &error))?, client_thread))
}

/// What a server says of itself and of its cluster at this moment. The client reads that once for each connection, and
/// ignores what the server says later. Where the greeting is plain text nobody has to sign in for it.
pub(crate) async fn greeting(to: &Address, server: &ServerAddr) -> Result<ServerInfo> {
    let peer = to.peer.at(server);
    if to.encryption == Encryption::First {
        let (client, _client_thread) = open(to, server, NO_LIMIT, &peer, Inbox::discard()).await?;
        return Ok(client.server_info());
    }
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await;
    let mut line = String::new();
    let read =
        BufReader::new(stream.map_err(|error| peer.io(&error))?.take(GREETING)).read_line(&mut line).await;
    read.map_err(|error| peer.io(&error))?;
    if line.is_empty() {
        return Err(peer.disconnected());
    }
    let info = line.strip_prefix("INFO ").and_then(|info| serde_json::from_str(info).ok());
    info.ok_or_else(|| peer.not_this_protocol())
}
