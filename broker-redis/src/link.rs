//! RedisLink: one live pair of connections, and what becomes of what the server pushes.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{
        Capabilities, Confirmation, DurableLog, ErrorContext, Inbox, Inspection, Link, LinkInfo, LogCursor,
        LogPage, LogSpec, OrderGuarantee, Outgoing, PermissionScope, Reach, Receipt,
    },
};
use bytes::Bytes;
use redis::{Pipeline, PushInfo, PushKind, RedisError, Value, aio::MultiplexedConnection};
use tokio::{sync::watch, time::timeout};

use crate::{
    errors::{translate, translate_of_log},
    log::{Keeper, Log, Seen},
    publishing::command,
    role::Role,
};

/// How long the server may take to report its limits.
const INFO_LIMIT: Duration = Duration::from_secs(1);
/// Whoever closes a connection that was quiet for so long may have done so for that.
const QUIET: Duration = Duration::from_millis(900);

/// When something was last published on a link. What the server pushes is not counted: at the latest a heartbeat makes
/// it push something.
#[derive(Debug)]
pub(crate) struct Used {
    since: Instant,
    /// In milliseconds after that.
    last: AtomicU64,
}

impl Used {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0) }
    }

    fn now(&self) {
        self.last.store(self.since.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn ago(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Why the server, or something before it, may have closed the connection.
    fn ended(&self, peer: &ErrorContext) -> Error {
        let quiet = self.ago();
        if quiet < QUIET {
            return peer.disconnected();
        }
        let why = format!(
            "closed a connection that was idle for {:.1} s; if that repeats, an idle limit (`timeout` of Redis, or that of \
             a proxy) is shorter than the option `heartbeat`: raise the one or shorten the other",
            quiet.as_secs_f64()
        );
        peer.error(ErrorKind::Unavailable, why)
    }
}

/// One server, which sends every subscriber what it took in the order in which it took it.
const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// What is known of a server with that version.
pub(crate) fn info(version: Option<Arc<str>>, idle_limit: Option<Duration>) -> LinkInfo {
    let mut info = LinkInfo::new(CAPABILITIES);
    (info.version, info.idle_limit) = (version, idle_limit);
    info
}

/// How long the server lets a connection be idle; `None` if for ever, or if this user may not know.
pub(crate) async fn idle_limit(connection: &MultiplexedConnection) -> Option<Duration> {
    let mut asking = connection.clone();
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg("timeout");
    // A proxy may not answer; a link does without.
    let reply = timeout(INFO_LIMIT, question.query_async(&mut asking)).await.ok()?;
    let reply: HashMap<String, u64> = reply.ok()?;
    reply.get("timeout").filter(|seconds| **seconds > 0).map(|seconds| Duration::from_secs(*seconds))
}

/// What a server that keeps a log reports. Snapshots alone take back what was appended since the last one: only the
/// append-only file counts.
pub(crate) async fn inspection(connection: &MultiplexedConnection) -> Inspection {
    let mut asking = connection.clone();
    let time: Option<(u64, u64)> = redis::cmd("TIME").query_async(&mut asking).await.ok();
    let kept: Option<String> = redis::cmd("INFO").arg("persistence").query_async(&mut asking).await.ok();
    let clock = time.and_then(|(seconds, micros)| {
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?.checked_add(Duration::from_micros(micros))
    });
    Inspection::new(clock, kept.map(|text| text.contains("aof_enabled:1")))
}

/// One link. Dropping it drops the last handles of both connections, and with them their tasks and sockets.
#[derive(Debug)]
pub(crate) struct RedisLink {
    pub(crate) subscriber: MultiplexedConnection,
    pub(crate) publisher: MultiplexedConnection,
    pub(crate) inbox: Inbox,
    /// The server at which it publishes, and the one at which it receives: the same but for a cluster.
    pub(crate) peer: ErrorContext,
    pub(crate) receives_at: ErrorContext,
    pub(crate) log: Seen,
    pub(crate) info: LinkInfo,
    /// Whether the server says what it is when it is asked.
    pub(crate) says_its_role: bool,
    pub(crate) used: Arc<Used>,
    /// Whether we are closing. Its receivers live in the connections, so it also tells when both are gone.
    pub(crate) closing: watch::Sender<bool>,
}

impl RedisLink {
    /// Translates an error of a call about channels, and gives the link up if it is the connection's.
    fn refused(&self, error: &RedisError) -> Error {
        let translated = translate(&self.receives_at, error);
        if error.code().is_none() {
            self.inbox.lost(translated.clone());
        }
        translated
    }

    /// The link broke with a batch on its way: any frame of it may have arrived, or none.
    fn interrupted(&self, cause: &Error, frames: usize) -> Vec<Result<Receipt>> {
        self.inbox.lost(cause.clone());
        vec![Err(Error::new(ErrorKind::Interrupted, cause.message())); frames]
    }
}

#[async_trait]
impl Link for RedisLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for outgoing in batch {
            pipeline.add_command(command("PUBLISH", outgoing));
        }
        // Not `query_async`: that turns one refused command into the failure of all.
        self.used.now();
        let replies = match self.publisher.clone().send_packed_commands(&pipeline, 0, batch.len()).await {
            Ok(replies) => replies,
            Err(error) => return self.interrupted(&translate(&self.peer, &error), batch.len()),
        };
        let outcomes = replies.into_iter().map(|reply| match reply {
            // The number of receivers, at this server only: it says nothing that could be promised.
            Value::Int(_) => Some(Ok(Receipt::new())),
            Value::ServerError(error) => Some(Err(translate(&self.peer, &error.into()))),
            // Nothing else answers a PUBLISH: these are not the replies to what we sent.
            _ => None,
        });
        outcomes
            .collect::<Option<_>>()
            .unwrap_or_else(|| self.interrupted(&self.peer.not_this_protocol(), batch.len()))
    }

    /// The server checks all names before it subscribes any, and refuses with a single reply; the client
    /// expects that, so a refusal leaves replies and calls in step.
    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let done = self.subscriber.clone().subscribe(names(channels)).await;
        done.map_err(|error| self.refused(&error))
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let done = self.subscriber.clone().unsubscribe(names(channels)).await;
        done.map_err(|error| self.refused(&error))
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(self)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        self.info.clone()
    }

    /// Whether both connections still lead to a master. It may have become a replica, or an address that leads to
    /// several servers may have led the two to different ones.
    async fn check(&self) -> Result<()> {
        if !self.says_its_role {
            return Ok(());
        }
        let ask = async |connection, peer| match Role::ask(connection).await {
            Ok(role) => role.check(peer),
            Err(error) => Err(translate(peer, &error)),
        };
        tokio::try_join!(ask(&self.subscriber, &self.receives_at), ask(&self.publisher, &self.peer))?;
        Ok(())
    }

    async fn inspect(&self, _: &LogSpec) -> Inspection {
        inspection(&self.publisher).await.with_idle_limit(self.info.idle_limit)
    }

    /// Asks the server to hang up, and waits until it has: it forgets a client's subscriptions first.
    async fn close(&self) -> Result<()> {
        self.closing.send_replace(true);
        for (connection, peer) in [(&self.publisher, &self.peer), (&self.subscriber, &self.receives_at)] {
            let quit = redis::cmd("QUIT").query_async::<()>(&mut connection.clone()).await;
            // Only an answer has a code. Without one it is gone already: all the better.
            if let Some(error) = quit.err().filter(|error| error.code().is_some()) {
                return Err(translate(peer, &error));
            }
        }
        self.closing.closed().await;
        Ok(())
    }
}

impl Keeper for RedisLink {
    fn seen(&self) -> &Seen {
        &self.log
    }

    fn peer(&self) -> &ErrorContext {
        &self.peer
    }

    fn connection(&self) -> MultiplexedConnection {
        self.publisher.clone()
    }

    /// A replica takes no revocation: the way to the master is another link.
    fn failed(&self, error: &RedisError) -> Error {
        let translated = translate_of_log(&self.peer, error);
        if matches!(error.code(), None | Some("READONLY")) {
            self.inbox.lost(translated.clone());
        }
        translated
    }
}

#[async_trait]
impl DurableLog for RedisLink {
    /// On the publisher's connection: a page of the log is no larger than some batches of posts are. It lives on when
    /// a call takes too long: an answer that comes later is dropped.
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        log.within(&self.peer, Log { keeper: self, log }.append(&record)).await
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        log.within(&self.peer, Log { keeper: self, log }.read(after)).await
    }
}

fn names(channels: &[ChannelName]) -> Vec<&str> {
    channels.iter().map(ChannelName::as_str).collect()
}

/// What both connections call for whatever the server pushes, from inside their tasks: it must not block.
pub(crate) fn receiver(
    inbox: Inbox,
    peer: ErrorContext,
    closing: watch::Receiver<bool>,
    used: Arc<Used>,
) -> impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static {
    move |push| {
        match push.kind {
            PushKind::Message => match <[Value; 2]>::try_from(push.data) {
                Ok([Value::BulkString(channel), Value::BulkString(frame)]) => {
                    // A name that is not UTF-8 was never subscribed here.
                    if let Ok(channel) = std::str::from_utf8(&channel) {
                        inbox.deliver(channel, Bytes::from(frame));
                    }
                }
                _ => inbox.lost(peer.not_this_protocol()),
            },
            PushKind::Disconnection if !*closing.borrow() => inbox.lost(used.ended(&peer)),
            _ => {}
        }
        Ok(())
    }
}
