//! Timers: what a call waits for, and what happens when that does not come in time.

use tokio::time::Instant;

use broker_streams_wire::{Cause, Why};

use crate::{
    CallError,
    calls::{Call, Phase},
    connection::Connection,
    serve::Session,
};

impl Call {
    /// The first moment at which something is due.
    fn due(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::New(at) => at,
            Phase::Opening(until) | Phase::Resuming(until) => Some(until),
            Phase::Asking | Phase::Open | Phase::Parked => None,
        };
        [self.options.deadline, self.look_at, phase].into_iter().flatten().min()
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.options.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl Connection {
    /// Does what is due for one call, and sets the timer for what comes next.
    pub(crate) fn call_timer(&mut self, session: &mut Session, key: u64, now: Instant) {
        let Some(call) = self.calls.get(&key) else { return };
        if call.is_overdue(now) {
            return self.give_up(session, key, deadline());
        }
        match call.phase {
            Phase::New(Some(at)) if at <= now && session.bye.is_none() => self.begin(session, key, now),
            Phase::Opening(until) if until <= now => self.give_up(session, key, CallError::OpenTimedOut),
            Phase::Resuming(until) if until <= now => {
                session.socket.release();
                self.reopen(session, key, now);
            }
            _ if call.look_at.is_some_and(|at| at <= now) => self.look(session, key, now),
            _ => {}
        }
        if let Some(at) = self.calls.get(&key).and_then(Call::due).filter(|at| *at > now) {
            session.wake_at(at);
        }
    }

    /// Ends the calls whose time is over while there is no socket.
    pub(crate) fn end_overdue(&mut self, now: Instant) {
        for call in self.remove_where(|call| call.is_overdue(now)) {
            call.end(Err(deadline()));
        }
    }
}

/// As the server closes a call whose time is over.
fn deadline() -> CallError {
    let Why { cause, again, .. } = Why::new(Cause::Deadline);
    CallError::Closed { why: Some(cause), again }
}
