//! Member: one channel of a set. It is the waker of its own seat: what is posted is taken at once, into the set's queue.

use std::{
    cell::Cell,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use super::queue::{Count, Queue, Queued};
use crate::{
    CloseReason,
    hub::{Cursor, Entry, Hub, Ring, WakeList},
    runtime::sync::{Mutex, MutexGuard},
};

/// How many entries one look into the ring takes at most.
const BATCH: usize = 32;
/// How many looks a publisher takes. What is still there then waits until the reader looks.
const LOOKS: usize = 4;

thread_local! {
    /// What each post would else allocate.
    static SPARE: Cell<Vec<Entry>> = const { Cell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) ring: Arc<Ring>,
    pub(super) seat: u8,
    /// Entries of it that the queue has. Changed under the queue's lock, and made more under the place's, too.
    queued: Count,
    queue: Arc<Queue<Self>>,
    place: Mutex<Place>,
}

#[derive(Debug)]
struct Place {
    /// `None` once it has left.
    cursor: Option<Cursor>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It yields nothing yet: the channel is not confirmed.
    Joining,
    Live,
    /// Its ring has ended, and all that was in it is taken.
    Ended,
}

impl Member {
    pub(super) fn new(ring: Arc<Ring>, cursor: Cursor, queue: Arc<Queue<Self>>) -> Self {
        let (seat, queued) = (cursor.seat, Count::default());
        let place = Mutex::new(Place { cursor: Some(cursor), stage: Stage::Joining });
        Self { ring, seat, queued, queue, place }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel is subscribed. Forgets what arrived before, as [`begin_here`](crate::Subscription) does.
    pub(super) fn begin(self: &Arc<Self>, confirmed: bool) {
        let mut wakes = WakeList::default();
        {
            let mut place = self.lock();
            let Place { cursor: Some(cursor), stage } = &mut *place else { return };
            if confirmed {
                self.ring.skip_into(cursor, &mut wakes.garbage);
                self.ring.begin(cursor.seat, false);
            }
            *stage = Stage::Live;
            self.queue.add();
        }
        wakes.finish();
        Arc::clone(self).wake();
    }

    /// Takes what the ring has into the queue, and waits for more.
    pub(super) fn take(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let (mut cx, mut wakes) = (Context::from_waker(&waker), WakeList::default());
        let mut batch = SPARE.try_with(Cell::take).unwrap_or_default();
        {
            let mut place = self.lock();
            let Place { cursor: Some(cursor), stage: stage @ Stage::Live } = &mut *place else { return };
            let looks = if self.queue.latest { 1 } else { LOOKS };
            let mut last = Poll::Ready(Ok(()));
            for _ in 0..looks {
                let (passed_over, garbage) =
                    (|message: &_| self.queue.passes_over(message), &mut wakes.garbage);
                last = self.ring.take_and_skip(cursor, &mut batch, BATCH, passed_over, garbage, &mut cx);
                let Poll::Ready(Ok(())) = last else { break };
                // In the order of the ring, since the place is locked.
                self.queue.push(self, &mut batch, &mut wakes);
            }
            // All of it may have been passed over.
            self.release_at(cursor);
            match last {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.queue.set_ready(self, &mut wakes),
                Poll::Ready(Err(reason)) => {
                    *stage = Stage::Ended;
                    self.queue.end(self, reason, &mut wakes);
                }
            }
        }
        // Empty again; a thread that ends has no place for it.
        let _ = SPARE.try_with(|spare| spare.set(batch));
        wakes.finish();
    }

    /// The reader has yielded everything of it that was queued: a drain need not wait for it any more.
    #[inline]
    pub(super) fn release(&self) {
        if self.queued.is_empty()
            && let Some(cursor) = &self.lock().cursor
        {
            self.release_at(cursor);
        }
    }

    /// The same, with the place locked, so that nothing is added meanwhile.
    fn release_at(&self, cursor: &Cursor) {
        if self.queued.is_empty() {
            self.queue.hub.released(&self.ring, cursor);
            self.queue.hub.note_read(&self.ring, cursor, false);
        }
    }

    /// The set is closed: a drain does not wait for it.
    pub(super) fn finish(&self, hub: &Hub) {
        if let Some(cursor) = &self.lock().cursor {
            hub.note_read(&self.ring, cursor, true);
        }
    }

    /// Gives its seat back. True when the channel has no subscriber left here.
    pub(super) fn leave(self: &Arc<Self>, hub: &Hub) -> bool {
        let mut wakes = WakeList::default();
        let cursor = {
            let mut place = self.lock();
            let cursor = place.cursor.take();
            if cursor.is_some() {
                self.queue.remove(self, place.stage == Stage::Live, &mut wakes);
            }
            cursor
        };
        wakes.finish();
        cursor.is_some_and(|cursor| hub.leave(&self.ring, &cursor))
    }

    /// Why its ring has ended, if the backend refused the channel.
    pub(super) fn refusal(&self) -> Option<crate::Error> {
        match self.ring.end_reason() {
            Some(CloseReason::Refused(error)) => Some(error),
            _ => None,
        }
    }
}

impl Queued for Member {
    fn queued(&self) -> &Count {
        &self.queued
    }
}

impl Wake for Member {
    /// No lock is held: the hub wakes after it has released all of its own.
    fn wake(self: Arc<Self>) {
        if !self.queue.latest {
            return self.take();
        }
        let mut wakes = WakeList::default();
        {
            let place = self.lock();
            if place.cursor.is_some() && place.stage == Stage::Live {
                self.queue.set_ready(&self, &mut wakes);
            }
        }
        wakes.finish();
    }
}
