//! ShardedLink: sharded channels, each of which lives at the master that serves its slot.
//!
//! A lost master concerns its channels alone: these are parked until another one has taken over, and the rest of the link
//! goes on.

use std::{collections::HashSet, iter, sync::Arc};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{
        Capabilities, Confirmation, ConnectContext, DurableLog, Inspection, Link, LinkInfo, LogSpec,
        OrderGuarantee, Outgoing, PermissionScope, Reach, Receipt, probe_channel,
    },
};
use futures_util::future::{join_all, try_join_all};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    address::ClusterAddress,
    atlas::{ANSWER_LIMIT, Atlas},
    follow::{follow, hand_over},
    owner::ClusterLog,
    shard::Sent,
    shards::{ROUNDS, Shards},
    slots::slot_of,
};
use crate::link::idle_limit;

/// All of a channel goes through one master, for as long as its slot stays there.
const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// How many names are tried to find one in the slots of each master.
const TRIES: u32 = 20_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct ShardedLink {
    shards: Arc<Shards>,
    tasks: [JoinHandle<()>; 2],
    log: ClusterLog,
    info: LinkInfo,
}

impl Drop for ShardedLink {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl ShardedLink {
    pub(crate) async fn open(address: Arc<ClusterAddress>, context: ConnectContext) -> Result<Self> {
        let atlas = Arc::new(Atlas::open(address).await?);
        let map = atlas.map();
        Shards::check_size(&map)?;
        let shards = Shards::new(Arc::clone(&atlas), context);
        // A master that is out of reach is looked for later on, and concerns its channels alone.
        let mut failure = None;
        let opening = map.masters().iter().map(|master| shards.open(master));
        for (master, opened) in map.masters().iter().zip(join_all(opening).await) {
            match opened {
                Ok(shard) => shards.add(shard),
                Err(error) if error.is_transient() => {
                    shards.note_failure(master, &error);
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let live = shards.live();
        let Some(first) = live.first() else {
            return Err(
                failure.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no master can be reached"))
            );
        };
        let mut info = LinkInfo::new(CAPABILITIES);
        info.version.clone_from(&first.publisher.role.version);
        let limits = join_all(live.iter().map(|shard| idle_limit(&shard.publisher.connection)));
        // The connection by which the masters were found is of no more use: it is gone before the link is there.
        let (limits, _) = tokio::join!(limits, timeout(ANSWER_LIMIT, atlas.close()));
        atlas.ask_first(&first.publisher);
        info.idle_limit = limits.into_iter().flatten().min();
        let following = shards.inbox.guard("follows the map of the slots", follow(Arc::clone(&shards)));
        let handing_over = shards.inbox.guard("hands over digests", hand_over(Arc::clone(&shards)));
        let tasks = [tokio::spawn(following), tokio::spawn(handing_over)];
        Ok(Self { shards, tasks, log: ClusterLog::new(atlas), info })
    }

    /// Publishes frames, and follows those whose channels are served elsewhere.
    async fn send(&self, frames: Vec<(usize, &Outgoing)>, outcomes: &mut [Option<Result<Receipt>>]) {
        let mut left = frames;
        for round in 0..ROUNDS {
            if left.is_empty() {
                return;
            }
            if round > 0 {
                // Where it fails the old map serves, and what it is wrong about is refused.
                let _ = self.shards.atlas.refresh().await;
            }
            left = self.round(left, outcomes).await;
        }
    }

    /// One round of publishing: what became of each frame. What was not taken by any shard is left, in its order.
    async fn round<'a>(
        &self,
        frames: Vec<(usize, &'a Outgoing)>,
        outcomes: &mut [Option<Result<Receipt>>],
    ) -> Vec<(usize, &'a Outgoing)> {
        let (groups, unserved) = self.shards.by_shard(frames, |(_, frame)| &frame.channel);
        for (at, frame) in unserved {
            outcomes[at] = Some(Err(self.shards.unserved(&frame.channel)));
        }
        let sending = groups.iter().map(|(shard, group)| async move {
            let frames: Vec<&Outgoing> = group.iter().map(|(_, frame)| *frame).collect();
            shard.publish(&frames).await
        });
        let mut left = Vec::new();
        for ((shard, group), sent) in groups.iter().zip(join_all(sending).await) {
            match sent {
                Ok(sent) => {
                    // From the last to the first: what stands before a frame that was taken must not come behind it.
                    let mut taken = HashSet::new();
                    for ((at, frame), sent) in group.iter().zip(sent).rev() {
                        match sent {
                            Sent::Done(outcome) => {
                                if outcome.is_ok() {
                                    taken.insert(&frame.channel);
                                }
                                outcomes[*at] = Some(outcome);
                            }
                            Sent::Elsewhere if taken.contains(&frame.channel) => {
                                outcomes[*at] = Some(Err(self.shards.unserved(&frame.channel)));
                            }
                            Sent::Elsewhere => {
                                self.shards.atlas.ask_first(&shard.publisher);
                                left.push((*at, *frame));
                            }
                        }
                    }
                }
                Err(cause) => {
                    for (at, _) in group {
                        outcomes[*at] = Some(Err(Error::new(ErrorKind::Interrupted, cause.message())));
                    }
                    self.shards.drop_shard(shard.id, cause);
                }
            }
        }
        left.sort_unstable_by_key(|(at, _)| *at);
        left
    }
}

#[async_trait]
impl Link for ShardedLink {
    /// To each shard its own, side by side: so the order of a channel stays, and a lost master fails its frames alone.
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let mut outcomes: Vec<Option<Result<Receipt>>> = batch.iter().map(|_| None).collect();
        let mut probes = Vec::new();
        // A digest goes when all before it has been taken, and all behind it goes after it.
        let is_digest = |frame: &Outgoing| self.shards.held.is_digests(frame.channel.as_str());
        let mut at = 0;
        for part in batch.chunk_by(|one, next| is_digest(one) == is_digest(next)) {
            let mut frames = Vec::with_capacity(part.len());
            for frame in part {
                if self.shards.echoes.note(frame) {
                    probes.push(at);
                }
                frames.push((at, frame));
                at += 1;
            }
            self.send(frames, &mut outcomes).await;
        }
        for at in probes {
            let channel = &batch[at].channel;
            if !matches!(outcomes[at], Some(Ok(_))) || self.shards.is_parked(channel) {
                self.shards.echoes.come_back(std::slice::from_ref(channel), &self.shards.inbox);
                // A refusal is for core to know.
                let refused = matches!(&outcomes[at], Some(Err(error)) if !error.is_transient());
                if !refused {
                    outcomes[at] = Some(Ok(Receipt::new()));
                }
            }
        }
        let outcomes = outcomes.into_iter().zip(batch);
        outcomes
            .map(|(outcome, frame)| outcome.unwrap_or_else(|| Err(self.shards.unserved(&frame.channel))))
            .collect()
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.shards.subscribe(channels.to_vec()).await.map(drop)
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.shards.unpark(channels);
        let live = self.shards.live();
        let ended = join_all(live.iter().map(|shard| shard.unsubscribe(channels))).await;
        for (shard, ended) in live.iter().zip(ended) {
            match ended {
                Ok(()) => {}
                Err(error) if error.is_transient() => self.shards.drop_shard(shard.id, error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(&self.log)
    }

    /// One in the slots of each master.
    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        let map = self.shards.atlas.map();
        let mut without: Vec<_> = map.masters().iter().collect();
        let mut channels = Vec::with_capacity(without.len());
        let names = iter::once(own.clone()).chain((0..TRIES).map(|n| probe_channel(own, n)));
        for channel in names {
            if without.is_empty() {
                break;
            }
            let owner = map.owner(slot_of(channel.as_str()));
            if let Some(at) = without.iter().position(|master| Some(*master) == owner) {
                without.swap_remove(at);
                channels.push(channel);
            }
        }
        self.shards.echoes.set(&channels);
        channels
    }

    fn info(&self) -> LinkInfo {
        self.info.clone()
    }

    /// Whether the shards still are masters, and all that there are. One that is not is let go of, and the link lives on.
    async fn check(&self) -> Result<()> {
        let live = self.shards.live();
        let checked = join_all(live.iter().map(|shard| shard.check())).await;
        for (shard, checked) in live.iter().zip(checked) {
            if let Err(cause) = checked {
                self.shards.drop_shard(shard.id, cause);
            }
        }
        self.shards.ask_most().await;
        self.shards.changed.notify_one();
        Ok(())
    }

    async fn inspect(&self, log: &LogSpec) -> Inspection {
        self.log.inspect(log, self.info.idle_limit).await
    }

    async fn close(&self) -> Result<()> {
        self.shards.closing.send_replace(true);
        self.tasks.iter().for_each(JoinHandle::abort);
        let live = self.shards.live();
        try_join_all(live.iter().map(|shard| shard.quit())).await?;
        self.log.close().await;
        self.shards.atlas.close().await;
        self.shards.closing.closed().await;
        Ok(())
    }
}
