//! PostgresLink: one live pair of sessions.

use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{
        Capabilities, Confirmation, DurableLog, Inbox, Inspection, Link, LinkInfo, LogCursor, LogPage,
        LogSpec, OrderGuarantee, Outgoing, Reach, Receipt, random,
    },
};
use bytes::Bytes;
use tokio_postgres::Error as PgError;

use crate::{
    cancels::Cancels,
    errors::{is_cancelled, is_end, is_read_only, stale, translate},
    inspect,
    log::Log,
    names::Names,
    notify::Notify,
    piece::{bucket, bucket_name, cut, hash},
    proof::process,
    session::{Session, Way},
};

/// How many batches are under way at once.
const WINDOW: NonZero<usize> = NonZero::<usize>::MIN;

/// One queue, in the order in which transactions commit, for everybody; and every role may use every channel.
const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted);

/// One link. Dropping it ends its tasks and its sockets.
pub(crate) struct PostgresLink {
    pub(crate) way: Way,
    receive: Session,
    pub(crate) post: Session,
    /// For statements of the session that posts.
    pub(crate) cancels: Cancels,
    notify: Notify,
    names: Arc<Names>,
    inbox: Inbox,
    pub(crate) log: Log,
    /// That of the next piece.
    counter: Mutex<u32>,
}

impl PostgresLink {
    pub(crate) fn new(
        way: Way,
        receive: Session,
        (post, notify): (Session, Notify),
        names: Arc<Names>,
        inbox: Inbox,
        log: Log,
    ) -> Self {
        Self {
            way,
            receive,
            post,
            cancels: Cancels::new(),
            notify,
            names,
            inbox,
            log,
            counter: Mutex::new(random() as u32),
        }
    }

    /// Translates an error of a call, and gives the link up if it cannot go on after that.
    pub(crate) fn failed(&self, error: &PgError) -> Error {
        let translated = translate(&self.way.peer, error);
        if is_end(error) || is_read_only(error) {
            self.inbox.lost(translated.clone());
        }
        translated
    }

    /// The same for a post, which uses what the session has prepared.
    fn post_failed(&self, error: &PgError) -> Error {
        if let Some(stale) = stale(&self.way.peer, error) {
            // Every post would fail like this one.
            self.inbox.lost(stale.clone());
            return stale;
        }
        match self.failed(error) {
            // It may have been committed.
            cause if is_end(error) => Error::new(ErrorKind::Interrupted, cause.message()),
            refused => refused,
        }
    }

    /// Sends statements about channels of NOTIFY, as one transaction.
    async fn run_for_each(&self, verb: &str, buckets: &[u8]) -> Result<()> {
        let statements: Vec<String> =
            buckets.iter().map(|bucket| format!("{verb} {}", bucket_name(*bucket))).collect();
        let done = self.receive.client()?.batch_execute(&statements.join("; ")).await;
        done.map_err(|error| self.failed(&error))
    }

    /// The payloads of a batch, and the channel of NOTIFY for each.
    fn payloads(&self, batch: &[Outgoing]) -> (Vec<String>, Vec<String>) {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut channels, mut payloads) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for outgoing in batch {
            let channel = outgoing.channel.as_str();
            cut(channel, &outgoing.parts(), &mut counter, &mut payloads);
            channels.resize(payloads.len(), bucket_name(bucket(hash(channel))));
        }
        (channels, payloads)
    }
}

#[async_trait]
impl Link for PostgresLink {
    /// One transaction, so that the server hands it over as one block: a batch arrives as a whole, and in its order. An answer
    /// means for every frame the same.
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let client = match self.post.client() {
            Ok(client) => client,
            Err(error) => return vec![Err(error); batch.len()],
        };
        let (channels, payloads) = self.payloads(batch);
        let mut mark = self.cancels.mark();
        let outcome = loop {
            match self.notify.send(&client, &channels, &payloads).await {
                Ok(()) => break Ok(Receipt::new()),
                // It was for a call about the log, and nothing of the batch was posted.
                Err(error) if is_cancelled(&error) && self.cancels.may_have_hit(mark) => {
                    mark = self.cancels.mark();
                }
                Err(error) => break Err(self.post_failed(&error)),
            }
        };
        vec![outcome; batch.len()]
    }

    /// Also for a channel of NOTIFY that is listened to already: the answer comes behind everything that was posted before
    /// this call, and only then the names are let through.
    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.run_for_each("LISTEN", &Names::buckets_of(channels)).await?;
        self.names.add(channels);
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let empty = self.names.remove(channels);
        if empty.is_empty() { Ok(()) } else { self.run_for_each("UNLISTEN", &empty).await }
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(self)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        let mut info = LinkInfo::new(CAPABILITIES);
        (info.version, info.publish_window) = (self.post.version.clone(), WINDOW);
        info
    }

    /// Whether the server still writes: one that was replaced and set to read only goes on taking posts, which
    /// no node at the new one receives.
    async fn check(&self) -> Result<()> {
        match process(&*self.post.client()?, &self.way.peer, translate).await {
            // A statement that was cancelled says nothing of the server.
            Err(error) if error.kind() != ErrorKind::Timeout => Err(error),
            _ => Ok(()),
        }
    }

    async fn inspect(&self, log: &LogSpec) -> Inspection {
        match self.post.client() {
            Ok(client) => inspect::inspection(&client, log).await,
            Err(_) => Inspection::default(),
        }
    }

    async fn close(&self) -> Result<()> {
        tokio::join!(self.post.close(), self.receive.close());
        Ok(())
    }
}

#[async_trait]
impl DurableLog for PostgresLink {
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        match self.limited(log, self.append_record(log, &record)).await? {
            ((), false) => Ok(()),
            // A commit whose wait for a standby was cancelled is reported as done.
            ((), true) => Err(self.late(log)),
        }
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        Ok(self.limited(log, self.read_page(log, after)).await?.0)
    }
}
