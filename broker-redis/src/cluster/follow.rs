//! Follow: the task of a sharded link that keeps it at the masters that the cluster has.

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker_core::driver::ServerAddr;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{shard::Shard, shards::Shards};

/// How often the map is asked for while a master is missing: at first, and for as long as a fail-over may take.
const POLL: Duration = Duration::from_millis(25);
const SLOWER_POLL: Duration = Duration::from_millis(50);
/// After so long nothing may ever take its place, and many nodes ask: from then on more rarely.
const FAILOVER: Duration = Duration::from_secs(30);
const SLOWEST_POLL: Duration = Duration::from_secs(1);
/// How long a master that could not be reached is left alone.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs until it is dropped.
pub(crate) async fn follow(shards: Arc<Shards>) {
    let mut opening: JoinSet<(ServerAddr, broker_core::Result<Shard>)> = JoinSet::new();
    let mut pending: HashMap<String, Option<Instant>> = HashMap::new();
    let (mut poll, mut whole_at) = (POLL, Instant::now());
    loop {
        let whole = shards.is_whole();
        if whole {
            (poll, whole_at) = (POLL, Instant::now());
        } else {
            let slowest = if whole_at.elapsed() < FAILOVER { SLOWER_POLL } else { SLOWEST_POLL };
            poll = (poll + POLL / 5).min(slowest);
        }
        tokio::select! {
            () = shards.changed.notified() => {}
            () = sleep(poll), if !whole => {}
            Some(opened) = opening.join_next() => {
                if let Ok((server, opened)) = opened {
                    match opened {
                        Ok(shard) => {
                            pending.remove(&server.to_string());
                            shards.add(shard);
                        }
                        Err(error) => {
                            shards.note_failure(&server, &error);
                            pending.insert(server.to_string(), Some(Instant::now() + PAUSE));
                        }
                    }
                }
            }
        }
        let map = shards.atlas.refresh().await;
        shards.inbox.degraded(shards.out_of_reach());
        let Ok(map) = map else { continue };
        shards.retire(&map);
        pending.retain(|_, until| until.is_none_or(|until| until > Instant::now()));
        for server in shards.missing(&map) {
            if pending.contains_key(&server.to_string()) {
                continue;
            }
            pending.insert(server.to_string(), None);
            let shards = Arc::clone(&shards);
            let inbox = shards.inbox.clone();
            opening.spawn(inbox.guard("connects to a master", async move {
                let opened = shards.open(&server).await;
                (server, opened)
            }));
        }
        resume(&shards).await;
    }
}

/// Hands over the digests once they can be compared with what has arrived. Runs until it is dropped.
pub(crate) async fn hand_over(shards: Arc<Shards>) {
    loop {
        shards.held.arrived.notified().await;
        loop {
            let count = shards.held.len();
            if count == 0 {
                break;
            }
            shards.fence().await;
            shards.held.release(count, &shards.inbox);
        }
    }
}

/// Subscribes what has waited for a shard that is there now.
async fn resume(shards: &Shards) {
    let (own, of_core) = shards.take_served();
    if !of_core.is_empty() {
        shards.inbox.unsubscribed(&of_core);
    }
    if !own.is_empty() {
        let back = shards.subscribe(own).await;
        match back {
            Ok(back) => {
                // What the probe posted meanwhile was not received.
                shards.echoes.come_back(&back, &shards.inbox);
                shards.inbox.gap_on(&back);
            }
            // The server refuses one of the broker's own channels by now.
            Err(error) => shards.inbox.lost(error),
        }
    }
}
