//! Malformed: what arrived and is not a readable message.

use std::{borrow::Cow, fmt, sync::Arc};

/// Something arrived on the channel that is not a message of ours, or not one this version can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(Arc<Unreadable>);

/// Behind a pointer, so that an event is small: nearly all of them are messages.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable {
    reason: Cow<'static, str>,
    length: usize,
}

impl Malformed {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>, length: usize) -> Self {
        Self(Arc::new(Unreadable { reason: reason.into(), length }))
    }

    /// What is wrong with it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// How many bytes arrived.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreadable { reason, length } = &*self.0;
        write!(f, "{length} bytes that are not a readable message: {reason}")
    }
}
