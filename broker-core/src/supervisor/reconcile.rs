//! Reconcile: makes what is subscribed at the backend equal to what is wanted, by chunks, and determines which of them are
//! refused.

use tokio::time::Instant;

use super::{Receivers, Supervisor, chunks::MOST, dispatch::Dispatch, probe::Kind};
use crate::{
    ChannelName, CloseReason, Error, Gap, GapCause, Result, driver::Link, hub::Entry, wire::names::DIGESTS,
};

impl Supervisor {
    /// Subscribes to one of the broker's own channels.
    pub(super) async fn subscribe_own(&self, link: &dyn Link, name: &ChannelName) -> Result<()> {
        let one = std::slice::from_ref(name);
        let subscribed = self.timed("subscribe", self.options.subscribe_timeout, link.subscribe(one)).await?;
        subscribed.map_err(|error| about_own(error, name))
    }

    /// Subscribes to what other nodes say they have posted.
    pub(super) async fn subscribe_digests(&self, link: &dyn Link) -> Result<()> {
        match self.subscribe_own(link, &self.receivers.names.to_wire(DIGESTS)).await {
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                // No reason to do without messages.
                tracing::warn!(
                    backend = self.driver.name(),
                    "digests are refused, so the loss of last messages is not detected here: {error}"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Subscribes to the announcements, once a session or a revocation needs them.
    pub(super) async fn subscribe_announcements(&self, link: &dyn Link) -> Result<()> {
        let follower = &self.receivers.follower;
        let Some(name) = follower.channel_to_subscribe() else { return Ok(()) };
        match self.subscribe_own(link, &name).await {
            Ok(()) => {
                follower.set_announcements_subscribed(true);
                // What was revoked between the last read and now was not received.
                follower.read_notify.notify_one();
            }
            Err(error) if error.is_transient() => return Err(error),
            // No reason to do without messages. A call that opens a user session receives this error.
            Err(error) => {
                tracing::error!(
                    backend = self.driver.name(),
                    "announcements of revocations are refused, so no user session opens: {error}"
                );
                follower.set_announcements_refused(Some(error));
            }
        }
        Ok(())
    }

    /// Makes what is subscribed equal to what is wanted, whenever either changes.
    pub(super) async fn reconcile(&self, link: &dyn Link, dispatch: &Dispatch) -> Result<()> {
        let Receivers { hub, subscriptions, .. } = &self.receivers;
        loop {
            self.subscribe_announcements(link).await?;
            let asked = subscriptions.take_asked(hub);
            for chunk in asked.chunks(MOST) {
                let subscribed = self.subscribe_all(link, chunk).await?;
                self.confirmed(&subscribed, dispatch);
            }
            let left = subscriptions.take_left(hub);
            let wire = self.on_wire(&left);
            let mut rest = &wire[..];
            while let Some(chunk) = self.chunks.take(&mut rest) {
                self.timed_chunk("unsubscribe", chunk.len(), link.unsubscribe(chunk)).await??;
            }
            if !left.is_empty() {
                // A rest of them may still be under way. A channel that is subscribed anew must not begin with
                // it: there would be a hole behind it.
                self.round_trip(Kind::Flush).await?;
                left.iter().for_each(|name| hub.reset(name));
            }
            subscriptions.changed().await;
        }
    }

    /// Subscribes in chunks. A refused chunk is halved until the refused names are found; only those fail. Returns the
    /// others, which are to be [confirmed](Self::confirmed).
    pub(super) async fn subscribe_all(
        &self,
        link: &dyn Link,
        names: &[ChannelName],
    ) -> Result<Vec<ChannelName>> {
        let mut subscribed = Vec::with_capacity(names.len());
        let mut parts = vec![names];
        while let Some(mut rest) = parts.pop() {
            let Some(chunk) = self.chunks.take(&mut rest) else { continue };
            parts.push(rest);
            let wire = self.on_wire(chunk);
            self.receivers.subscriptions.trying(chunk);
            match self.timed_chunk("subscribe", chunk.len(), link.subscribe(&wire)).await? {
                Ok(()) => subscribed.extend_from_slice(chunk),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => match chunk {
                    [name] => self.refused(name, error),
                    _ => parts.extend(chunk.chunks(chunk.len().div_ceil(2))),
                },
            }
        }
        Ok(subscribed)
    }

    /// A call about so many channels. How long it takes decides how many go into the next one.
    async fn timed_chunk(
        &self,
        operation: &'static str,
        count: usize,
        call: impl Future<Output = Result<()>> + Send,
    ) -> Result<Result<()>> {
        let (begun, limit) = (Instant::now(), self.options.subscribe_timeout);
        let outcome = self.timed(operation, limit, call).await?;
        self.chunks.confirmed(count, begun.elapsed(), limit);
        Ok(outcome)
    }

    fn on_wire(&self, names: &[ChannelName]) -> Vec<ChannelName> {
        names.iter().map(|name| self.receivers.names.share_to_wire(name)).collect()
    }

    pub(super) fn confirmed(&self, names: &[ChannelName], dispatch: &Dispatch) {
        // Subscribed from here on, so the gap may be delivered; a listener that waits sees it in its past.
        let names = self.receivers.subscriptions.still_subscribed(names);
        names.iter().for_each(|name| self.receivers.hub.flush_gap(name));
        // Before anybody who waits posts something.
        if !names.is_empty() {
            self.ask(dispatch);
        }
        let lapsed = self.receivers.subscriptions.confirm(&names);
        // The gap that they had may have been delivered above, and they have missed more since.
        let gap = Entry::gap(Gap::new(None, GapCause::Dropped));
        for name in lapsed.keys() {
            self.receivers.hub.reset(name);
            self.receivers.hub.mark_gap(name, &gap);
        }
        // After they count as subscribed: whoever joins later sees that.
        let live = names.iter().filter(|name| !lapsed.contains_key(*name));
        live.for_each(|name| self.receivers.hub.go_live(name));
    }

    fn refused(&self, name: &ChannelName, error: Error) {
        let error = error.with_backend(self.driver.name()).with_channel(name.clone());
        tracing::warn!("{error}");
        self.receivers.hub.refuse(name, &CloseReason::Refused(error.clone()));
        self.receivers.subscriptions.refuse(name, &error);
    }
}

/// Names the channel in a refusal of one of the broker's own.
pub(super) fn about_own(error: Error, name: &ChannelName) -> Error {
    if error.is_transient() { error } else { error.with_channel(name.clone()) }
}
