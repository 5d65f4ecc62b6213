//! NatsLink: one live connection.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_nats::{Client, Message, PublishError, PublishErrorKind};
use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{Link, LogCursor, LogPage, Outgoing, Peer, RevocationLog},
};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{Either, select},
};

use crate::{
    ground::Ground,
    log::Log,
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
        let (refused, complaints) = refusals.so_far();
        let concerned = round.iter().any(|post| refused.contains(post.channel.as_str()));
        self.careful.fetch_or(concerned || complaints >= COMPLAINTS, Relaxed);
        let outcomes = round.iter().zip(sent).map(|(Outgoing { channel, frame, .. }, sent)| match sent {
            _ if refused.contains(channel.as_str()) => Err(self.watch.forbidden("publish")),
            Ok(()) if complaints >= COMPLAINTS => {
                let why = "refused so many others that this may have been refused, too";
                Err(self.peer().error(ErrorKind::Interrupted, why))
            }
            sent => sent.map_err(|error| self.unsent(frame.len(), &error)),
        });
        Ok(outcomes.collect())
    }

    /// Why the client did not even begin to send something of that size.
    fn unsent(&self, size: usize, error: &PublishError) -> Error {
        if error.kind() != PublishErrorKind::MaxPayloadExceeded {
            return self.peer().gone();
        }
        let limit = self.client.max_payload();
        let why =
            format!("takes {limit} bytes, and this has {size} with its header; raise its `max_payload`");
        self.peer().error(ErrorKind::TooLarge, why)
    }

    /// Asks whoever answers on a subject. There is no limit to the wait, but a missing permission ends it.
    pub(crate) async fn ask(&self, subject: String, question: Bytes) -> Result<Message> {
        let mut refusals = self.watch.refusals();
        let (answer, size) = (self.watch.expect(), question.len());
        let reply_to = answer.subject.clone();
        let sent = self.client.publish_with_reply(subject.clone(), reply_to, question).await;
        sent.map_err(|error| self.unsent(size, &error))?;
        match select(pin!(answer.wait()), pin!(refusals.of(&subject))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => {
                let why = format!("no permission to publish to `{subject}`; grant it for the revocation log");
                Err(self.peer().error(ErrorKind::Forbidden, why))
            }
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.watch.peer
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

    async fn revoke(&self, log: &RevocationLog, record: Bytes) -> Result<()> {
        Log::new(self, log).append(record).await
    }

    async fn revocations(&self, log: &RevocationLog, after: &LogCursor) -> Result<LogPage> {
        Log::new(self, log).page(after).await
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
