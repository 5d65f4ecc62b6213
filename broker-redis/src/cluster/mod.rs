//! The two ways through a Redis Cluster: plain channels, which go to every member, and sharded ones.

mod address;
mod atlas;
mod book;
mod classic;
mod echoes;
mod follow;
mod held;
mod member;
mod owner;
mod shard;
mod sharded;
mod shards;
mod slots;
mod state;

use std::sync::Arc;

use async_trait::async_trait;
use broker_core::{
    BrokerUrl, Result,
    driver::{ConnectContext, Driver, Link},
};

use self::{address::ClusterAddress, classic::ClassicLink, sharded::ShardedLink};
use crate::NAME;

/// A way to a cluster.
#[derive(Debug)]
struct ClusterDriver(Arc<ClusterAddress>);

/// Makes a driver for a URL of a cluster.
pub(crate) fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    Ok(Arc::new(ClusterDriver(Arc::new(ClusterAddress::parse(url)?))))
}

#[async_trait]
impl Driver for ClusterDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let address = Arc::clone(&self.0);
        if address.sharded {
            return Ok(Box::new(ShardedLink::open(address, context).await?));
        }
        Ok(Box::new(ClassicLink::open(address, context.inbox).await?))
    }
}
