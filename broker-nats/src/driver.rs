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
    driver::{ConnectContext, Driver, ErrorContext, Inbox, Link, ServerAddr, random},
};
use tokio::time::Instant;

use crate::{
    NAME, address::Address, client_thread::ClientThread, connection_state::ConnectionState, errors::refused,
    link::NatsLink,
};

/// More than core ever has under way, so that no call waits for room in the client's queue.
const WAITING_CALLS: usize = 1 << 20;
/// How long each of several addresses of one name may take at first, so that there is time for the next.
const EACH_OF_SEVERAL: Duration = Duration::from_millis(500);
/// Core limits every call; a second limit in the client would only blur whose it was.
const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// A way to one NATS server, or to any one of a cluster.
#[derive(Debug)]
pub(crate) struct NatsDriver(pub(crate) Address);

impl NatsDriver {
    /// Opens a connection to any one of the servers.
    async fn reach(&self, inbox: Inbox) -> Result<(Client, ClientThread)> {
        let mut servers = self.0.servers.clone();
        servers.sort_by_cached_key(|_| random());
        ServerAddr::reach_any(&servers, |server| {
            let (peer, inbox) = (self.0.peer.at(&server), inbox.clone());
            async move {
                let addresses = server.addresses().await?;
                let opening = self.open_any(&server, addresses.len() > 1, &peer, inbox);
                peer.recognise(addresses[0], self.0.encryption, opening).await
            }
        })
        .await
    }

    /// Opens a connection to any address of a name. The client tries one after the other, and takes no stream and no
    /// address from us when the name is to be verified. So they share the time: each gets a moment, and if all have
    /// failed and one was late, each gets twice as long.
    async fn open_any(
        &self,
        server: &ServerAddr,
        several: bool,
        peer: &ErrorContext,
        inbox: Inbox,
    ) -> Result<(Client, ClientThread)> {
        let mut limit = if several { EACH_OF_SEVERAL } else { NO_LIMIT };
        loop {
            let began = Instant::now();
            match self.open(server, limit, peer, inbox.clone()).await {
                Err(error) if error.is_transient() && began.elapsed() >= limit => limit *= 2,
                outcome => return outcome,
            }
        }
    }

    /// Opens a connection that is never opened again.
    async fn open(
        &self,
        server: &ServerAddr,
        limit: Duration,
        peer: &ErrorContext,
        inbox: Inbox,
    ) -> Result<(Client, ClientThread)> {
        let own = format!("{}.{:016x}{:016x}", self.0.inbox, random(), random());
        let connection = ConnectionState::new(peer.clone(), inbox, own);
        let opened = Arc::new(AtomicBool::new(false));
        let (again, noting) = (Arc::clone(&opened), Arc::clone(&connection));
        let options = self.0.options().await?;
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
        let (client_thread, server) = (ClientThread::new(connection)?, self.0.client_addr(server)?);
        let connected = client_thread.run(async move {
            let connected = options.connect(server).await;
            opened.store(true, Relaxed);
            connected
        });
        // Some lines that no NATS server sends, such as a lone `-ERR`, make the client panic.
        let connected = connected.await.ok_or_else(|| peer.not_this_protocol())?;
        Ok((connected.map_err(|error| refused(peer, &error))?, client_thread))
    }
}

#[async_trait]
impl Driver for NatsDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let (client, client_thread) = self.reach(context.inbox).await?;
        Ok(Box::new(NatsLink::open(client, client_thread).await?))
    }
}

#[cfg(test)]
mod tests;
