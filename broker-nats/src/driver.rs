//! NatsDriver: opens the connection of a link, and sees to it that it is never opened again.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::Client;
use async_trait::async_trait;
use broker_core::{
    Result,
    driver::{Capabilities, Driver, Inbox, Link, Ordering, random},
};

use crate::{NAME, address::Address, errors::refused, ground::Ground, link::NatsLink, watch::Watch};

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
    /// Opens a connection that is never opened again.
    async fn open(&self, inbox: Inbox) -> Result<(Client, Ground)> {
        let Address { servers, peer, inbox: start, .. } = &self.0;
        let own = format!("{start}.{:016x}{:016x}", random(), random());
        let watch = Watch::new(peer.clone(), inbox, own);
        let limit = if servers.len() > 1 { EACH_OF_SEVERAL } else { NO_LIMIT };
        let opened = Arc::new(AtomicBool::new(false));
        let (again, told) = (Arc::clone(&opened), Arc::clone(&watch));
        let options = self.0.options().await?;
        let options = options
            .client_capacity(WAITING_CALLS)
            .connection_timeout(limit)
            .ignore_discovered_servers()
            // The client always tries again. It has to wait with that for longer than it lives: it ends with its link.
            .reconnect_delay_callback(move |_| if again.load(Relaxed) { NO_LIMIT } else { Duration::ZERO })
            .event_callback(move |event| {
                told.note(&event);
                ready(())
            });
        let (ground, servers) = (Ground::new(watch)?, servers.clone());
        let connected = ground.run(async move {
            let connected = options.connect(servers).await;
            opened.store(true, Relaxed);
            connected
        });
        // Some lines that no NATS server sends, such as a lone `-ERR`, make the client panic.
        let connected = connected.await.ok_or_else(|| peer.foreign())?;
        Ok((connected.map_err(|error| refused(peer, &error))?, ground))
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
        let (client, ground) = self.open(inbox).await?;
        Ok(Box::new(NatsLink::open(client, ground).await?))
    }
}

#[cfg(test)]
mod tests;
