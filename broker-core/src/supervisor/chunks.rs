//! Chunks: how many channels go into one subscribe call. Few at first while a link is brought up, and as many as the server
//! confirms in good time.
//!
//! A call that takes longer than its limit ends the link, and all that was subscribed through it is to be asked for again. When
//! many nodes come back at once, each waits for the names of all others as well: with the most in every first
//! call none would be confirmed in time, for ever. With few each gets on, however slow the server is.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// The most that the contract of a driver allows.
pub(crate) const MOST: usize = 1000;
/// How many go into the first call of a link.
const FIRST: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    size: AtomicUsize,
    /// Some call of this link has taken long.
    slow: AtomicBool,
}

impl Chunks {
    /// A link begins.
    pub(super) fn begin(&self) {
        self.size.store(FIRST, Relaxed);
        self.slow.store(false, Relaxed);
    }

    /// The link is up: what is subscribed from here on is what somebody asks for just now, and waits for.
    pub(super) fn is_up(&self) {
        if !self.slow.load(Relaxed) {
            self.size.store(MOST, Relaxed);
        }
    }

    /// How many go into the next call.
    fn size(&self) -> usize {
        self.size.load(Relaxed).max(1)
    }

    /// What goes into the next call, of the rest; `None` when there is no more.
    pub(super) fn take<'a, T>(&self, rest: &mut &'a [T]) -> Option<&'a [T]> {
        let (chunk, more) = rest.split_at(self.size().min(rest.len()));
        *rest = more;
        (!chunk.is_empty()).then_some(chunk)
    }

    /// A call with so many has taken so long, of the longest time that it may take.
    pub(super) fn confirmed(&self, count: usize, took: Duration, limit: Duration) {
        let size = self.size();
        if took > limit / 16 {
            self.slow.store(true, Relaxed);
        }
        if took > limit / 4 {
            self.size.store(size.min(count) / 2, Relaxed);
        } else if took < limit / 16 && count >= size {
            self.size.store((size * 2).min(MOST), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_quick_server_soon_gets_the_most_and_a_slow_one_fewer() {
        let chunks = Chunks::default();
        chunks.begin();
        let mut calls = 0;
        while chunks.size() < MOST {
            chunks.confirmed(chunks.size(), Duration::from_millis(1), LIMIT);
            calls += 1;
        }
        assert_eq!(calls, 6);
        chunks.confirmed(3, Duration::from_millis(1), LIMIT);
        assert_eq!(chunks.size(), MOST, "a short one says nothing");
        chunks.confirmed(MOST, LIMIT / 8, LIMIT);
        assert_eq!(chunks.size(), MOST, "as it should be");
        chunks.confirmed(MOST, LIMIT / 2, LIMIT);
        assert_eq!(chunks.size(), MOST / 2);
        for _ in 0..20 {
            chunks.confirmed(chunks.size(), LIMIT / 2, LIMIT);
        }
        assert_eq!(chunks.size(), 1, "never none");
        chunks.begin();
        assert_eq!(chunks.size(), FIRST);
    }

    #[test]
    fn once_a_link_is_up_the_most_is_asked_for_at_once_unless_that_was_slow() {
        let chunks = Chunks::default();
        chunks.begin();
        chunks.confirmed(3, LIMIT / 100, LIMIT);
        assert_eq!(chunks.size(), FIRST);
        chunks.is_up();
        assert_eq!(chunks.size(), MOST);
        chunks.begin();
        chunks.confirmed(FIRST, LIMIT / 8, LIMIT);
        chunks.is_up();
        assert_eq!(chunks.size(), FIRST);
    }
}
