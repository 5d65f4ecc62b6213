//! NatsLink: one live connection.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_nats::{Client, Message, PublishError, PublishErrorKind};
use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{
        Capabilities, Confirmation, DurableLog, Inspection, Link, LinkInfo, LogCursor, LogPage, LogSpec,
        Outgoing, PermissionScope, Reach, Receipt,
    },
};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::{
    client_thread::ClientThread,
    cluster::{Cluster, Way},
    connection_state::{COMPLAINTS, ConnectionState},
    log::Log,
    subscription::Subscription,
};

/// Two publishers at two servers: nothing makes them agree whose message came first.
const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// One link. Dropping it ends the thread of its client, and with it the socket.
pub(crate) struct NatsLink {
    client: Client,
    version: Arc<str>,
    pub(crate) connection: Arc<ConnectionState>,
    /// Where the client's tasks run.
    client_thread: ClientThread,
    /// The other servers; `None` if there are none.
    pub(crate) cluster: Option<Cluster>,
    /// The server has refused a post: from then on few of them go between two barriers.
    careful: AtomicBool,
    /// The revocation log was missing, and no page has said so yet.
    pub(crate) log_created: AtomicBool,
}

impl NatsLink {
    /// Makes a link of a fresh connection, and proves that barriers come back, from every server of the cluster.
    pub(crate) async fn open(client: Client, client_thread: ClientThread, way: Way) -> Result<Self> {
        let connection = Arc::clone(&client_thread.connection);
        let mut link = Self {
            version: client.server_info().version.into(),
            client,
            connection,
            client_thread,
            cluster: None,
            careful: AtomicBool::new(false),
            log_created: AtomicBool::new(false),
        };
        link.subscribe_subjects(vec![format!("{}.*", link.connection.own)]).await?;
        link.cluster = Cluster::watch(way, link.client.clone(), Arc::clone(&link.connection));
        if let Some(cluster) = &link.cluster {
            cluster.join().await?;
        }
        Ok(link)
    }

    /// A message to ourselves. When it is back, the server has seen everything that was sent before it, and
    /// what it complained about has been noted.
    async fn barrier(&self) -> Result<()> {
        let (subject, back) = self.connection.expect(String::new());
        self.client.publish(subject, Bytes::new()).await.map_err(|_| self.connection.over())?;
        back.await.map(drop)
    }

    /// Asks whoever answers on a subject. There is no limit to the wait, but a missing permission ends it.
    pub(crate) async fn ask(&self, subject: String, question: Bytes) -> Result<Message> {
        let ((reply_to, answer), size) = (self.connection.expect(subject.clone()), question.len());
        let sent = self.client.publish_with_reply(subject, reply_to, question).await;
        sent.map_err(|error| self.unsent(size, &error))?;
        answer.await
    }

    /// A [barrier](Self::barrier), behind which the other servers, too, know what the link's server does.
    async fn prove(&self) -> Result<()> {
        match &self.cluster {
            Some(cluster) => cluster.prove(self.barrier()).await,
            None => self.barrier().await,
        }
    }

    /// Subscribes, and waits until the server has taken or refused it, and the others know.
    async fn subscribe_subjects(&self, subjects: Vec<String>) -> Result<()> {
        let subjects = self.connection.not_subscribed(subjects);
        let (client, connection) = (self.client.clone(), Arc::clone(&self.connection));
        let begun = self.client_thread.run(async move {
            let mut subscriptions = Vec::with_capacity(subjects.len());
            for subject in subjects {
                let subscriber = client.subscribe(subject.clone()).await.ok()?;
                subscriptions.push((subject, Subscription::start(Arc::clone(&connection), subscriber)));
            }
            Some(subscriptions)
        });
        let new = begun.await.flatten().ok_or_else(|| self.connection.over())?;
        self.prove().await?;
        self.connection.confirm_subscribed(new)
    }

    /// Sends frames and waits until the server has them.
    async fn send(&self, round: &[Outgoing]) -> Vec<Result<Receipt>> {
        drop(self.connection.take_no_publish());
        let mut sent = Vec::with_capacity(round.len());
        for post in round {
            sent.push(self.client.publish(post.channel.to_string(), post.frame()).await);
        }
        if let Err(error) = self.barrier().await {
            return vec![Err(Error::new(ErrorKind::Interrupted, error.message())); round.len()];
        }
        let complaints = self.connection.take_no_publish();
        let is_refused =
            |post: &Outgoing| complaints.iter().any(|subject| *subject == *post.channel.as_str());
        // There may be more refusals than were received.
        let unsure = complaints.len() >= COMPLAINTS;
        self.careful.fetch_or(unsure || round.iter().any(is_refused), Relaxed);
        let outcome = |(post, sent): (&Outgoing, Result<_, _>)| match sent {
            _ if is_refused(post) => Err(self.connection.forbidden("publish to", post.channel.as_str())),
            Ok(()) if unsure => {
                let why = "refused many posts at once, perhaps this one too; see its `permissions`";
                Err(self.connection.peer.error(ErrorKind::Interrupted, why))
            }
            sent => sent.map(|()| Receipt::new()).map_err(|error| self.unsent(post.size(), &error)),
        };
        round.iter().zip(sent).map(outcome).collect()
    }

    /// Why the client did not even begin to send something of that size.
    fn unsent(&self, size: usize, error: &PublishError) -> Error {
        if error.kind() != PublishErrorKind::MaxPayloadExceeded {
            return self.connection.over();
        }
        let limit = self.client.max_payload();
        let why =
            format!("takes {limit} bytes, and this has {size} with its header; raise its `max_payload`");
        self.connection.peer.error(ErrorKind::TooLarge, why)
    }
}

#[async_trait]
impl Link for NatsLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let length = if self.careful.load(Relaxed) { COMPLAINTS } else { batch.len() };
        let mut outcomes = Vec::with_capacity(batch.len());
        for round in batch.chunks(length) {
            outcomes.extend(self.send(round).await);
        }
        outcomes
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.subscribe_subjects(channels.iter().map(ToString::to_string).collect()).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let names: HashSet<&str> = channels.iter().map(ChannelName::as_str).collect();
        self.connection.forget(|subject| names.contains(subject));
        self.barrier().await
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(self)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    /// The server may change its limit while the link is up.
    fn info(&self) -> LinkInfo {
        let mut info = LinkInfo::new(CAPABILITIES);
        info.max_frame = self.client.max_payload();
        info.version = Some(Arc::clone(&self.version));
        info
    }

    async fn inspect(&self, log: &LogSpec) -> Inspection {
        let mut inspection = Log::new(self, log).inspect().await.unwrap_or_default();
        inspection.warnings.extend(self.cluster.iter().flat_map(Cluster::warnings));
        inspection
    }

    /// Ends every subscription, and hangs up when the server has forgotten them.
    async fn close(&self) -> Result<()> {
        let forgotten = async {
            // The last word comes by a subscription that the server itself ends with it.
            let inbox = format!("{}-end", self.connection.own);
            let mut last = self.client.subscribe(inbox.clone()).await.ok()?;
            last.unsubscribe_after(1).await.ok()?;
            self.connection.forget(|_| true);
            self.client.publish(inbox, Bytes::new()).await.ok()?;
            last.next().await
        };
        forgotten.await.ok_or_else(|| self.connection.over())?;
        if let Some(cluster) = &self.cluster {
            cluster.end().await;
        }
        self.client_thread.end().await;
        Ok(())
    }
}

#[async_trait]
impl DurableLog for NatsLink {
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        log.within(&self.connection.peer, Log::new(self, log).append(record)).await
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        log.within(&self.connection.peer, Log::new(self, log).page(after)).await
    }
}
