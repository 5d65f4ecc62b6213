//! A driver that does what a test tells it: an in-process server with knobs.

pub(crate) mod sets;
pub(crate) mod steps;

use std::{
    collections::{BTreeSet, HashSet},
    future::pending,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, mpsc::Receiver},
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    Broker, ChannelName, Error, ErrorKind, Options, Result,
    driver::{
        Capabilities, ConnectContext, Driver, DurableLog, Inbox, Inspection, Link, LinkInfo, LogCursor,
        LogPage, LogSpec, OrderGuarantee, Outgoing, Reach, Receipt, probe_channel,
    },
};
use bytes::Bytes;
use tokio::time::Instant;

/// What the server does, and what it has seen.
#[derive(Default)]
pub(crate) struct World {
    /// Connecting fails with this.
    pub(crate) refuse_connect: Option<ErrorKind>,
    /// Connecting never answers.
    pub(crate) hang_connect: bool,
    /// Subscribing to any but the broker's own channel delivers what is early, and never answers.
    pub(crate) hang_subscribe: bool,
    /// Publishing never answers.
    pub(crate) hang_publish: bool,
    /// Publishing answers after this long.
    pub(crate) slow_publish: Duration,
    /// What is published arrives before publishing answers, also when that is slow.
    pub(crate) echo_first: bool,
    /// The next publishing of a post blocks its thread until the other end is gone.
    pub(crate) block_publish: Option<Receiver<()>>,
    /// Publishing answers `Ok` and forgets.
    pub(crate) swallow: bool,
    /// Publishing panics.
    pub(crate) panic_publish: bool,
    /// Publishing returns one outcome too few.
    pub(crate) miscount: bool,
    /// How far the order of a channel reaches; `None` for all nodes.
    pub(crate) ordering: Option<OrderGuarantee>,
    /// Connections that are idle for so long are closed.
    pub(crate) idle_limit: Option<Duration>,
    /// By how many paths a link receives, each with a channel of its own for the probe.
    pub(crate) shards: usize,
    /// What is posted to these does not arrive.
    pub(crate) dead: HashSet<String>,
    /// How many batches may be under way at once.
    pub(crate) window: Option<NonZero<usize>>,
    /// How many batches are under way, and how many were at once.
    pub(crate) under_way: usize,
    pub(crate) most_under_way: usize,
    /// Channels nobody may subscribe to.
    pub(crate) forbidden: HashSet<String>,
    /// No post on these is taken.
    pub(crate) read_only: HashSet<String>,
    /// Channels that cannot be subscribed for now.
    pub(crate) suspending: HashSet<String>,
    /// Delivered on the link, inside `subscribe`, before it is confirmed.
    pub(crate) early: Option<Outgoing>,

    /// The revocation log; without one there is none.
    pub(crate) log: Option<Log>,
    /// What was asked of the link, in order: `read`, or the names that were subscribed.
    pub(crate) asked: Vec<String>,

    pub(crate) connects: Vec<Instant>,
    pub(crate) subscribed: BTreeSet<String>,
    pub(crate) subscribe_calls: usize,
    pub(crate) published: Vec<Outgoing>,
    /// Of that, what went to `$digests`: it is not among the rest.
    pub(crate) digests: Vec<Outgoing>,
    /// Of every link so far.
    pub(crate) inboxes: Vec<Inbox>,
    pub(crate) contexts: Vec<ConnectContext>,
    pub(crate) closes: usize,
}

/// A revocation log, with knobs.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Bytes>,
    /// Appending fails with this.
    pub(crate) refuse_append: Option<ErrorKind>,
    /// Reading fails with this.
    pub(crate) refuse_read: Option<ErrorKind>,
    /// Appending never answers.
    pub(crate) hang_append: bool,
    /// Appending answers `Ok` and forgets.
    pub(crate) forget: bool,
    /// The next read finds no log, and makes it.
    pub(crate) missing: bool,
    pub(crate) appends: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<World>>);

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(crate) async fn connect(&self, options: Options) -> Result<Broker> {
        Broker::connect(Arc::new(self.clone()), options).await
    }

    /// That of the present link.
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn inbox(&self) -> Inbox {
        self.world().inboxes.last().cloned().unwrap()
    }

    /// Breaks the present link.
    #[allow(dead_code, reason = "not every test does")]
    pub(crate) fn lose(&self) {
        self.inbox().lost(Error::new(ErrorKind::Unavailable, "the test broke it"));
    }
}

fn no_log() -> Error {
    Error::new(ErrorKind::Unsupported, "the test has no log")
}

/// Short and distinct times; they pass at once under paused time.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.heartbeat = Duration::from_secs(5);
    options.heartbeat_timeout = Duration::from_secs(3);
    options.publish_timeout = Duration::from_secs(2);
    options.unsubscribe_delay = Duration::from_secs(1);
    options
}

#[async_trait]
impl Driver for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let hang = {
            let mut world = self.world();
            world.connects.push(Instant::now());
            if let Some(kind) = world.refuse_connect {
                return Err(Error::new(kind, format!("the test refuses: {kind:?}")));
            }
            world.subscribed.clear();
            world.inboxes.push(context.inbox.clone());
            world.contexts.push(context);
            world.hang_connect
        };
        if hang {
            pending::<()>().await;
        }
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Link for Scripted {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let panics = self.world().panic_publish;
        assert!(!panics, "the test makes the driver panic");
        let (block, hang, slow, echo_first, miscount, received, inbox, outcomes) = {
            let mut world = self.world();
            let (digests, others): (Vec<_>, Vec<_>) =
                batch.iter().cloned().partition(|out| out.channel.as_str() == "$digests");
            // Digests alone get through: they are sent at any time, and the posts that a test waits for stand behind them.
            let hang = world.hang_publish && !others.is_empty();
            let block = if others.is_empty() { None } else { world.block_publish.take() };
            world.published.extend(others);
            world.digests.extend(digests);
            world.under_way += 1;
            world.most_under_way = world.most_under_way.max(world.under_way);
            let refused = |out: &Outgoing| world.read_only.contains(out.channel.as_str());
            let arrives = |out: &&Outgoing| {
                let channel = out.channel.as_str();
                world.subscribed.contains(channel) && !world.dead.contains(channel) && !refused(out)
            };
            let outcome = |out| match refused(out) {
                true => Err(Error::new(ErrorKind::Forbidden, "the test forbids it")),
                false => Ok(Receipt::new()),
            };
            let outcomes: Vec<_> = batch.iter().map(outcome).collect();
            let mut received: Vec<Outgoing> = batch.iter().filter(arrives).cloned().collect();
            if world.swallow || world.hang_publish {
                // A digest that is lost is a gap, which is another subject.
                received.retain(|out| out.channel.as_str() == "$digests");
            }
            let inbox = world.inboxes.last().cloned().unwrap();
            (block, hang, world.slow_publish, world.echo_first, world.miscount, received, inbox, outcomes)
        };
        if hang {
            pending::<()>().await;
        }
        let blocked = block.is_some();
        if let Some(until) = block {
            let _ = until.recv();
        }
        // It answers before anybody sees how late it is.
        let slow = async || {
            if !blocked {
                tokio::time::sleep(slow).await;
            }
        };
        if !echo_first {
            slow().await;
        }
        received.into_iter().for_each(|out| inbox.deliver(out.channel.as_str(), out.frame()));
        if echo_first {
            slow().await;
        }
        self.world().under_way -= 1;
        outcomes.into_iter().skip(usize::from(miscount)).collect()
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let (early, hang, inbox, suspended) = {
            let mut world = self.world();
            world.subscribe_calls += 1;
            if channels.iter().any(|name| world.forbidden.contains(name.as_str())) {
                return Err(Error::new(ErrorKind::Forbidden, "the test forbids it"));
            }
            let (suspended, subscribed): (Vec<_>, Vec<_>) =
                channels.iter().cloned().partition(|name| world.suspending.contains(name.as_str()));
            world.subscribed.extend(subscribed.iter().map(ToString::to_string));
            world.asked.extend(channels.iter().map(ToString::to_string));
            let early = world.early.take_if(|out| channels.contains(&out.channel));
            let hang = world.hang_subscribe && channels.iter().any(|name| !name.as_str().starts_with('$'));
            (early, hang, world.inboxes.last().cloned().unwrap(), suspended)
        };
        inbox.suspended(&suspended);
        early.into_iter().for_each(|out| inbox.deliver(out.channel.as_str(), out.frame()));
        if hang {
            pending::<()>().await;
        }
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let mut world = self.world();
        channels.iter().for_each(|name| {
            world.subscribed.remove(name.as_str());
        });
        Ok(())
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        let has_log = self.world().log.is_some();
        has_log.then_some(self as &dyn DurableLog)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        let shards = self.world().shards;
        let shard = |n| probe_channel(own, n);
        if shards == 0 { vec![own.clone()] } else { (0..shards).map(shard).collect() }
    }

    fn info(&self) -> LinkInfo {
        let world = self.world();
        let ordering = world.ordering.unwrap_or(OrderGuarantee::PerChannel);
        let capabilities = Capabilities::new(Reach::Process).ordering(ordering);
        let mut info = LinkInfo::new(capabilities);
        info.idle_limit = world.idle_limit;
        info.publish_window = world.window.unwrap_or(info.publish_window);
        info
    }

    async fn inspect(&self, _: &LogSpec) -> Inspection {
        Inspection::default()
    }

    async fn close(&self) -> Result<()> {
        self.world().closes += 1;
        Ok(())
    }
}

#[async_trait]
impl DurableLog for Scripted {
    async fn append(&self, _: &LogSpec, record: Bytes) -> Result<()> {
        let hang = {
            let mut world = self.world();
            let Some(log) = &mut world.log else { return Err(no_log()) };
            log.appends += 1;
            if let Some(kind) = log.refuse_append {
                return Err(Error::new(kind, "the test refuses to append"));
            }
            if !log.forget && !log.hang_append {
                log.records.push(record);
            }
            log.hang_append
        };
        if hang {
            pending::<()>().await;
        }
        Ok(())
    }

    async fn read(&self, _: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        let mut world = self.world();
        world.asked.push("read".to_owned());
        let Some(log) = &mut world.log else { return Err(no_log()) };
        if let Some(kind) = log.refuse_read {
            return Err(Error::new(kind, "the test refuses to read"));
        }
        let from = after.place().map_or(0, |place| place.parse().unwrap()).min(log.records.len());
        let cursor = LogCursor::new(log.records.len().to_string());
        let created = std::mem::take(&mut log.missing);
        Ok(LogPage { records: log.records[from..].to_vec(), cursor, more: false, broken: None, created })
    }
}
