//! Gate: how whoever ends a listener and the listener's task agree on which call is the last to begin.
//!
//! The task announces a call, then looks whether the gate is closed; who ends the listener closes the gate, then looks
//! for a call that is announced. One of the two sees the other, so a call that begins is either seen, and waited for
//! until it has begun, or does not begin. It has begun when the function has returned its future and that was polled
//! once: no earlier moment can be told from outside.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::runtime::sync::{
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread_mark, yield_now,
};

/// How long the end of a listener waits for a call to have begun. A function that blocks its thread for longer before
/// its first await, perhaps for a lock that the waiting thread holds, has begun by then.
const LIMIT: Duration = Duration::from_millis(100);
/// How often to look before the thread gives way to others, and before it sleeps in between.
const SPINS: u32 = 64;
const YIELDS: u32 = 512;
const NAP: Duration = Duration::from_micros(50);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
    /// The thread on which a call is beginning; 0 when none is.
    beginning: AtomicUsize,
}

/// A call is beginning, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a Gate);

impl Gate {
    /// Announces that a call begins on this thread; `None` when the gate is closed.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        self.beginning.swap(thread_mark(), SeqCst);
        let entered = Entered(self);
        (!self.closed.load(SeqCst)).then_some(entered)
    }

    /// From now on no call is announced that begins. One that was announced may still begin:
    /// [`wait_for_calls`](Self::wait_for_calls).
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Blocks until no call of these closed gates is beginning, but for one on this very thread: that one is running,
    /// and is who waits.
    pub(crate) fn wait_for_calls(gates: &[Arc<Self>]) {
        let me = thread_mark();
        let mut wait = Wait::default();
        for gate in gates {
            let others = |caller: usize| caller != 0 && caller != me;
            while others(gate.beginning.load(SeqCst)) && wait.turn() {}
        }
        if wait.is_over() {
            tracing::warn!(
                "a listener has blocked its thread for {LIMIT:?} before its first await, perhaps on a lock held by the \
                 code that ends it; not waiting any longer"
            );
        }
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.beginning.store(0, SeqCst);
    }
}

/// A wait that is nearly always over at once, and bounded.
#[derive(Default)]
struct Wait {
    turns: u32,
    end: Option<Instant>,
}

impl Wait {
    /// Gives others time; whether to look again.
    fn turn(&mut self) -> bool {
        self.turns = self.turns.saturating_add(1);
        match self.turns {
            _ if cfg!(shuttle) => yield_now(), // time has no meaning there
            ..SPINS => std::hint::spin_loop(),
            SPINS..YIELDS => yield_now(),
            _ => std::thread::sleep(NAP),
        }
        if self.turns < SPINS || cfg!(shuttle) {
            return true;
        }
        self.end.get_or_insert_with(|| Instant::now() + LIMIT);
        !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_admits_no_call() {
        let gate = Gate::default();
        drop(gate.enter().expect("it is open"));
        gate.close();
        assert!(gate.enter().is_none());
        Gate::wait_for_calls(&[Arc::new(gate)]); // nobody is left inside
    }

    #[cfg(not(shuttle))]
    #[test]
    fn closing_from_within_a_call_does_not_wait_for_itself() {
        let gates = [Arc::new(Gate::default())];
        let entered = gates[0].enter().expect("it is open");
        gates[0].close();
        let begun = Instant::now();
        Gate::wait_for_calls(&gates);
        assert!(begun.elapsed() < LIMIT, "it waited for its own call");
        // Another thread waits, and gives up: the call may block on what that thread holds.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Gate::wait_for_calls(&gates));
            waiting.join().expect("it gives up");
        });
        drop(entered);
    }
}
