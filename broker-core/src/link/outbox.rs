//! Outbox: global posts on their way out, numbered and queued in one step, sent in batches by one writer.
//!
//! Bounded in bytes: a post takes room before it is queued and gives it back with its outcome. It is open
//! only while the link is up; otherwise a post fails at once and nothing is hoarded.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::names::Names;
use crate::{
    ChannelName, Error, ErrorKind, Result,
    driver::Outgoing,
    frame::{self, Stamp},
};

/// The most a batch holds: enough for one pipeline, short enough to be an even step.
const BATCH_FRAMES: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// How many channels have a counter. One more, and the node forgets them all and begins a new epoch.
const COUNTERS: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Rung when there is something to send.
    bell: Notify,
    /// One permit for each byte that may wait.
    room: Arc<Semaphore>,
    /// How many posts wait for room, or have it and are not queued yet: nobody gets ahead of them. And whose turn it
    /// is; the semaphore has an order too, but does not wait until the one before is queued.
    waiting: AtomicUsize,
    first: tokio::sync::Mutex<()>,
    limit: Duration,
    names: Names,
}

#[derive(Debug)]
struct State {
    /// Why nothing can be sent; `None` while the link is up.
    shut: Option<Error>,
    /// Nothing new is taken; what is queued still goes out.
    sealed: bool,
    /// The broker's own, ahead of everything else.
    urgent: VecDeque<Pending>,
    queue: VecDeque<Pending>,
    number: u64,
    epoch: u32,
    counters: HashMap<ChannelName, Counter>,
}

#[derive(Debug)]
struct Counter {
    wire_name: ChannelName,
    last: u64,
}

/// A frame and whom to tell what became of it. Dropped without an outcome it counts as interrupted.
#[derive(Debug)]
pub(super) struct Pending {
    outgoing: Outgoing,
    outcome: oneshot::Sender<Result<()>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Outbox {
    pub(crate) fn new(bytes: usize, limit: Duration, names: Names) -> Self {
        let shut = Some(Error::new(ErrorKind::Unavailable, "there is no link to the backend yet"));
        let state = State {
            shut,
            sealed: false,
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            number: 0,
            epoch: 1,
            counters: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            bell: Notify::new(),
            room: Arc::new(Semaphore::new(bytes)),
            waiting: AtomicUsize::new(0),
            first: tokio::sync::Mutex::new(()),
            limit,
            names,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a post would be taken now; asked before it is encoded.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().check()
    }

    /// Queues a frame and waits for what becomes of it. Not cancel safe: once queued it may be sent.
    pub(crate) async fn post(&self, channel: &str, frame: BytesMut) -> Result<()> {
        let bytes = frame.len() as u32; // a frame has at most MAX_FRAME
        let (room, turn) = match self.free_room(bytes) {
            Some(room) => (room, None),
            None => {
                self.check()?;
                let (room, turn) = self.wait_for_room(bytes).await?;
                (room, Some(turn))
            }
        };
        let outcome = {
            let mut state = self.lock();
            state.check()?;
            let (outcome, receiver) = oneshot::channel();
            let outgoing = state.number_frame(channel, frame, &self.names);
            state.queue.push_back(Pending { outgoing, outcome, _room: Some(room) });
            receiver
        };
        drop(turn);
        self.bell.notify_one();
        await_outcome(outcome).await
    }

    /// Room for a frame, if there is some and nobody waits for it.
    fn free_room(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let nobody_waits = self.waiting.load(Acquire) == 0;
        nobody_waits.then(|| Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()).flatten()
    }

    /// Room for a frame, in turn: whoever began to wait later is queued later. The turn ends when it is dropped.
    async fn wait_for_room(&self, bytes: u32) -> Result<(OwnedSemaphorePermit, Turn<'_>)> {
        self.waiting.fetch_add(1, AcqRel);
        let mut turn = Turn { waiting: &self.waiting, _first: None };
        let room = async {
            turn._first = Some(self.first.lock().await);
            Arc::clone(&self.room).acquire_many_owned(bytes).await
        };
        match timeout(self.limit, room).await {
            Ok(Ok(room)) => Ok((room, turn)),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "no room for {bytes} bytes within {:?}: too much waits to be sent; post less, or raise outbox_bytes",
                    self.limit
                ),
            )),
        }
    }

    /// Queues a frame of the broker's own. It has its own numbering and takes no room: there are few.
    /// `urgent` ones overtake everything; the others go in turn, also while the outbox is sealed, and their
    /// outcome is told after those of everything before them.
    pub(crate) fn post_own(
        &self,
        wire_name: &ChannelName,
        frame: BytesMut,
        urgent: bool,
    ) -> Result<oneshot::Receiver<Result<()>>> {
        let (outcome, receiver) = oneshot::channel();
        let outgoing = Outgoing::new(wire_name.clone(), frame.freeze());
        let pending = Pending { outgoing, outcome, _room: None };
        {
            let mut state = self.lock();
            if let Some(error) = &state.shut {
                return Err(error.clone());
            }
            if urgent { state.urgent.push_back(pending) } else { state.queue.push_back(pending) }
        }
        self.bell.notify_one();
        Ok(receiver)
    }

    /// The link is up.
    pub(super) fn open(&self) {
        self.lock().shut = None;
    }

    /// The link is gone: what is queued fails as never sent.
    pub(super) fn shut(&self, error: &Error) {
        let unsent = {
            let mut state = self.lock();
            state.shut = Some(error.clone());
            [mem::take(&mut state.urgent), mem::take(&mut state.queue)]
        };
        for pending in unsent.into_iter().flatten() {
            let _ = pending.outcome.send(Err(error.clone()));
        }
    }

    /// From now on nothing new is taken.
    pub(crate) fn seal(&self) {
        self.lock().sealed = true;
    }

    /// Waits for something to send. Cancel safe.
    pub(super) async fn batch(&self) -> Vec<Pending> {
        loop {
            let batch = self.lock().take_batch();
            if !batch.is_empty() {
                return batch;
            }
            self.bell.notified().await;
        }
    }
}

/// A post that waits for room, or has it and is not queued yet.
struct Turn<'a> {
    waiting: &'a AtomicUsize,
    _first: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, AcqRel);
    }
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.shut {
            _ if self.sealed => Err(Error::closed()),
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Under the same lock as queueing, so that numbers and the order on the wire agree.
    fn number_frame(&mut self, channel: &str, mut frame: BytesMut, names: &Names) -> Outgoing {
        self.number += 1;
        if self.counters.len() >= COUNTERS && !self.counters.contains_key(channel) {
            self.counters = HashMap::new();
            self.epoch += 1;
        }
        // Two look-ups for a new channel, so that a known one costs no allocation.
        if !self.counters.contains_key(channel) {
            let counter = Counter { wire_name: names.to_wire(channel), last: 0 };
            self.counters.insert(ChannelName::internal(channel), counter);
        }
        let (sequence, wire_name) = match self.counters.get_mut(channel) {
            Some(counter) => {
                counter.last += 1;
                (counter.last, counter.wire_name.clone())
            }
            None => (1, names.to_wire(channel)),
        };
        frame::stamp(&mut frame, Stamp { number: self.number, epoch: self.epoch, sequence });
        Outgoing::new(wire_name, frame.freeze())
    }

    fn take_batch(&mut self) -> Vec<Pending> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while batch.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
            let Some(pending) = self.urgent.pop_front().or_else(|| self.queue.pop_front()) else { break };
            bytes += pending.outgoing.frame.len();
            batch.push(pending);
        }
        batch
    }
}

/// Splits a batch into what the link sends and whom to tell.
pub(super) fn split(batch: Vec<Pending>) -> (Vec<Outgoing>, Vec<impl FnOnce(Result<()>)>) {
    batch
        .into_iter()
        .map(|Pending { outgoing, outcome, _room }| {
            let tell = move |result| {
                let _ = outcome.send(result);
                drop(_room);
            };
            (outgoing, tell)
        })
        .unzip()
}

async fn await_outcome(outcome: oneshot::Receiver<Result<()>>) -> Result<()> {
    outcome.await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Interrupted,
            "the link broke while the message was under way: it may or may not have been delivered",
        ))
    })
}
