//! Outbox: global posts on their way out, queued, and sent in batches by one writer.
//!
//! Bounded in bytes: a post takes room before it is queued and gives it back with its outcome. It is open
//! only while the link is up; otherwise a post fails at once and nothing is hoarded.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
    time::Instant,
};

use super::{
    batch::{Batch, Completion, interrupted, is_unsent, link_broke},
    own_digests::OwnDigests,
    progress::{Progress, STOPPED, Silence},
    room::Room,
};
use crate::{
    ChannelName, Error, ErrorKind, NodeId, Options, Result,
    driver::{Outgoing, Receipt},
    loss::sequencer::Sequencer,
    runtime::{Runtime, user_code::shielded},
    wire::{encoded::Encoded, names::Names},
};

/// The most a batch holds: enough for one pipeline, short enough to be an even step.
const BATCH_FRAMES: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// How often callers may run before the next batch.
const TURNS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Notified when there is something to send.
    notify: Notify,
    room: Room,
    pub(super) limit: Duration,
    runtime: Runtime,
    pub(super) progress: Progress,
}

#[derive(Debug)]
pub(super) struct State {
    /// Why nothing can be sent; `None` while the link is up.
    shut: Option<Error>,
    /// Nothing new is taken; what is queued still goes out.
    sealed: bool,
    /// The broker's own, ahead of everything else.
    urgent: VecDeque<Pending>,
    pub(super) queue: VecDeque<Pending>,
    /// Of each batch that the writer has taken and not finished, the oldest first: here for the watchdog, too.
    pub(super) under_way: VecDeque<Vec<Completion>>,
    sequencer: Sequencer,
    digests: OwnDigests,
}

/// A frame, and where its outcome goes.
#[derive(Debug)]
pub(super) struct Pending {
    frame: Frame,
    pub(super) completion: Completion,
}

#[derive(Debug)]
pub(super) enum Frame {
    /// Numbered when it is sent.
    Post(ChannelName, Encoded),
    /// The broker's own, as it is.
    Own(Outgoing),
}

/// When a frame of the broker's own is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Before everything that waits.
    Ahead,
    /// After everything that was queued before it.
    InTurn,
}

impl Outbox {
    pub(crate) fn new(options: &Options, node: NodeId, names: Names, runtime: Runtime) -> Self {
        let shut = Some(Error::new(ErrorKind::Unavailable, "there is no link to the backend yet"));
        let state = State {
            shut,
            sealed: false,
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            under_way: VecDeque::new(),
            digests: OwnDigests::new(node, &names, options.digest_interval),
            sequencer: Sequencer::new(names),
        };
        Self {
            state: Mutex::new(state),
            notify: Notify::new(),
            room: Room::new(options.outbox_bytes),
            limit: options.publish_timeout,
            runtime,
            progress: Progress::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a post would be taken now; asked before it is encoded.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().check()
    }

    /// Queues a frame and waits for what becomes of it. Not cancel safe: once queued it may be sent.
    pub(crate) async fn post(&self, channel: &str, frame: Encoded) -> Result<Receipt> {
        let outcome = self.queue(channel, frame).await?;
        self.outcome(outcome).await
    }

    /// The same for a reply to a request, which is taken also while the outbox is sealed: what was received before is
    /// still answered.
    pub(crate) async fn reply(&self, channel: &str, frame: Encoded) -> Result<Receipt> {
        let outcome = self.queue_if(State::is_up, channel, frame).await?;
        self.outcome(outcome).await
    }

    pub(super) async fn outcome(&self, outcome: oneshot::Receiver<Result<Receipt>>) -> Result<Receipt> {
        if self.is_watched() {
            return outcome.await.unwrap_or_else(|_| Err(link_broke()));
        }
        let unwatched = async {
            tokio::select! {
                biased;
                outcome = outcome => outcome.unwrap_or_else(|_| Err(link_broke())),
                error = self.stuck() => Err(error),
            }
        };
        // Boxed, for it is rare and large, and every post's future would be as large.
        Box::pin(unwatched).await
    }

    /// Whether the watchdog ends the caller's posts where the writer does not run. It does where it runs if they do: in
    /// the broker's runtime. Elsewhere each waits for [`stuck`](Self::stuck) as well.
    pub(crate) fn is_watched(&self) -> bool {
        self.progress.is_watched() && self.runtime.is_current()
    }

    /// Queues a frame behind all that were queued before, as soon as there is room. Where its outcome comes from.
    /// Cancel safe: a frame for which there is no room yet is not queued.
    pub(crate) async fn queue(
        &self,
        channel: &str,
        frame: Encoded,
    ) -> Result<oneshot::Receiver<Result<Receipt>>> {
        self.queue_if(State::check, channel, frame).await
    }

    async fn queue_if(
        &self,
        check: fn(&State) -> Result<()>,
        channel: &str,
        frame: Encoded,
    ) -> Result<oneshot::Receiver<Result<Receipt>>> {
        let bytes = frame.size() as u32; // a frame has at most MAX_FRAME
        self.queue_frame(check, bytes, |state| Frame::Post(state.sequencer.share_name(channel), frame)).await
    }

    /// Queues what is made of so many bytes when it is its turn.
    pub(super) async fn queue_frame(
        &self,
        check: fn(&State) -> Result<()>,
        bytes: u32,
        frame: impl FnOnce(&State) -> Frame,
    ) -> Result<oneshot::Receiver<Result<Receipt>>> {
        let (room, turn) = match self.room.take(bytes) {
            Some(room) => (room, None),
            None => {
                check(&self.lock())?;
                // Boxed, for it is rare and large, and every post's future would be as large.
                let (room, turn) =
                    Box::pin(shielded(self.room.wait(bytes, self.limit, &self.runtime))).await?;
                (room, Some(turn))
            }
        };
        let outcome = {
            let mut state = self.lock();
            check(&state)?;
            let (outcome, receiver) = oneshot::channel();
            let frame = frame(&state);
            state.queue.push_back(Pending { frame, completion: Completion::of_post(outcome, room) });
            receiver
        };
        drop(turn);
        self.notify.notify_one();
        Ok(outcome)
    }

    /// Returns when the writer does not run.
    pub(crate) async fn stuck(&self) -> Error {
        let mut silence = Silence::default();
        while !silence.lasts(Some(self.progress.steps())) {
            self.runtime.late(self.limit).await;
        }
        interrupted(STOPPED)
    }

    /// Queues a frame of the broker's own. It has its own numbers and takes no room: there are few.
    /// It is sent also while the outbox is sealed. The outcome of one that is sent in turn comes after the outcomes of
    /// everything before it.
    pub(crate) fn send_control(
        &self,
        wire_name: &ChannelName,
        frame: impl Into<Bytes>,
        priority: Priority,
    ) -> Result<oneshot::Receiver<Result<Receipt>>> {
        let (outcome, receiver) = oneshot::channel();
        let outgoing = Outgoing::new(wire_name.clone(), frame.into());
        let pending = Pending { frame: Frame::Own(outgoing), completion: Completion::new(outcome) };
        {
            let mut state = self.lock();
            if let Some(error) = &state.shut {
                return Err(error.clone());
            }
            match priority {
                Priority::Ahead => state.urgent.push_back(pending),
                Priority::InTurn => state.queue.push_back(pending),
            }
        }
        self.notify.notify_one();
        Ok(receiver)
    }

    /// The link is up. The first digest is sent before any post.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        state.digests.report(Vec::new());
        // Closed for good, it stays so.
        state.shut.take_if(|error| error.kind() != ErrorKind::Closed);
    }

    /// The link is gone: what is queued fails as never sent.
    pub(crate) fn shut(&self, error: &Error) {
        let unsent = {
            let mut state = self.lock();
            // Closed for good, it keeps the reason.
            if state.shut.as_ref().is_none_or(|shut| shut.kind() != ErrorKind::Closed) {
                state.shut = Some(error.clone());
            }
            self.progress.step();
            [mem::take(&mut state.urgent), mem::take(&mut state.queue)]
        };
        for pending in unsent.into_iter().flatten() {
            pending.completion.of(Err(error.clone()));
        }
    }

    /// Sends the outcomes of the oldest batch under way. Returns how many posts were taken.
    pub(super) fn finish(&self, outcomes: Vec<Result<Receipt>>) -> u64 {
        self.progress.step();
        let completion = {
            let mut state = self.lock();
            let completion = state.under_way.pop_front().unwrap_or_default();
            if outcomes.iter().any(is_unsent) {
                for (completion, outcome) in completion.iter().zip(&outcomes).rev() {
                    // Unless the post was told already that it may have been delivered.
                    let free = completion.outcome.is_some() && is_unsent(outcome);
                    if let (Some(number), true) = (&completion.number, free) {
                        state.sequencer.reuse(number);
                    }
                }
            }
            completion
        };
        let mut taken = 0;
        for (completion, outcome) in completion.into_iter().zip(outcomes) {
            taken += u64::from(outcome.is_ok() && completion.number.is_some());
            completion.of(outcome);
        }
        taken
    }

    /// A digest is sent next, if there is something to report: of everything that was sent before it. It answers these
    /// questions.
    pub(crate) fn digest(&self, asked: Vec<u64>) {
        self.lock().digests.report(asked);
        self.notify.notify_one();
    }

    /// From now on this is the time between two digests.
    pub(crate) fn set_digest_interval(&self, interval: Duration) {
        self.lock().digests.set_interval(interval);
    }

    /// When the last round of digests was made, and how long it was.
    pub(crate) fn last_digest(&self) -> Option<(Instant, usize)> {
        self.lock().digests.last()
    }

    /// The last digests, of everything that was sent: the node closes. Nobody looks at what becomes of them.
    pub(crate) fn closing_digests(&self) -> Vec<Outgoing> {
        let mut state = self.lock();
        state.digests.close();
        let mut batch = Batch::default();
        state.add_digests(&mut batch);
        batch.frames
    }

    /// From now on nothing new is taken.
    pub(crate) fn seal(&self) {
        self.lock().sealed = true;
    }

    /// Lets those whose posts have an outcome now run first, as long as each turn brings more posts: callers often post
    /// again at once. Otherwise the first of them would go alone, and all others wait until it has its outcome.
    pub(crate) async fn gather(&self, posts: usize) {
        if posts < 2 {
            return;
        }
        let mut before = 0;
        for _ in 0..TURNS {
            yield_now().await;
            let waiting = self.lock().queue.len();
            if waiting <= before || waiting >= posts {
                return;
            }
            before = waiting;
        }
    }

    /// Waits for something to send: then a batch is under way. Cancel safe.
    pub(super) async fn batch(&self) -> Vec<Outgoing> {
        loop {
            let frames = self.lock().take_batch();
            if !frames.is_empty() {
                self.progress.step();
                return frames;
            }
            self.notify.notified().await;
        }
    }

    /// The writer has ended: what was under way is interrupted.
    pub(super) fn break_off(&self) {
        let _broken = mem::take(&mut self.lock().under_way); // dropped after the lock: it wakes those who wait
    }
}

impl State {
    pub(super) fn check(&self) -> Result<()> {
        if self.sealed { Err(Error::draining()) } else { self.is_up() }
    }

    fn is_up(&self) -> Result<()> {
        self.shut.clone().map_or(Ok(()), Err)
    }

    fn take_batch(&mut self) -> Vec<Outgoing> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.frames.len() < BATCH_FRAMES && bytes < BATCH_BYTES {
            let urgent = self.urgent.pop_front();
            if urgent.is_none() && self.digests.take_due() {
                self.add_digests(&mut batch);
            }
            let Some(Pending { frame, mut completion }) = urgent.or_else(|| self.queue.pop_front()) else {
                break;
            };
            let outgoing = match frame {
                Frame::Own(outgoing) => outgoing,
                Frame::Post(channel, frame) => {
                    if self.sequencer.would_begin_epoch(&channel) {
                        self.add_digests(&mut batch);
                    }
                    let (outgoing, number) = self.sequencer.assign(channel, frame);
                    completion.number = Some(number);
                    outgoing
                }
            };
            bytes += outgoing.size();
            batch.add(outgoing, completion);
        }
        if !batch.frames.is_empty() {
            self.under_way.push_back(batch.completion);
        }
        batch.frames
    }

    /// The next round of digests.
    fn add_digests(&mut self, batch: &mut Batch) {
        self.digests.add_to(batch, &mut self.sequencer);
    }
}
