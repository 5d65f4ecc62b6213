//! Link: private.

use bytes::Bytes;

use crate::Error;

/// Where a link hands over what it receives. Calls never block and never await.
#[derive(Clone, Debug)]
pub struct Inbox(());

impl Inbox {
    /// Hands over one frame that arrived on a channel, by the channel's name on the wire.
    pub fn deliver(&self, channel: &str, frame: Bytes) {
        let _ = (channel, frame);
    }

    /// The client dropped messages but the link lives on: every channel of the link is told.
    pub fn gap(&self) {}

    pub(crate) fn report_lost(&self, error: Error) {
        drop(error);
    }
}
