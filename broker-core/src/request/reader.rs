//! ReplyReader: the task that hands replies to the requests that wait for them, one per node that has made a
//! request through its backend.

use std::{future::poll_fn, mem, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::replies::Replies;
use crate::{
    CloseReason,
    hub::{Cursor, Entry, Hub, Notice, Ring},
    metrics::Meter,
    supervisor::subscriptions::Subscriptions,
};

/// How many replies one look takes at most.
const BATCH: usize = 32;

/// A subscription to the node's channel for replies. It is no [`Subscription`](crate::Subscription), which would keep the
/// broker open.
pub(crate) struct ReplyReader {
    pub(crate) hub: Arc<Hub>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) cursor: Cursor,
    pub(crate) replies: Arc<Replies>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) meter: Meter,
}

impl ReplyReader {
    /// Reads until the channel ends, or the broker does.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let reason = tokio::select! {
            biased;
            () = stop.cancelled() => CloseReason::BrokerClosed,
            reason = self.read() => reason,
        };
        self.replies.end(&self.ring, &reason);
    }

    async fn read(&mut self) -> CloseReason {
        let mut batch = Vec::new();
        loop {
            let taken =
                poll_fn(|cx| self.ring.take_unless(&mut self.cursor, &mut batch, BATCH, |_| false, cx)).await;
            if let Err(reason) = taken {
                return reason;
            }
            // The next one is on top.
            mem::take(&mut batch).into_iter().rev().for_each(|entry| self.receive(entry));
            tokio::task::coop::consume_budget().await;
        }
    }

    fn receive(&self, entry: Entry) {
        match entry {
            Entry::Message(message) => self.replies.put(message, &self.meter),
            Entry::Notice(notice) => match &*notice {
                Notice::Gap(gap) => self.replies.gap(*gap),
                // Counted where it arrived.
                Notice::Malformed(_) => {}
            },
        }
    }
}

impl Drop for ReplyReader {
    fn drop(&mut self) {
        // Also if its task was dropped with its runtime.
        self.replies.end(&self.ring, &CloseReason::BrokerClosed);
        if self.hub.leave(&self.ring, &self.cursor) {
            self.subscriptions.note_left(&self.ring.channel);
        }
    }
}
