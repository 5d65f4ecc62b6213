//! Timers: when a call ends by itself.

use std::{
    pin::Pin,
    task::Context,
    time::{Duration, SystemTime},
};

use broker_streams_wire::Cause;
use futures_util::FutureExt;
use tokio::time::{Instant, Sleep, sleep_until};

/// When a call ends by itself. A timer that is not set costs nothing.
#[derive(Default)]
pub(crate) struct Timers {
    deadline: Option<Pin<Box<Sleep>>>,
    expiry: Option<Pin<Box<Sleep>>>,
    idle: Option<Idle>,
}

/// Ends a call of which no frame is sent or received for some time.
struct Idle {
    time: Duration,
    last: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Idle {
    /// Whether the time is over. What has happened meanwhile is looked at only when the time of what was before it is.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        while self.sleep.poll_unpin(cx).is_ready() {
            match self.last.checked_add(self.time).filter(|until| *until > Instant::now()) {
                Some(until) => self.sleep.as_mut().reset(until),
                None => return true,
            }
        }
        false
    }
}

impl Timers {
    /// The time that the call is given, from its open on.
    pub(crate) fn set_deadline(&mut self, began: Instant, life: Duration) {
        // What lies beyond the end of the clock is no limit.
        self.deadline = began.checked_add(life).map(|at| Box::pin(sleep_until(at)));
    }

    /// Until when the authentication is valid; `None`: without end.
    pub(crate) fn set_expiry(&mut self, until: Option<SystemTime>) {
        self.expiry = until.and_then(instant_of).map(|at| Box::pin(sleep_until(at)));
    }

    /// The time that may pass without a frame.
    pub(crate) fn set_idle(&mut self, time: Duration) {
        let last = Instant::now();
        self.idle = last.checked_add(time).map(|at| Idle { time, last, sleep: Box::pin(sleep_until(at)) });
    }

    /// A frame was sent or received.
    pub(crate) fn touch(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.last = Instant::now();
        }
    }

    /// Which time is over, if one is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        if self.idle.as_mut().is_some_and(|idle| idle.poll(cx)) {
            return Some(Cause::Deadline);
        }
        let timers = [(&mut self.deadline, Cause::Deadline), (&mut self.expiry, Cause::Expired)];
        timers.into_iter().find_map(|(timer, cause)| {
            timer.as_mut().is_some_and(|timer| timer.poll_unpin(cx).is_ready()).then_some(cause)
        })
    }

    /// The time that is left.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let timers = [&self.deadline, &self.expiry].into_iter().flatten();
        let next = timers.map(|timer| timer.deadline()).min();
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }
}

/// The moment of a time of day; now for one that is past, `None` for one beyond the end of the clock.
pub(crate) fn instant_of(time: SystemTime) -> Option<Instant> {
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}
