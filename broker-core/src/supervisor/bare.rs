//! How a payload without a frame goes out: in turn with the posts, and not numbered.

use bytes::Bytes;

use super::outbox::{Frame, Outbox, State};
use crate::{
    ChannelName, Result,
    driver::{Outgoing, Receipt},
};

impl Outbox {
    /// Queues a payload and waits for what becomes of it. Not cancel safe: once queued it may be sent.
    pub(crate) async fn post_bare(&self, wire_name: ChannelName, payload: Bytes) -> Result<Receipt> {
        let bytes = payload.len() as u32; // at most max_payload
        let bare = |_: &State| Frame::Own(Outgoing::new(wire_name, payload));
        let outcome = self.queue_frame(State::check, bytes, bare).await?;
        self.outcome(outcome).await
    }
}
