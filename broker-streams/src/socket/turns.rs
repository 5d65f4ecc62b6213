//! Turns: how the task of a socket runs.

use std::task::{Context, Poll};

use super::{link::Ending, outbox::Outbox};

/// Turns before other tasks have theirs.
const TURNS: usize = 16;

/// What comes after a turn.
pub(crate) enum Turn {
    Again,
    /// Again, when other tasks have had their turns.
    Yield,
    Wait {
        can_write: bool,
    },
}

/// What runs in turns, on the task of a socket.
pub(crate) trait Turns {
    fn outbox(&self) -> &Outbox;

    /// Reads, works, writes, and looks at the clock.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Ending>;

    /// Ready when the socket is to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.outbox().begin(cx);
        for _ in 0..TURNS {
            self.outbox().clear();
            match self.turn(cx) {
                Ok(Turn::Again) => {}
                Ok(Turn::Yield) => break,
                Ok(Turn::Wait { can_write }) if self.outbox().may_wait(can_write) => return Poll::Pending,
                Ok(Turn::Wait { .. }) => {}
                Err(ending) => return Poll::Ready(ending),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
