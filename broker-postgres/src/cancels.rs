//! Cancels: how a statement of a session that takes too long is ended at the server.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{sync::Semaphore, time::sleep};

use crate::session::{Session, Way};

/// How long after a request the statement may take to end, before there is another request.
const AGAIN: Duration = Duration::from_millis(100);

/// The requests for one session.
pub(crate) struct Cancels {
    /// Whose turn it is: many calls may be late at once, and a request ends one statement.
    turn: Semaphore,
    /// How many there were.
    asked: AtomicU32,
}

impl Cancels {
    pub(crate) fn new() -> Self {
        Self { turn: Semaphore::new(1), asked: AtomicU32::new(0) }
    }

    /// Asks the server to end the statement that the session is at, again and again: a request may come too late on a busy server, or
    /// end the statement before the one it is for. Ends by being dropped.
    pub(crate) async fn keep_asking(&self, way: &Way, session: &Session) -> Infallible {
        // Nobody closes it.
        let _turn = self.turn.acquire().await;
        loop {
            self.asked.fetch_add(1, Ordering::Relaxed);
            way.cancel(session).await;
            sleep(AGAIN).await;
        }
    }

    /// To be given to [`may_have_hit`](Self::may_have_hit) when a statement that began here was cancelled.
    pub(crate) fn mark(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether it may have been by a request from here.
    pub(crate) fn may_have_hit(&self, mark: u32) -> bool {
        self.mark() != mark || self.turn.available_permits() == 0
    }
}
