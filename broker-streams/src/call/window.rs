//! Window: what was sent of a call's stream, and how much of it the client has consumed.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
    time::Duration,
};

use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// After so much a call gives way to the others of its socket.
const BURST_FRAMES: u32 = 32;
const BURST_BYTES: usize = 16 << 10;

/// What was sent of a call's stream, and how much of it the client has consumed.
pub(crate) struct Window {
    /// `None` for a client that does not say what it has consumed.
    size: Option<Size>,
    /// Frames sent, and of these, consumed by the client's application.
    sent: u64,
    got: u64,
    /// The frames between.
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    /// Whether these frames are kept, to be sent once more on another socket.
    keeps: bool,
    waiting: SmallVec<[Waker; 1]>,
    /// Since when a frame waits for room.
    full_since: Option<Instant>,
    /// Frames and bytes since the call last gave way to others.
    burst: (u32, usize),
}

/// How much may be under way.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) frames: u64,
    pub(crate) bytes: usize,
}

struct UnderWay {
    length: usize,
    frame: Option<Utf8Bytes>,
}

/// A client says that it has consumed what was never sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NeverSent;

impl Window {
    pub(crate) fn new(size: Option<Size>) -> Self {
        Self {
            size,
            sent: 0,
            got: 0,
            under_way: VecDeque::new(),
            bytes: 0,
            keeps: false,
            waiting: SmallVec::new(),
            full_since: None,
            burst: (0, 0),
        }
    }

    /// From now on frames are kept until the client has consumed them. Before the first one.
    pub(crate) fn keep(&mut self) {
        self.keeps = true;
    }

    /// Whether the client says what it has consumed.
    pub(crate) fn is_agreed(&self) -> bool {
        self.size.is_some()
    }

    /// Ready when one more frame may be sent. One alone may be of any length.
    pub(crate) fn poll_room(&mut self, cx: &Context<'_>, length: usize) -> Poll<()> {
        if self.burst.0 >= BURST_FRAMES || self.burst.1 >= BURST_BYTES {
            self.burst = (0, 0);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let full = self.size.is_some_and(|size| {
            let under_way = self.sent - self.got;
            under_way >= size.frames || (under_way > 0 && self.bytes + length > size.bytes)
        });
        if !full {
            return Poll::Ready(());
        }
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        self.full_since.get_or_insert_with(Instant::now);
        Poll::Pending
    }

    /// A frame is sent. Gives the time that it has waited for room, if it has.
    pub(crate) fn count(&mut self, frame: &Utf8Bytes) -> Option<Duration> {
        let length = frame.len();
        self.burst = (self.burst.0 + 1, self.burst.1 + length);
        self.sent += 1;
        if self.size.is_some() {
            self.under_way.push_back(UnderWay { length, frame: self.keeps.then(|| frame.clone()) });
            self.bytes += length;
        }
        self.full_since.take().map(|since| since.elapsed())
    }

    /// The frame that has waited for room is not to be sent any more.
    pub(crate) fn forget_wait(&mut self) {
        self.full_since = None;
    }

    /// The client has consumed so many frames since the call was opened. Gives the calls that may send again.
    pub(crate) fn consumed(&mut self, got: u64) -> Result<SmallVec<[Waker; 1]>, NeverSent> {
        if got > self.sent {
            return Err(NeverSent);
        }
        while self.got < got {
            self.got += 1;
            self.bytes -= self.under_way.pop_front().map_or(0, |frame| frame.length);
        }
        Ok(self.take_waiting())
    }

    /// Whether the client has consumed all.
    pub(crate) fn is_empty(&self) -> bool {
        self.got == self.sent
    }

    /// Bytes that are kept.
    pub(crate) fn kept(&self) -> usize {
        if self.keeps { self.bytes } else { 0 }
    }

    /// The frames that the client has to get once more.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Utf8Bytes> {
        self.under_way.iter().filter_map(|under_way| under_way.frame.clone())
    }

    pub(crate) fn take_waiting(&mut self) -> SmallVec<[Waker; 1]> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(window: &mut Window, length: usize) -> bool {
        window.poll_room(&Context::from_waker(Waker::noop()), length).is_ready()
    }

    #[test]
    fn no_more_frames_are_under_way_than_the_window_has() {
        let mut window = Window::new(Some(Size { frames: 2, bytes: 1000 }));
        let frame = Utf8Bytes::from_static("0123456789");
        for _ in 0..2 {
            assert!(room(&mut window, 10));
            window.count(&frame);
        }
        assert!(!room(&mut window, 10));
        assert_eq!(window.consumed(1).map(|waiting| waiting.len()), Ok(1));
        assert!(room(&mut window, 10));
        assert_eq!(window.consumed(3).err(), Some(NeverSent));
    }

    #[test]
    fn a_frame_alone_may_be_of_any_length() {
        let mut window = Window::new(Some(Size { frames: 64, bytes: 15 }));
        window.keep();
        let frame = Utf8Bytes::from_static("01234567890123456789");
        assert!(room(&mut window, 20));
        window.count(&frame);
        assert!(!room(&mut window, 1));
        assert_eq!(window.kept(), 20);
        assert_eq!(window.frames().collect::<Vec<_>>(), [frame]);
        // An older number does no harm.
        assert!(window.consumed(1).is_ok() && window.consumed(0).is_ok());
        assert!(window.is_empty() && window.kept() == 0);
    }

    #[test]
    fn a_call_gives_way_after_a_burst() {
        let mut window = Window::new(None);
        let frame = Utf8Bytes::from_static("x");
        for _ in 0..BURST_FRAMES {
            assert!(room(&mut window, 1));
            window.count(&frame);
        }
        assert!(!room(&mut window, 1));
        assert!(room(&mut window, 1));
    }
}
