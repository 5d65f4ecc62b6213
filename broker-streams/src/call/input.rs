//! One input of a call: values that a client has sent and the method has not yet taken.

use std::{collections::VecDeque, task::Waker};

/// Values of one input.
pub(crate) struct Input {
    name: Box<str>,
    queue: VecDeque<Item>,
    bytes: usize,
    /// Frames that have arrived, and those that the method has taken.
    received: u64,
    consumed: u64,
    /// What the client was last told of `consumed`.
    told: u64,
    state: State,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client has closed it: all that was sent is there.
    Ended,
    /// The client has closed it with an error.
    Failed,
    /// The method does not want it any more, or the call has ended. Whether the client was told of it.
    Dropped {
        told: bool,
    },
}

/// What an input holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A value.
    Value(Typed),
    /// A fault of the client.
    Fault(Typed),
}

/// The name of a type, and JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) class_name: Box<str>,
    pub(crate) json: Box<str>,
}

impl Item {
    fn bytes(&self) -> usize {
        let (Self::Value(typed) | Self::Fault(typed)) = self;
        // Something for the entry itself, so that empty values are bounded, too.
        typed.class_name.len() + typed.json.len() + size_of::<Self>()
    }
}

/// What is next in an input.
pub(crate) enum Next {
    Item(Item),
    Waiting,
    Ended,
    Failed,
}

impl Input {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            queue: VecDeque::new(),
            bytes: 0,
            received: 0,
            consumed: 0,
            told: 0,
            state: State::Open,
            waker: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the method does not want it.
    pub(crate) fn is_dropped(&self) -> bool {
        matches!(self.state, State::Dropped { .. })
    }

    /// Frames that have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// What the client is told of how much was consumed.
    pub(crate) fn tell(&mut self) -> u64 {
        self.told = self.consumed;
        self.consumed
    }

    /// Bytes that wait for the method.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that the method has not yet taken.
    pub(crate) fn waiting(&self) -> u64 {
        self.received - self.consumed
    }

    /// Takes what the client sends. `false` where the input is not open.
    pub(crate) fn push(&mut self, item: Item) -> (bool, Option<Waker>) {
        if !self.is_open() {
            return (false, None);
        }
        self.received += 1;
        self.bytes += item.bytes();
        self.queue.push_back(item);
        (true, self.waker.take())
    }

    /// The client ends it. `false` where it was not open.
    pub(crate) fn close(&mut self, failed: bool) -> (bool, Option<Waker>) {
        if !self.is_open() {
            return (false, None);
        }
        self.received += 1;
        self.state = if failed { State::Failed } else { State::Ended };
        (true, self.waker.take())
    }

    /// The next item for the method, which is woken if there is none.
    pub(crate) fn pop(&mut self, waker: &Waker) -> Next {
        if let Some(item) = self.queue.pop_front() {
            self.bytes -= item.bytes();
            self.consumed += 1;
            return Next::Item(item);
        }
        match self.state {
            State::Open => {
                if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    self.waker = Some(waker.clone());
                }
                Next::Waiting
            }
            State::Ended | State::Dropped { .. } => Next::Ended,
            State::Failed => {
                // Once: behind the error there is nothing.
                self.state = State::Ended;
                Next::Failed
            }
        }
    }

    /// Whether the client has to be told that nobody wants it.
    pub(crate) fn is_to_close(&self) -> bool {
        matches!(self.state, State::Open | State::Dropped { told: false })
    }

    /// Whether the method has dropped it, and the client was not told.
    pub(crate) fn is_untold(&self) -> bool {
        self.state == State::Dropped { told: false }
    }

    /// The client was told that nobody wants it.
    pub(crate) fn set_told(&mut self) {
        self.state = State::Dropped { told: true };
    }

    /// Ends it from this side: what waits is dropped.
    pub(crate) fn end(&mut self) -> Option<Waker> {
        if self.is_open() {
            self.state = State::Dropped { told: false };
        }
        self.queue = VecDeque::new();
        self.bytes = 0;
        self.waker.take()
    }

    /// How much was consumed, if that is so much more than what the client was told.
    pub(crate) fn news(&mut self, least: u64) -> Option<u64> {
        if !self.is_open() || self.consumed - self.told < least {
            return None;
        }
        Some(self.tell())
    }

    /// Whether something was consumed that the client was not told of.
    pub(crate) fn has_news(&self) -> bool {
        self.is_open() && self.consumed > self.told
    }
}
