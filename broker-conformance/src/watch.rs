//! Watch: which channels the nodes of a case are subscribed to, as core told their links, whatever the server says.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, Result,
    driver::{
        Arrival, ConnectContext, Driver, DurableLog, Inbox, Inspection, Link, LinkInfo, LogSpec, Missing,
        Outgoing, Receipt, Sink, random,
    },
};

use crate::harness::is_core_own;

/// What core has told the links of a cluster's nodes about subscriptions. A harness keeps one for its case.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<HashMap<u64, Held>>>);

/// What one link holds, by names on the wire.
#[derive(Default)]
struct Held {
    subscribed: HashSet<ChannelName>,
    /// What the driver said it cannot have, also while core asks for it.
    suspended: HashSet<ChannelName>,
}

impl Watch {
    /// Nobody is subscribed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The names on the wire to which some link is subscribed, sorted. Core's own (`$…`) are left out.
    #[must_use]
    pub fn channels(&self) -> Vec<String> {
        let links = self.links();
        let names = links.values().flat_map(|held| &held.subscribed).map(ChannelName::as_str);
        let names: BTreeSet<&str> = names.filter(|name| !is_core_own(name)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// The driver, watched.
    pub(crate) fn around(&self, driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
        Arc::new(WatchedDriver { driver, watch: self.clone() })
    }

    fn links(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what a link holds, if it is still there.
    fn change(&self, link: u64, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.links().get_mut(&link) {
            change(held);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.channels()).finish()
    }
}

#[derive(Debug)]
struct WatchedDriver {
    driver: Arc<dyn Driver>,
    watch: Watch,
}

#[async_trait]
impl Driver for WatchedDriver {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let place = Arc::new(Place { watch: self.watch.clone(), id: random() });
        self.watch.links().insert(place.id, Held::default());
        // Before there is a link: one that is not made leaves nothing.
        let entry = Entry(Arc::clone(&place));
        let sink = WatchedInbox { inbox: context.inbox.clone(), place };
        let link = self.driver.connect(context.with_inbox(Inbox::new(sink))).await?;
        Ok(Box::new(WatchedLink { link, entry }))
    }
}

/// Where the entry of one link is.
struct Place {
    watch: Watch,
    id: u64,
}

impl Place {
    fn change(&self, change: impl FnOnce(&mut Held)) {
        self.watch.change(self.id, change);
    }

    fn forget(&self) {
        self.watch.links().remove(&self.id);
    }
}

/// The entry of a link goes with it.
struct Entry(Arc<Place>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.forget();
    }
}

struct WatchedInbox {
    inbox: Inbox,
    place: Arc<Place>,
}

impl Sink for WatchedInbox {
    fn deliver(&self, arrival: Arrival<'_>) {
        Sink::deliver(&self.inbox, arrival);
    }

    fn gap(&self, missing: Missing<'_>) {
        Sink::gap(&self.inbox, missing);
    }

    fn unsubscribed(&self, channels: &[ChannelName]) {
        self.place.change(|held| {
            held.subscribed.retain(|name| !channels.contains(name));
            held.suspended.retain(|name| !channels.contains(name));
        });
        Sink::unsubscribed(&self.inbox, channels);
    }

    fn suspended(&self, channels: &[ChannelName]) {
        self.place.change(|held| {
            held.subscribed.retain(|name| !channels.contains(name));
            held.suspended.extend(channels.iter().cloned());
        });
        Sink::suspended(&self.inbox, channels);
    }

    fn lost(&self, error: Error) {
        self.place.forget();
        self.inbox.lost(error);
    }
}

struct WatchedLink {
    link: Box<dyn Link>,
    entry: Entry,
}

#[async_trait]
impl Link for WatchedLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        self.link.publish(batch).await
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.entry.0.change(|held| held.suspended.retain(|name| !channels.contains(name)));
        self.link.subscribe(channels).await?;
        self.entry.0.change(|held| {
            let Held { subscribed, suspended } = held;
            subscribed.extend(channels.iter().filter(|name| !suspended.contains(*name)).cloned());
        });
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.link.unsubscribe(channels).await?;
        self.entry.0.change(|held| {
            for name in channels {
                held.subscribed.remove(name);
                held.suspended.remove(name);
            }
        });
        Ok(())
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        self.link.log()
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        self.link.probe_channels(own)
    }

    fn info(&self) -> LinkInfo {
        self.link.info()
    }

    async fn check(&self) -> Result<()> {
        self.link.check().await
    }

    async fn inspect(&self, log: &LogSpec) -> Inspection {
        self.link.inspect(log).await
    }

    async fn close(&self) -> Result<()> {
        let closed = self.link.close().await;
        self.entry.0.forget();
        closed
    }
}

#[cfg(test)]
mod tests;
