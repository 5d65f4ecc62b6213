//! Held: digests that wait until what they are about has arrived by the other shards.
//!
//! A digest says what a node has posted. It comes by one shard, and the posts by others: it would report as missing what is
//! only slower. So it is handed over when every other shard has answered a question that was put after it arrived: what
//! the servers had taken before that has arrived by then. The probe's posts by the same shard wait behind it, since core
//! concludes from one of them that all before it have arrived.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use broker_core::{ChannelName, driver::Inbox};
use bytes::Bytes;
use tokio::sync::Notify;

/// How many bytes of digests are held back at most. One beyond that is dropped, so that the next one of its node reports
/// that anything may be missing. The probe may take as much again; beyond that its post is dropped, and the link is lost.
const BYTES: usize = 8 << 20;
/// What a frame takes besides its bytes, about.
const OVERHEAD: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Held {
    digests: ChannelName,
    queue: Mutex<Queue>,
    pub(crate) arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<(Box<str>, Bytes)>,
    bytes: usize,
}

impl Held {
    pub(crate) fn new(digests: ChannelName) -> Self {
        Self { digests, queue: Mutex::default(), arrived: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a channel is that of digests.
    pub(crate) fn is_digests(&self, channel: &str) -> bool {
        self.digests.as_str() == channel
    }

    /// Holds a frame back, if it is a digest, or one of the probe behind a digest. Otherwise it is returned.
    pub(crate) fn take(&self, channel: &str, frame: Bytes, is_probe: impl Fn(&str) -> bool) -> Option<Bytes> {
        let digest = self.is_digests(channel);
        if !digest && !is_probe(channel) {
            return Some(frame);
        }
        let mut queue = self.lock();
        if !digest && queue.frames.is_empty() {
            return Some(frame);
        }
        if queue.bytes > if digest { BYTES } else { 2 * BYTES } {
            return None;
        }
        queue.bytes += OVERHEAD + frame.len();
        queue.frames.push_back((channel.into(), frame));
        drop(queue);
        self.arrived.notify_one();
        None
    }

    /// How many frames there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().frames.len()
    }

    /// Hands over the first of them.
    pub(crate) fn release(&self, count: usize, inbox: &Inbox) {
        for _ in 0..count {
            let mut queue = self.lock();
            let Some((channel, frame)) = queue.frames.pop_front() else { return };
            queue.bytes -= OVERHEAD + frame.len();
            drop(queue);
            inbox.deliver(&channel, frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_core::driver::ConnectContext;

    use super::*;

    fn passes(held: &Held, channel: &str) -> bool {
        held.take(channel, Bytes::from_static(b"frame"), |name| name.starts_with("$node.")).is_some()
    }

    #[test]
    fn a_digest_is_held_back_and_so_is_the_probe_behind_it() {
        let held = Held::new(ConnectContext::new(Inbox::discard()).digests());
        assert!(passes(&held, "news") && passes(&held, "$node.1"));
        assert!(!passes(&held, "$digests"));
        assert!(passes(&held, "news") && !passes(&held, "$node.1"));
        assert_eq!(held.len(), 2);
        held.release(2, &Inbox::discard());
        assert_eq!(held.len(), 0);
        assert!(passes(&held, "$node.1"));
    }

    /// Whoever may publish to these channels may publish anything.
    #[test]
    fn what_is_held_is_bounded_whatever_it_is() {
        let held = Held::new(ConnectContext::new(Inbox::discard()).digests());
        for _ in 0..BYTES / 16 {
            held.take("$digests", Bytes::new(), |_| false);
        }
        let digests = held.len();
        assert!(digests < BYTES / 32, "{digests} without any bytes");
        let large = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..100 {
            held.take("$node.1", large.clone(), |_| true);
        }
        assert!(held.len() - digests < 20, "{} posts of a probe", held.len() - digests);
        held.release(held.len(), &Inbox::discard());
        assert_eq!(held.lock().bytes, 0);
    }
}
