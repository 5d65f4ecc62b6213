//! NatsLink: one live connection.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_nats::Client;
use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{Link, Outgoing},
};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::{
    feed::Feed,
    ground::Ground,
    watch::{COMPLAINTS, Watch},
};

/// One link. Dropping it ends the thread of its client, and with it the socket.
pub(crate) struct NatsLink {
    client: Client,
    watch: Arc<Watch>,
    own: Arc<Feed>,
    /// Where the client's tasks run. Taken to close it.
    ground: Mutex<Option<Ground>>,
    /// The server has refused a post: from then on few of them go between two barriers.
    careful: AtomicBool,
}

impl NatsLink {
    /// Makes a link of a fresh connection, and proves that barriers come back.
    pub(crate) async fn open(client: Client, ground: Ground, watch: Arc<Watch>) -> Result<Self> {
        let own = Feed::new(&watch);
        let link =
            Self { client, watch, own, ground: Mutex::new(Some(ground)), careful: AtomicBool::default() };
        let subscriber = link.client.subscribe(link.watch.own.clone()).await;
        link.own.start(subscriber.map_err(|_| link.watch.peer.gone())?);
        link.barrier().await?;
        Ok(link)
    }

    /// A message to ourselves. When it is back, the server has seen everything that was sent before it, and
    /// what it complained about has been noted.
    async fn barrier(&self) -> Result<()> {
        let (number, back) = self.watch.barrier()?;
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        let sent = self.client.publish(self.watch.own.clone(), payload).await;
        match sent {
            Ok(()) => back.await.map_err(|_| self.watch.over()),
            Err(_) => Err(self.watch.over()),
        }
    }

    /// Sends frames and waits until the server has them.
    async fn send(&self, round: &[Outgoing]) -> Result<Vec<Result<()>>> {
        let Watch { peer, .. } = &*self.watch;
        let mut outcomes = Vec::with_capacity(round.len());
        for Outgoing { channel, frame, .. } in round {
            let sent = self.client.publish(channel.to_string(), frame.clone()).await;
            outcomes.push(sent.map_err(|_| peer.unsent(frame.len(), self.client.max_payload())));
        }
        self.barrier().await?;
        let (refused, complaints) = self.watch.take_no_publish();
        self.careful.fetch_or(complaints > 0, Relaxed);
        for (Outgoing { channel, .. }, outcome) in round.iter().zip(&mut outcomes) {
            if refused.contains(channel.as_str()) {
                *outcome = Err(peer.forbidden("publish"));
            } else if complaints >= COMPLAINTS && outcome.is_ok() {
                *outcome = Err(peer.deaf());
            }
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl Link for NatsLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(batch.len());
        while outcomes.len() < batch.len() {
            let rest = &batch[outcomes.len()..];
            let length = if self.careful.load(Relaxed) { rest.len().min(COMPLAINTS) } else { rest.len() };
            match self.send(&rest[..length]).await {
                Ok(more) => outcomes.extend(more),
                Err(error) => {
                    let unknown = Error::new(ErrorKind::Interrupted, error.message());
                    outcomes.extend(rest[..length].iter().map(|_| Err(unknown.clone())));
                    outcomes.extend(rest[length..].iter().map(|_| Err(error.clone())));
                }
            }
        }
        outcomes
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let fresh = self.watch.feeds_for(channels);
        if fresh.is_empty() {
            return Ok(());
        }
        for (channel, feed) in &fresh {
            let subscriber = self.client.subscribe(channel.to_string()).await;
            feed.start(subscriber.map_err(|_| self.watch.over())?);
        }
        self.barrier().await?;
        let refused = self.watch.settle(fresh);
        if refused.is_empty() {
            return Ok(());
        }
        drop(self.watch.forget(refused.iter()));
        Err(self.watch.refusal())
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        for mut subscriber in self.watch.forget(channels.iter()) {
            subscriber.unsubscribe().await.map_err(|_| self.watch.over())?;
        }
        self.barrier().await
    }

    /// Ends every subscription, and hangs up when the server has forgotten them.
    async fn close(&self) -> Result<()> {
        let over = || self.watch.over();
        // The last word comes by a subscription that the server itself ends with it.
        let inbox = format!("{}-end", self.watch.own);
        let mut last = self.client.subscribe(inbox.clone()).await.map_err(|_| over())?;
        last.unsubscribe_after(1).await.map_err(|_| over())?;
        for mut subscriber in self.watch.forget_all().into_iter().chain(self.own.take()) {
            subscriber.unsubscribe().await.map_err(|_| over())?;
        }
        self.client.publish(inbox, Bytes::new()).await.map_err(|_| over())?;
        last.next().await.ok_or_else(over)?;
        let ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ground) = ground {
            ground.end().await;
        }
        Ok(())
    }
}

impl Drop for NatsLink {
    fn drop(&mut self) {
        // A feed keeps itself alive for as long as it can read.
        drop((self.own.take(), self.watch.forget_all()));
    }
}

impl fmt::Debug for NatsLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLink").field("peer", &self.watch.peer).finish_non_exhaustive()
    }
}
