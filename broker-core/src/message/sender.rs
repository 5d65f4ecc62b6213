//! Sender: which session of its node posted a message, and whether that session's own readers are passed over.

/// See the module. One number, for every message has one: the session's, which is never 0, and a bit above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sender(u64);

const EXCLUDED: u64 = 1 << 63;

impl Sender {
    /// The same, by this session.
    #[inline]
    pub(crate) fn with_session(self, session: u64) -> Self {
        Self(self.0 & EXCLUDED | session & !EXCLUDED)
    }

    /// The same, not for the sender's own readers.
    pub(crate) fn excluded(self) -> Self {
        Self(self.0 | EXCLUDED)
    }

    /// Whether it is this session of the message's node.
    pub(crate) fn is(self, session: u64) -> bool {
        self.0 & !EXCLUDED == session
    }

    /// Whether this session of the message's node is passed over.
    #[inline]
    pub(crate) fn excludes(self, session: u64) -> bool {
        self.0 == EXCLUDED | session
    }

    /// What goes over the wire; `None` if no session has posted it.
    pub(crate) fn to_wire(self) -> Option<u64> {
        (self.0 & !EXCLUDED != 0).then_some(self.0)
    }

    pub(crate) fn from_wire(sender: u64) -> Self {
        Self(sender)
    }
}
