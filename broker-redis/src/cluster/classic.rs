//! ClassicLink: plain channels, which a cluster passes on between all of its members.
//!
//! It receives at one member and publishes at another, where there are two: so the own post comes back only if the two
//! reach each other.

use std::{slice, sync::Arc};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, Result,
    driver::{
        Capabilities, Confirmation, DurableLog, Inbox, Inspection, Link, LinkInfo, LogSpec, OrderGuarantee,
        Outgoing, PermissionScope, Reach, Receipt, ServerAddr,
    },
};
use tokio::sync::watch;

use super::{
    address::ClusterAddress,
    atlas::{Atlas, within},
    member::Member,
    owner::ClusterLog,
};
use crate::{
    driver::settings,
    link::{RedisLink, Used, idle_limit, receiver},
    log::Seen,
};

/// Two publishers at two members: nothing makes them agree whose message came first.
const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerPublisher)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// See the module.
#[derive(Debug)]
pub(crate) struct ClassicLink {
    pair: RedisLink,
    receiver: Member,
    publisher: Member,
    atlas: Arc<Atlas>,
    log: ClusterLog,
}

/// What opens the connections of a link.
struct Opening {
    atlas: Arc<Atlas>,
    inbox: Inbox,
    used: Arc<Used>,
    closing: watch::Receiver<bool>,
}

impl Opening {
    /// A connection to the first of these members that works with its cluster.
    async fn any(&self, members: &[ServerAddr]) -> Result<Member> {
        ServerAddr::reach_any(members, |server| async move {
            let opening = async {
                let member = Member::open(&self.atlas.address, &server, |at, peer| {
                    let (closing, used) = (self.closing.clone(), Arc::clone(&self.used));
                    let receiver = receiver(self.inbox.clone(), peer.clone(), closing, used);
                    settings(Some(at)).set_push_sender(receiver)
                })
                .await?;
                member.check_new().await?;
                Ok(member)
            };
            within(&server, opening).await
        })
        .await
    }

    /// The one to receive at, and the one to publish at: another one, if that can be reached.
    async fn both(&self) -> Result<(Member, Member)> {
        let mut members = self.atlas.members();
        // The member that answered first, so that nodes are spread as their addresses are.
        let first = self.atlas.guide().filter(|guide| guide.role.may_be_master()).map(|guide| guide.server);
        members.sort_by_key(|member| Some(member) != first.as_ref());
        let receiver = self.any(&members).await?;
        members.retain(|member| *member != receiver.server);
        match self.any(&members).await {
            Ok(publisher) => Ok((receiver, publisher)),
            Err(error) if error.is_transient() => {
                let publisher = self.any(slice::from_ref(&receiver.server)).await?;
                Ok((receiver, publisher))
            }
            Err(error) => Err(error),
        }
    }
}

impl ClassicLink {
    pub(crate) async fn open(address: Arc<ClusterAddress>, inbox: Inbox) -> Result<Self> {
        let atlas = Arc::new(Atlas::open(address).await?);
        // Until the link is there, what becomes of an attempt is no business of the inbox: there may be others.
        let ((closing, watching), used) = (watch::channel(true), Arc::new(Used::new()));
        let opening = Opening {
            atlas: Arc::clone(&atlas),
            inbox: inbox.clone(),
            used: Arc::clone(&used),
            closing: watching,
        };
        let (receiver, publisher) = opening.both().await?;
        let idle_limits = tokio::join!(idle_limit(&receiver.connection), idle_limit(&publisher.connection));
        let mut info = LinkInfo::new(CAPABILITIES);
        info.version.clone_from(&publisher.role.version);
        info.idle_limit = idle_limits.0.into_iter().chain(idle_limits.1).min();
        closing.send_replace(false);
        let pair = RedisLink {
            subscriber: receiver.connection.clone(),
            publisher: publisher.connection.clone(),
            inbox,
            peer: publisher.peer.clone(),
            receives_at: receiver.peer.clone(),
            log: Seen::default(),
            info,
            says_its_role: false,
            used,
            closing,
        };
        let log = ClusterLog::new(Arc::clone(&atlas));
        Ok(Self { pair, receiver, publisher, atlas, log })
    }
}

#[async_trait]
impl Link for ClassicLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        self.pair.publish(batch).await
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.pair.subscribe(channels).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.pair.unsubscribe(channels).await
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(&self.log)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        self.pair.probe_channels(own)
    }

    fn info(&self) -> LinkInfo {
        self.pair.info()
    }

    /// Whether both members work with the majority of their cluster.
    async fn check(&self) -> Result<()> {
        tokio::try_join!(self.receiver.check(), self.publisher.check())?;
        Ok::<(), Error>(())
    }

    async fn inspect(&self, log: &LogSpec) -> Inspection {
        self.log.inspect(log, self.pair.info.idle_limit).await
    }

    async fn close(&self) -> Result<()> {
        self.log.close().await;
        self.atlas.close().await;
        self.pair.close().await
    }
}
