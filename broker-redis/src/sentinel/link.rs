//! SentinelLink: the link to the master, and the watch for another one.

use async_trait::async_trait;
use broker_core::{
    ChannelName, Result,
    driver::{DurableLog, Inspection, Link, LinkInfo, LogSpec, Outgoing, Receipt},
};

use super::watch::Watch;
use crate::link::RedisLink;

/// A link to a server for as long as a majority of the Sentinels says that it is the master.
#[derive(Debug)]
pub(crate) struct SentinelLink {
    pub(crate) master: RedisLink,
    pub(crate) watch: Watch,
}

#[async_trait]
impl Link for SentinelLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        self.master.publish(batch).await
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.master.subscribe(channels).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.master.unsubscribe(channels).await
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        self.master.log()
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        self.master.probe_channels(own)
    }

    fn info(&self) -> LinkInfo {
        self.master.info()
    }

    /// The role alone would not do: an old master that comes back calls itself one until a Sentinel converts it. Nor
    /// would the address alone: it is wrong until a majority has agreed on the switch.
    async fn check(&self) -> Result<()> {
        self.watch.heartbeat()?;
        self.master.check().await
    }

    async fn inspect(&self, log: &LogSpec) -> Inspection {
        self.master.inspect(log).await
    }

    async fn close(&self) -> Result<()> {
        let ((), closed) = tokio::join!(self.watch.end(), self.master.close());
        closed
    }
}
