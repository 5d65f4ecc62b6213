//! Exchange: which request a message is, or which one it answers.

/// See the module. One number, for every message has one: that of the request at the node that made it, which is never 0,
/// and a bit above it for a reply that refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchange(u64);

const REFUSED: u64 = 1 << 63;

impl Exchange {
    /// Of this request.
    pub(crate) fn of(number: u64) -> Self {
        Self(number & !REFUSED)
    }

    /// The same, as the reply that refuses it.
    pub(crate) fn refused(self) -> Self {
        Self(self.0 | REFUSED)
    }

    /// The request's number; `None` if the message is neither a request nor a reply.
    pub(crate) fn number(self) -> Option<u64> {
        Some(self.0 & !REFUSED).filter(|number| *number != 0)
    }

    /// Whether a reply refuses the request.
    pub(crate) fn is_refused(self) -> bool {
        self.0 & REFUSED != 0
    }

    /// What goes over the wire; `None` if the message is neither.
    pub(crate) fn to_wire(self) -> Option<u64> {
        self.number().map(|_| self.0)
    }

    pub(crate) fn from_wire(exchange: u64) -> Self {
        Self(exchange)
    }
}
