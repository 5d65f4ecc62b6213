//! NatsDriver: opens the connection of a link, and sees to it that it is never opened again.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::{Client, Event, ReconnectToServer};
use async_trait::async_trait;
use broker_core::{
    Error, ErrorKind, Result,
    driver::{Capabilities, Driver, Inbox, Link, Ordering, random},
};

use crate::{
    NAME,
    address::{Address, Server},
    errors::refused,
    ground::Ground,
    link::NatsLink,
    watch::Watch,
};

/// Where nobody ever listens.
const NOWHERE: &str = "nats://127.0.0.1:0";
/// More than core ever has under way, so that no call waits for room in the client's queue.
const WAITING_CALLS: usize = 1 << 20;
/// How long one of several servers may take, so that there is time for the next.
const EACH_OF_SEVERAL: Duration = Duration::from_secs(2);
/// Core limits every call; a second limit in the client would only blur whose it was.
const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// A way to one NATS server, or to any one of a cluster.
#[derive(Debug)]
pub(crate) struct NatsDriver(pub(crate) Address);

impl NatsDriver {
    /// Opens a connection that is never opened again. `note` gets what the client tells about it.
    async fn open(
        &self,
        server: &Server,
        note: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<(Client, Ground)> {
        let foreign = || server.peer.foreign();
        let limit = if self.0.servers.len() > 1 { EACH_OF_SEVERAL } else { NO_LIMIT };
        let servers = [server.addr.clone(), NOWHERE.parse().map_err(|_| foreign())?];
        let (ways, opened) = (servers.clone(), AtomicBool::new(false));
        let options = self.0.options().await?;
        let options = options
            .client_capacity(WAITING_CALLS)
            .connection_timeout(limit)
            .ignore_discovered_servers()
            // The client always tries again. It is sent where nobody is, and gives up after one such attempt:
            // its tasks end, and with them everything that it still had to send.
            .max_reconnects(1)
            .reconnect_to_server_callback(move |_, _| {
                let addr = ways[usize::from(opened.swap(true, Relaxed))].clone();
                ready(Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) }))
            })
            .event_callback(move |event| {
                note(&event);
                ready(())
            });
        let ground = Ground::new()?;
        let connected = ground.run(async move { options.connect(servers.as_slice()).await }).await;
        // Some lines that no NATS server sends, such as a lone `-ERR`, make the client panic.
        let client = connected.ok_or_else(foreign)?.map_err(|error| refused(&server.peer, &error))?;
        Ok((client, ground))
    }
}

#[async_trait]
impl Driver for NatsDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(true, Ordering::PerPublisher, true)
    }

    async fn connect(&self, inbox: Inbox) -> Result<Box<dyn Link>> {
        let servers = &self.0.servers;
        // Begins anywhere, so that many processes spread over the servers.
        let start = random() as usize % servers.len();
        let mut failed = None;
        for server in servers[start..].iter().chain(&servers[..start]) {
            let own = format!("{}.{:016x}{:016x}", self.0.inbox, random(), random());
            let watch = Watch::new(server.peer.clone(), inbox.clone(), own);
            let told = Arc::clone(&watch);
            match self.open(server, move |event| told.note(event)).await {
                Ok((client, ground)) => return Ok(Box::new(NatsLink::open(client, ground, watch).await?)),
                // A refusal says more than that somebody is away.
                Err(error) if failed.as_ref().is_none_or(Error::is_transient) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::InvalidInput, "the url names no host")))
    }
}

#[cfg(test)]
mod tests;
