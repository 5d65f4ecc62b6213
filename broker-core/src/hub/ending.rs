//! How the hub ends: everyone reads the rest, or nobody anything more.

use super::{Cursor, Hub, Ring, WakeList, chain};
use crate::{CloseReason, runtime::sync::atomic::Ordering};

impl Hub {
    /// A subscriber has yielded all it had taken.
    #[inline]
    pub(crate) fn released(&self, ring: &Ring, cursor: &Cursor) {
        ring.released(cursor.seat);
    }

    /// Once the hub has ended: a subscriber has nothing to yield just now, or is `finished`.
    #[inline]
    pub(crate) fn note_read(&self, ring: &Ring, cursor: &Cursor, finished: bool) {
        if self.has_ended() && ring.note_read(cursor.seat, finished) {
            self.one_less_owing();
        }
    }

    /// The session of a seat, or its listener, is closed.
    pub(crate) fn close_seat(&self, ring: &Ring, seat: u8, wakes: &mut WakeList) {
        if ring.close_seat(seat, wakes) {
            self.one_less_owing();
        }
    }

    pub(super) fn one_less_owing(&self) {
        if self.owing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.drained.notify_waiters();
        }
    }

    /// Everyone reads the rest and ends; nobody joins any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let mut wakes = WakeList::default();
        for head in self.rings() {
            for ring in chain(&head) {
                // Counted here after some may have read to their end already: the sum is right when this returns.
                let owing = ring.end_and_count(&CloseReason::BrokerClosed, &mut wakes);
                self.owing.fetch_add(owing, Ordering::SeqCst);
            }
        }
        wakes.finish();
    }

    /// Everyone ends now; nothing more is yielded.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.end();
        let mut wakes = WakeList::default();
        for head in self.rings() {
            chain(&head).for_each(|ring| ring.wake_all(&mut wakes));
        }
        wakes.finish();
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// After [`end`](Self::end): returns when every stream has yielded what was there, or is closed, and every
    /// listener has returned from its last call.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.owing.load(Ordering::SeqCst) == 0 {
                return;
            }
            drained.await;
        }
    }
}
