//! Arriving: frames that a driver hands over, decoded and read. Those of another node are held back until they are counted.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    vec::IntoIter,
};

use async_trait::async_trait;
use broker_core::{
    Broker, BrokerUrl, ChannelName, Error, Result, Scope,
    driver::{Arrival, ConnectContext, Driver, Inbox, Link, Missing, Sink},
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::runtime::Runtime;

use crate::{MESSAGES, Outcome, TICK, Tick, local::read, measure, options, payload};

const BUS: &str = "memory://instructions";
const CHANNEL: &str = "news";

pub(crate) fn raw(runtime: &Runtime, readers: usize) -> Outcome {
    let (held, node) = runtime.block_on(Held::open())?;
    let mut readers = runtime.block_on(try_join_all((0..readers).map(|_| node.subscribe(CHANNEL))))?;
    let post =
        async |poster: &Broker| Ok(poster.publish(CHANNEL, payload(), Scope::Global).await.map(drop)?);
    let mut frames = runtime.block_on(held.frames(post))?;
    let inbox = held.inbox()?;
    measure(runtime, async || {
        for frame in frames.by_ref().take(MESSAGES) {
            inbox.deliver(CHANNEL, frame);
            read(&mut readers).await?;
        }
        Ok(())
    })
}

pub(crate) fn typed(runtime: &Runtime) -> Outcome {
    let (held, node) = runtime.block_on(Held::open())?;
    let session = node.session();
    let mut stream = runtime.block_on(session.create_stream::<Tick>(CHANNEL))?;
    let post = async |poster: &Broker| {
        Ok(poster.session().post_message(CHANNEL, TICK, Scope::Global).await.map(drop)?)
    };
    let mut frames = runtime.block_on(held.frames(post))?;
    let inbox = held.inbox()?;
    measure(runtime, async || {
        for frame in frames.by_ref().take(MESSAGES) {
            inbox.deliver(CHANNEL, frame);
            stream.next().await.ok_or("the stream has ended")??;
        }
        Ok(())
    })
}

/// A driver that keeps what arrives on the channel instead of handing it over.
#[derive(Clone)]
struct Held {
    driver: Arc<dyn Driver>,
    inbox: Arc<OnceLock<Inbox>>,
    frames: Arc<Mutex<Vec<Bytes>>>,
}

impl Held {
    async fn open() -> Outcome<(Self, Broker)> {
        let driver = memory()?;
        let held = Self { driver, inbox: Arc::default(), frames: Arc::default() };
        let node = Broker::connect(Arc::new(held.clone()), options()).await?;
        Ok((held, node))
    }

    /// What another node posts, for both times that the work is done.
    async fn frames(&self, post: impl AsyncFn(&Broker) -> Outcome) -> Outcome<IntoIter<Bytes>> {
        let poster = Broker::connect(memory()?, options()).await?;
        for _ in 0..2 * MESSAGES {
            post(&poster).await?;
        }
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *frames).into_iter())
    }

    fn inbox(&self) -> Outcome<&Inbox> {
        Ok(self.inbox.get().ok_or("the node is not connected")?)
    }
}

fn memory() -> Result<Arc<dyn Driver>> {
    (broker_memory::BACKEND.open)(&BrokerUrl::parse(BUS)?)
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

#[async_trait]
impl Driver for Held {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let inbox = self.inbox.get_or_init(|| context.inbox.clone()).clone();
        let holding = Holding { inbox, frames: Arc::clone(&self.frames) };
        self.driver.connect(context.with_inbox(Inbox::new(holding))).await
    }
}

struct Holding {
    inbox: Inbox,
    frames: Arc<Mutex<Vec<Bytes>>>,
}

impl Sink for Holding {
    fn deliver(&self, arrival: Arrival<'_>) {
        if arrival.channel == CHANNEL {
            self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(arrival.frame);
        } else if !arrival.channel.ends_with("$digests") {
            // A digest would say that what is held back was lost.
            Sink::deliver(&self.inbox, arrival);
        }
    }

    fn gap(&self, missing: Missing<'_>) {
        Sink::gap(&self.inbox, missing);
    }

    fn unsubscribed(&self, channels: &[ChannelName]) {
        Sink::unsubscribed(&self.inbox, channels);
    }

    fn lost(&self, error: Error) {
        self.inbox.lost(error);
    }
}
