//! Node: one broker with listeners and posts, and what its listeners were told.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{Broker, ChannelName, ChannelSet, GapCause, Options, Result, Scope, Session, SetEvent};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{Server, driver::SimulatedDriver};

/// How often a node posts: a part of what it has to post in [`ROUND`].
const TICK: Duration = Duration::from_millis(100);
/// In which time a node posts once on each of its active channels.
pub(crate) const ROUND: Duration = Duration::from_secs(5);

/// What the listeners of a node were told.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) messages: AtomicU64,
    /// Gaps after a lost link.
    pub(crate) lost: AtomicU64,
    /// Gaps for any other reason: nothing is lost here while a link lives.
    pub(crate) needless: AtomicU64,
    /// When the last gap after a lost link was told.
    told: Mutex<Option<Instant>>,
}

impl Heard {
    fn note(&self, event: &SetEvent) {
        match event {
            SetEvent::Message(_) => _ = self.messages.fetch_add(1, Relaxed),
            SetEvent::Gap(gap) if gap.cause == GapCause::LinkLost => {
                self.lost.fetch_add(1, Relaxed);
                *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
            _ => _ = self.needless.fetch_add(1, Relaxed),
        }
    }

    pub(crate) fn told(&self) -> Option<Instant> {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of what a node listens to.
struct Change {
    leave: Vec<ChannelName>,
    join: Vec<ChannelName>,
    done: oneshot::Sender<Result<()>>,
}

/// See the module.
pub(crate) struct Node {
    broker: Broker,
    /// Its end would end the listeners.
    _session: Session,
    pub(crate) heard: Arc<Heard>,
    pub(crate) channels: Vec<ChannelName>,
    changes: mpsc::Sender<Change>,
    posting: Option<JoinHandle<()>>,
}

impl Node {
    /// A node that listens to these channels; when all of them are subscribed.
    pub(crate) async fn start(server: &Server, options: Options, channels: Vec<ChannelName>) -> Result<Self> {
        let broker = Broker::start(SimulatedDriver::of(server), options)?;
        broker.ready().await?;
        let session = broker.session();
        let mut set = session.channel_set();
        set.join_all(&channels).await?;
        let heard = Arc::new(Heard::default());
        let (changes, orders) = mpsc::channel(1);
        tokio::spawn(read(set, orders, Arc::clone(&heard)));
        Ok(Self { broker, _session: session, heard, channels, changes, posting: None })
    }

    /// From now on posts on so many of its channels, one after the other, all of them in [`ROUND`]; begins after a while.
    pub(crate) fn post_on(&mut self, active: usize, after: Duration) {
        let channels: Vec<_> = self.channels.iter().take(active).cloned().collect();
        let posting = post(self.broker.clone(), channels, after);
        if let Some(earlier) = self.posting.replace(tokio::spawn(posting)) {
            earlier.abort();
        }
    }

    /// Leaves some of its channels for others; when those are subscribed.
    pub(crate) async fn change(&mut self, count: usize, join: Vec<ChannelName>) -> Result<()> {
        let leave: Vec<_> = self.channels.drain(..count.min(self.channels.len())).collect();
        self.channels.extend(join.iter().cloned());
        let (done, changed) = oneshot::channel();
        // The reader lives as long as this node.
        if self.changes.send(Change { leave, join, done }).await.is_ok()
            && let Ok(outcome) = changed.await
        {
            return outcome;
        }
        Ok(())
    }

    pub(crate) async fn end(self) {
        if let Some(posting) = self.posting {
            posting.abort();
        }
        self.broker.close().await;
    }
}

async fn read(mut set: ChannelSet, mut changes: mpsc::Receiver<Change>, heard: Arc<Heard>) {
    loop {
        tokio::select! {
            biased;
            event = set.next() => match event {
                Some((_, event)) => heard.note(&event),
                None => return,
            },
            change = changes.recv() => {
                let Some(Change { leave, join, done }) = change else { return };
                leave.iter().for_each(|channel| _ = set.leave(channel));
                // Whoever asked may be gone.
                let _ = done.send(set.join_all(&join).await);
            }
        }
    }
}

async fn post(broker: Broker, channels: Vec<ChannelName>, after: Duration) {
    if channels.is_empty() {
        return;
    }
    sleep(after).await;
    let payload = Bytes::from_static(&[b'x'; 64]);
    let (begun, mut posted) = (Instant::now(), 0);
    loop {
        sleep(TICK).await;
        let due = (begun.elapsed().as_secs_f64() / ROUND.as_secs_f64() * channels.len() as f64) as usize;
        let posts = (posted..due).map(|number| {
            let channel = &channels[number % channels.len()];
            broker.publish(channel, payload.clone(), Scope::Global)
        });
        // One that finds no link fails: the next one is tried all the same.
        join_all(posts).await;
        posted = due;
    }
}
