//! NatsDriver: opens the connection of a link, to any one of the servers, and the link.

use std::{sync::Arc, time::Duration};

use async_nats::Client;
use async_trait::async_trait;
use broker_core::{
    Result,
    driver::{ConnectContext, Driver, ErrorContext, Inbox, Link, ServerAddr, random},
};
use tokio::time::Instant;

use crate::{
    NAME,
    address::Address,
    client_thread::ClientThread,
    cluster::Way,
    link::NatsLink,
    opening::{NO_LIMIT, open},
};

/// How long each of several addresses of one name may take at first, so that there is time for the next.
const EACH_OF_SEVERAL: Duration = Duration::from_millis(500);

/// A way to one NATS server, or to any one of a cluster.
#[derive(Debug)]
pub(crate) struct NatsDriver {
    address: Arc<Address>,
}

impl NatsDriver {
    pub(crate) fn new(address: Address) -> Self {
        Self { address: Arc::new(address) }
    }

    /// Opens a connection to any one of the servers.
    async fn reach(&self, inbox: Inbox) -> Result<(Client, ClientThread, ServerAddr)> {
        let mut servers = self.address.servers.clone();
        servers.sort_by_cached_key(|_| random());
        ServerAddr::reach_any(&servers, |server| {
            let (peer, inbox) = (self.address.peer.at(&server), inbox.clone());
            async move {
                let addresses = server.addresses().await?;
                let opening = self.open_any(&server, addresses.len() > 1, &peer, inbox);
                let (client, thread) = peer.recognise(addresses[0], self.address.encryption, opening).await?;
                Ok((client, thread, server))
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
            match open(&self.address, server, limit, peer, inbox.clone()).await {
                Err(error) if error.is_transient() && began.elapsed() >= limit => limit *= 2,
                outcome => return outcome,
            }
        }
    }
}

#[async_trait]
impl Driver for NatsDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let (client, client_thread, server) = self.reach(context.inbox).await?;
        let way = Way { address: Arc::clone(&self.address), server };
        Ok(Box::new(NatsLink::open(client, client_thread, way).await?))
    }
}

#[cfg(test)]
mod tests;
