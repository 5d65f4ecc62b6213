//! NatsLink: one live connection.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use async_nats::{Client, PublishErrorKind};
use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{Link, Outgoing},
};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::{
    ground::Ground,
    watch::{COMPLAINTS, Watch},
};

/// One link. Dropping it ends the thread of its client, and with it the socket.
pub(crate) struct NatsLink {
    client: Client,
    watch: Arc<Watch>,
    /// Where the client's tasks run.
    ground: Ground,
    /// The server has refused a post: from then on few of them go between two barriers.
    careful: AtomicBool,
}

impl NatsLink {
    /// Makes a link of a fresh connection, and proves that barriers come back.
    pub(crate) async fn open(client: Client, ground: Ground, watch: Arc<Watch>) -> Result<Self> {
        let link = Self { client, watch, ground, careful: AtomicBool::new(false) };
        link.hear(vec![format!("{}.*", link.watch.own)]).await?;
        Ok(link)
    }

    /// A message to ourselves. When it is back, the server has seen everything that was sent before it, and
    /// what it complained about has been noted.
    async fn barrier(&self) -> Result<()> {
        let back = self.watch.expect();
        let sent = self.client.publish(back.subject.clone(), Bytes::new()).await;
        sent.map_err(|_| self.watch.over())?;
        back.wait().await.map(drop)
    }

    /// Subscribes, and waits until the server has taken or refused it.
    async fn hear(&self, subjects: Vec<String>) -> Result<()> {
        let fresh = self.watch.feeds_for(subjects);
        let (client, feeds) = (self.client.clone(), fresh.clone());
        let begun = self.ground.run(async move {
            for (subject, feed) in feeds {
                feed.start(client.subscribe(subject).await.ok()?);
            }
            Some(())
        });
        begun.await.flatten().ok_or_else(|| self.watch.over())?;
        self.barrier().await?;
        self.watch.settle(fresh)
    }

    /// Sends frames and waits until the server has them.
    async fn send(&self, round: &[Outgoing]) -> Result<Vec<Result<()>>> {
        let refusals = self.watch.refusals();
        let mut sent = Vec::with_capacity(round.len());
        for Outgoing { channel, frame, .. } in round {
            sent.push(self.client.publish(channel.to_string(), frame.clone()).await);
        }
        self.barrier().await?;
        let peer = &self.watch.peer;
        let (refused, complaints) = refusals.so_far();
        self.careful.fetch_or(complaints > 0, Relaxed);
        let outcomes = round.iter().zip(sent).map(|(Outgoing { channel, frame, .. }, sent)| match sent {
            _ if refused.contains(channel.as_str()) => Err(self.watch.forbidden("publish")),
            Ok(()) if complaints >= COMPLAINTS => {
                let why = "refused so many others that this may have been refused, too";
                Err(peer.error(ErrorKind::Interrupted, why))
            }
            Ok(()) => Ok(()),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let (size, limit) = (frame.len(), self.client.max_payload());
                let why = format!(
                    "takes {limit} bytes, and this has {size} with its header; raise its `max_payload`"
                );
                Err(peer.error(ErrorKind::TooLarge, why))
            }
            Err(_) => Err(peer.gone()),
        });
        Ok(outcomes.collect())
    }
}

#[async_trait]
impl Link for NatsLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let length = if self.careful.load(Relaxed) { COMPLAINTS } else { batch.len() };
        let mut outcomes = Vec::with_capacity(batch.len());
        for round in batch.chunks(length) {
            outcomes.extend(self.send(round).await.unwrap_or_else(|error| {
                let unknown = Error::new(ErrorKind::Interrupted, error.message());
                vec![Err(unknown); round.len()]
            }));
        }
        outcomes
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.hear(channels.iter().map(ToString::to_string).collect()).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        for mut subscriber in self.watch.forget(channels.iter().map(ChannelName::as_str)) {
            subscriber.unsubscribe().await.map_err(|_| self.watch.over())?;
        }
        self.barrier().await
    }

    /// Ends every subscription, and hangs up when the server has forgotten them.
    async fn close(&self) -> Result<()> {
        let forgotten = async {
            // The last word comes by a subscription that the server itself ends with it.
            let inbox = format!("{}-end", self.watch.own);
            let mut last = self.client.subscribe(inbox.clone()).await.ok()?;
            last.unsubscribe_after(1).await.ok()?;
            for mut subscriber in self.watch.forget_all() {
                subscriber.unsubscribe().await.ok()?;
            }
            self.client.publish(inbox, Bytes::new()).await.ok()?;
            last.next().await
        };
        forgotten.await.ok_or_else(|| self.watch.over())?;
        self.ground.end().await;
        Ok(())
    }
}

impl Drop for NatsLink {
    fn drop(&mut self) {
        // A feed keeps itself alive for as long as it can read.
        drop(self.watch.forget_all());
    }
}
