//! Member: one connection to one member of the cluster, and the questions that it is asked.

use std::{net::SocketAddr, slice};

use broker_core::{
    ErrorKind, Result,
    driver::{ErrorContext, Place, ServerAddr},
};
use redis::{AsyncConnectionConfig, Value, aio::MultiplexedConnection};

use super::{address::ClusterAddress, slots::SlotMap, state::ClusterState};
use crate::{
    driver::{open, settings},
    errors::translate,
    role::Role,
};

/// A connection to a member. Clones share it; it ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) server: ServerAddr,
    pub(crate) peer: ErrorContext,
    pub(crate) connection: MultiplexedConnection,
    pub(crate) role: Role,
}

impl Member {
    /// Opens a connection for questions alone.
    pub(crate) async fn ask_at(address: &ClusterAddress, server: &ServerAddr) -> Result<Self> {
        Self::open(address, server, |at, _| settings(Some(at))).await
    }

    /// Opens a connection, with the client's settings for an address.
    pub(crate) async fn open(
        address: &ClusterAddress,
        server: &ServerAddr,
        settings: impl Fn(SocketAddr, &ErrorContext) -> AsyncConnectionConfig + Send + Sync,
    ) -> Result<Self> {
        let way = address.at(server);
        let client = way.client().await?;
        Place::reach(slice::from_ref(server), |place| {
            let peer = way.peer.at(&place);
            let (client, settings, way) = (&client, settings(place.address, &peer), &way);
            async move {
                let opening = async {
                    let connection = open(client, &settings, &peer).await?;
                    let role = Role::of_new(&connection).await.unwrap_or_default();
                    role.check_member(&peer)?;
                    Ok(Self { server: place.server, peer: peer.clone(), connection, role })
                };
                peer.recognise(place.address, way.encryption(), opening).await
            }
        })
        .await
    }

    /// Which master serves which slot.
    pub(crate) async fn slots(&self) -> Result<SlotMap> {
        let reply = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut self.connection.clone()).await;
        let reply: Value = reply.map_err(|error| translate(&self.peer, &error))?;
        SlotMap::read(reply, &self.server).ok_or_else(|| self.peer.not_this_protocol())
    }

    /// What it says of its cluster.
    pub(crate) async fn state(&self) -> Result<ClusterState> {
        let reply = redis::cmd("CLUSTER").arg("INFO").query_async(&mut self.connection.clone()).await;
        let reply: String = reply.map_err(|error| translate(&self.peer, &error))?;
        ClusterState::read(&reply).ok_or_else(|| self.peer.not_this_protocol())
    }

    /// Asks it to hang up a connection that was for questions alone.
    pub(crate) async fn quit(&self) {
        // Without an answer it is gone already: all the better. The second question fails once the server has hung up.
        let _ = redis::cmd("QUIT").query_async::<()>(&mut self.connection.clone()).await;
        let _ = Role::ask(&self.connection).await;
    }

    /// Whether what is posted here reaches the other members, for a new link.
    pub(crate) async fn check_new(&self) -> Result<()> {
        if self.state().await?.ok { Ok(()) } else { Err(failed(&self.peer)) }
    }

    /// Whether that is still so. A master that is being replaced is no reason to leave those that work.
    pub(crate) async fn check(&self) -> Result<()> {
        let state = self.state().await?;
        if state.ok || state.reaches_majority(&self.slots().await?) {
            Ok(())
        } else {
            Err(failed(&self.peer))
        }
    }
}

fn failed(peer: &ErrorContext) -> broker_core::Error {
    let why = "says that its cluster has failed (cluster_state:fail), so that posts there may reach nobody; see \
               `CLUSTER INFO` there";
    peer.error(ErrorKind::Unavailable, why)
}
