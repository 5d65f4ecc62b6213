//! Clock: what a socket does when time has passed.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Limits;

/// Moments at which something is due, behind one timer.
pub(crate) struct Clock {
    timer: Pin<Box<Sleep>>,
    pub(crate) last_read: Instant,
    /// No frame has arrived yet.
    pub(crate) first_frame: Option<Instant>,
    ping: Instant,
    silence: Instant,
    /// Since then nothing could be written.
    pub(crate) stall: Option<Instant>,
    /// Until then the socket is not read.
    pub(crate) hold: Option<Instant>,
    /// Then clients are told what was consumed.
    pub(crate) news: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    FirstFrame,
    Ping,
    Silence,
    Stall,
    Hold,
    News,
}

impl Clock {
    pub(crate) fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        let (first, ping, silence) = (now + limits.first_frame, now + limits.ping, now + limits.silence);
        Self {
            timer: Box::pin(sleep_until(first.min(ping).min(silence))),
            last_read: now,
            first_frame: Some(first),
            ping,
            silence,
            stall: None,
            hold: None,
            news: None,
        }
    }

    /// What is due, and the timer for what is next. Each is due once; what counts from an event has to be set again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Due> {
        loop {
            let next = self.next();
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            if self.timer.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(due) = self.due(Instant::now(), limits) {
                return Poll::Ready(due);
            }
        }
    }

    fn next(&self) -> Instant {
        let maybe = [self.first_frame, self.stall, self.hold, self.news];
        maybe.into_iter().flatten().fold(self.ping.min(self.silence), Instant::min)
    }

    fn due(&mut self, now: Instant, limits: &Limits) -> Option<Due> {
        let maybe = [
            (&mut self.first_frame, Due::FirstFrame),
            (&mut self.stall, Due::Stall),
            (&mut self.hold, Due::Hold),
            (&mut self.news, Due::News),
        ];
        for (moment, due) in maybe {
            if moment.is_some_and(|moment| moment <= now) {
                *moment = None;
                return Some(due);
            }
        }
        if self.silence <= now {
            // Moved only here, not with each frame.
            self.silence = self.last_read + limits.silence;
            if self.silence <= now {
                self.silence = now + limits.silence;
                return Some(Due::Silence);
            }
        }
        if self.ping <= now {
            self.ping = now + limits.ping;
            return Some(Due::Ping);
        }
        None
    }
}
