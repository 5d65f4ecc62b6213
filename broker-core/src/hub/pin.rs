//! Pins: a channel's first ring stays in the table without subscribers, for handles that post to it often.

use std::sync::Arc;

use super::{Hub, PutBy, Ring, WakeList};
use crate::{ChannelName, Message, runtime::sync::atomic::Ordering};

impl Hub {
    /// The first ring of a channel, which stays until it is [unpinned](Self::unpin); `None` once the hub has ended.
    pub(crate) fn pin(&self, name: &ChannelName) -> Option<Arc<Ring>> {
        self.with_ring(name, |ring| {
            ring.pins.fetch_add(1, Ordering::SeqCst);
            Arc::clone(ring)
        })
    }

    /// Gives a pin back. True when the channel has no subscriber left here: then the last subscriber, leaving at the same moment,
    /// may not have found that.
    pub(crate) fn unpin(&self, ring: &Ring) -> bool {
        ring.pins.fetch_sub(1, Ordering::SeqCst) == 1 && self.remove_if_empty(&ring.channel)
    }

    /// Hands a message of this process to every subscriber of a channel that is pinned. No name is looked up.
    #[inline]
    pub(crate) fn put_pinned(&self, ring: &Arc<Ring>, message: Message, wakes: &mut WakeList) {
        self.put_into(ring, message, PutBy::Here, wakes);
        if wakes.too_late && !self.has_ended() {
            self.put_behind_refusal(ring, wakes);
        }
    }

    /// The backend has refused the channel since it was pinned, which ended the ring. Later subscribers have another.
    #[cold]
    fn put_behind_refusal(&self, ring: &Arc<Ring>, wakes: &mut WakeList) {
        wakes.too_late = false;
        if let Some(entry) = wakes.garbage.pop() {
            self.put(ring.channel.as_str(), entry, PutBy::Here, wakes);
        }
    }
}
