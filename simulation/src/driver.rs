//! SimulatedDriver: how a broker reaches the simulated server.

use std::sync::Arc;

use async_trait::async_trait;
use broker_core::{
    ChannelName, Result,
    driver::{
        Capabilities, Confirmation, ConnectContext, Driver, DurableLog, Inspection, Link, LinkInfo, LogSpec,
        OrderGuarantee, Outgoing, Reach, Receipt,
    },
};

use crate::Server;

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Process)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted);

#[derive(Debug)]
pub(crate) struct SimulatedDriver(Server);

impl SimulatedDriver {
    pub(crate) fn of(server: &Server) -> Arc<dyn Driver> {
        Arc::new(Self(server.clone()))
    }
}

#[async_trait]
impl Driver for SimulatedDriver {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let id = self.0.join(context.inbox).await?;
        // Before it waits: an attempt that is given up leaves nothing behind.
        let link = SimulatedLink { server: self.0.clone(), id };
        self.0.answer().await;
        Ok(Box::new(link))
    }
}

struct SimulatedLink {
    server: Server,
    id: u64,
}

#[async_trait]
impl Link for SimulatedLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let outcome = self.server.publish(self.id, batch).await;
        batch.iter().map(|_| outcome.clone().map(|()| Receipt::new())).collect()
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.server.subscribe(self.id, channels).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.server.unsubscribe(self.id, channels).await
    }

    /// No session here has an identity.
    fn log(&self) -> Option<&dyn DurableLog> {
        None
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        LinkInfo::new(CAPABILITIES)
    }

    async fn inspect(&self, _: &LogSpec) -> Inspection {
        Inspection::new(None, None)
    }

    async fn close(&self) -> Result<()> {
        self.server.leave(self.id);
        Ok(())
    }
}

impl Drop for SimulatedLink {
    fn drop(&mut self) {
        self.server.leave(self.id);
    }
}
