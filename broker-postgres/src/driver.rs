//! PostgresDriver: opens the two sessions of a link, at whichever of the servers writes.

use std::sync::Arc;

use async_trait::async_trait;
use broker_core::{
    Result,
    driver::{ConnectContext, Driver, Encryption, Inbox, Link, Place},
};
use futures_util::future::try_join;
use tokio::sync::watch;

use crate::{
    NAME,
    address::Address,
    errors::translate_opening,
    link::PostgresLink,
    log::Log,
    names::Names,
    notify::Notify,
    proof::{self, First},
    receiver::Receiver,
    session::{Fate, Session, Way},
};

/// The names that the server shows for the sessions of a link.
const RECEIVE: &str = "broker receive";
const POST: &str = "broker post";

/// For both sessions. A peer that does not read holds the queue of notifications of the whole server, so that the server has to
/// notice soon; and no function of ours is anybody else's.
const SETTINGS: &str = "SET tcp_user_timeout = '30s'; SET search_path = pg_catalog";
/// A session that listens is idle.
const NOT_IDLE: &str = "; SET idle_session_timeout = 0";
/// The first with a setting for idle sessions.
const IDLE_SINCE: u32 = 14;
/// A post waits for no disk: a crash forgets notifications anyway, and a commit that waits holds up all that notify. The log
/// counts on what others have committed.
const POST_SETTINGS: &str =
    "; SET synchronous_commit = off; SET default_transaction_isolation = 'read committed'";

/// A way to one PostgreSQL server, or to that of several that writes.
#[derive(Debug)]
pub(crate) struct PostgresDriver(Arc<Address>);

impl PostgresDriver {
    pub(crate) fn new(address: Address) -> Self {
        Self(Arc::new(address))
    }

    pub(crate) async fn reach(&self, inbox: Inbox) -> Result<PostgresLink> {
        Place::reach(&self.0.servers, |place| {
            let inbox = inbox.clone();
            async move {
                let way = Way::new(Arc::clone(&self.0), &place).await?;
                let peer = way.peer.clone();
                // Encryption is asked for in plain text, and any server answers that.
                peer.recognise(place.address, Encryption::None, open(way, inbox)).await
            }
        })
        .await
    }
}

/// Opens a link at one place. Until it is there, what becomes of this attempt is no business of the inbox.
async fn open(way: Way, inbox: Inbox) -> Result<PostgresLink> {
    let (peer, fate, names) = (way.peer.clone(), Fate::new(inbox.clone()), Arc::new(Names::default()));
    let (channel, (arrived, first)) = (proof::channel(), watch::channel(First::NotYet));
    let mut receiver = Receiver::new(Arc::clone(&names), inbox.clone(), (channel.clone(), arrived.clone()));
    let at_poster = {
        let (peer, fate) = (peer.clone(), Arc::clone(&fate));
        move |_: &_| {
            arrived.send_replace(First::AtPoster);
            fate.ended(proof::pooled(&peer));
        }
    };
    let (receive, post) = try_join(
        way.open(RECEIVE, &fate, move |notification| receiver.receive(notification)),
        way.open(POST, &fate, at_poster),
    )
    .await?;
    let major = proof::check_version(post.version.as_deref(), &peer)?;
    proof::prove(&receive, &post, &peer, &channel, first).await?;
    let idle = if major >= IDLE_SINCE { NOT_IDLE } else { "" };
    let set = async |session: &Session, more: String| {
        let done = session.client()?.batch_execute(&format!("{SETTINGS}{idle}{more}")).await;
        done.map_err(|error| translate_opening(&peer, &error))
    };
    try_join(set(&receive, format!("; UNLISTEN {channel}")), set(&post, POST_SETTINGS.to_owned())).await?;
    let notify = Notify::prepare(&post, &peer).await?;
    fate.up()?;
    Ok(PostgresLink::new(way, receive, (post, notify), names, inbox, Log::default()))
}

#[async_trait]
impl Driver for PostgresDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Two sessions: one that is busy with a post receives nothing.
    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        Ok(Box::new(self.reach(context.inbox).await?))
    }
}

#[cfg(test)]
mod tests;
