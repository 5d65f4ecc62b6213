//! Outgoing: one frame, and the channel it goes to.

use bytes::Bytes;

use crate::ChannelName;

/// One frame on its way out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// The channel's name on the wire: the prefix is already in it.
    pub channel: ChannelName,
    /// The frame: opaque bytes, never empty, at most [`MAX_FRAME`](crate::driver::MAX_FRAME) long.
    pub frame: Bytes,
}

impl Outgoing {
    pub(crate) fn new(channel: ChannelName, frame: Bytes) -> Self {
        Self { channel, frame }
    }
}
