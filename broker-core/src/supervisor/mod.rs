//! The supervisor of one link after another, and what it keeps in step. Private, but for [`Inbox`].
//!
//! One task per broker: connect with backoff, subscribe everything that is wanted, see an own post come back,
//! run until something breaks, withdraw, begin again.

pub(crate) mod dispatch;
mod failures;
mod heartbeat;
pub(crate) mod probe;
pub(crate) mod subscriptions;
pub(crate) mod writer;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, stream::FuturesOrdered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ChannelName, CloseReason, Error, ErrorKind, Gap, GapCause, Health, Options, Result,
    driver::{CLOSE_LIMIT, ConnectContext, Driver, Inbox, Link, Outgoing, Receipt, open_link, random},
    health::ConnectionState,
    hub::Entry,
    runtime::user_code::contain,
    wire::{bundle::Bundles, names::DIGESTS},
};

use dispatch::Dispatch;
use failures::Failures;

pub(crate) use dispatch::Receivers;
use probe::Kind;
use writer::{Batch, Completion, Outbox, Priority};

/// How many channels go into one subscribe call.
const CHUNK: usize = 1000;
/// How many digests of others a node hears a second before it makes its own rarer, as they do.
const MOST_DIGESTS: u32 = 100;
/// Keeps a link up until it is told to stop.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) receivers: Receivers,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) options: Options,
    pub(crate) stop: CancellationToken,
}

impl Supervisor {
    /// Runs until it is stopped; then the link is closed in good order and the health is `Closed`.
    pub(crate) async fn run(self) {
        tokio::select! {
            () = self.links() => {}
            () = self.watch_lease() => {}
        }
        self.receivers.subscriptions.close(&Error::closed());
        self.change_health(|health| health.enter(ConnectionState::Closed));
    }

    fn change_health(&self, change: impl FnOnce(&mut Health)) {
        // Wakes whoever waits for it, which may be code of others.
        contain("a waker", || self.health.send_modify(change));
    }

    /// One link after another.
    async fn links(&self) {
        let mut backoff = self.backoff();
        let mut log = Failures::default();
        loop {
            let (born, links) = (Instant::now(), self.health.borrow().links);
            let Some(error) = self.one_link().await else { break };
            log.record(self.driver.name(), &error, self.health.borrow().links > links);
            if born.elapsed() > self.options.backoff_max {
                backoff = self.backoff();
            }
            let wait = backoff.next().unwrap_or(self.options.backoff_max);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => break,
            }
        }
    }

    pub(crate) fn backoff(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.options.backoff_min)
            .with_max_delay(self.options.backoff_max)
            .without_max_times()
            .build()
            // Shorter by up to a half, so that many nodes do not come at once; never longer than the longest.
            .map(|wait| wait.mul_f64(1.0 - fraction() / 2.0))
    }

    /// One link from its opening to its end. `None` when it was stopped.
    async fn one_link(&self) -> Option<Error> {
        let dispatch = Dispatch::new(self.receivers.clone());
        let opened = tokio::select! {
            opened = self.open(&dispatch) => opened,
            () = self.stop.cancelled() => return None,
        };
        let (link, error) = match opened {
            Err(error) => (None, Some(error.with_operation("connect"))),
            Ok(link) => {
                let error = tokio::select! {
                    error = self.serve(&*link, &dispatch) => Some(error),
                    () = self.stop.cancelled() => None,
                };
                (Some(link), error)
            }
        };
        dispatch.close();
        let doing = if self.health.borrow().is_connected() { "stay connected" } else { "connect" };
        let error = error.map(|error| error.with_operation(doing).with_backend(self.driver.name()));
        self.withdraw(error.as_ref());
        if let (Some(link), None) = (link, &error) {
            self.close(&*link).await;
        }
        error
    }

    async fn open(&self, dispatch: &Dispatch) -> Result<Box<dyn Link>> {
        let context = ConnectContext::new(Inbox::new(dispatch.clone()));
        let context = context.with_node(self.receivers.probe.node(), &self.options.prefix);
        open_link(&*self.driver, context, self.options.connect_timeout).await
    }

    /// Brings a link up and runs it; returns what broke it.
    async fn serve(&self, link: &dyn Link, dispatch: &Dispatch) -> Error {
        let work = async {
            let subscribed = self.bring_up(link).await?;
            self.outbox.open();
            self.change_health(|health| {
                health.enter(ConnectionState::Connected);
                health.failures = 0;
                health.links += 1;
                health.server_version = link.info().version.as_deref().map(readable);
            });
            self.receivers.meter.link_is_up();
            tracing::info!(backend = self.driver.name(), "connected");
            // Now that both directions work: whoever sees the gap, or has waited, may post at once.
            dispatch.pass_messages();
            self.confirmed(&subscribed);
            tokio::try_join!(
                self.write(link),
                self.reconcile(link),
                self.heartbeat(link),
                self.tell_digests(dispatch),
                self.follow(link),
                self.append(link),
            )?;
            Ok::<(), Error>(())
        };
        tokio::select! {
            biased;
            error = dispatch.wait_lost() => error,
            done = work => done.err().unwrap_or_else(|| Error::new(ErrorKind::Other, "the link ended")),
        }
    }

    /// Subscribes what is wanted, then waits for an own post to come back. Returns what is subscribed.
    async fn bring_up(&self, link: &dyn Link) -> Result<Vec<ChannelName>> {
        let Receivers { hub, subscriptions, probe, follower, .. } = &self.receivers;
        subscriptions.begin();
        follower.set_listening(false);
        // Some backends end the link when the log is made; nothing that is subscribed is lost by it yet.
        self.catch_up(link).await?;
        for name in probe.begin(link.probe_channels(&probe.wire_name)) {
            self.subscribe_own(link, &name).await?;
        }
        self.listen_to_digests(link).await?;
        self.listen_to_nudges(link).await?;
        let subscribed = self.subscribe_all(link, &hub.channels()).await?;
        self.catch_up(link).await?;
        if follower.standing().borrow().unlogged {
            follower.doubt_unlogged();
        }
        let (sent, probe_epoch) = (Instant::now(), hub.begin_beat());
        let (token, frames) = probe.next(Kind::Heartbeat);
        let batch: Vec<_> =
            frames.into_iter().map(|(name, frame)| Outgoing::new(name, frame.freeze())).collect();
        let published = self.timed("publish", self.options.publish_timeout, link.publish(&batch)).await?;
        for (outcome, outgoing) in published.into_iter().zip(&batch) {
            outcome.map_err(|error| about_own(error, &outgoing.channel))?;
        }
        probe.echo(token, self.options.heartbeat_timeout).await?;
        hub.beat_is_back(probe_epoch);
        follower.echoed(sent);
        Ok(subscribed)
    }

    /// Subscribes to one of the broker's own channels.
    async fn subscribe_own(&self, link: &dyn Link, name: &ChannelName) -> Result<()> {
        let one = std::slice::from_ref(name);
        let subscribed = self.timed("subscribe", self.options.subscribe_timeout, link.subscribe(one)).await?;
        subscribed.map_err(|error| about_own(error, name))
    }

    /// Subscribes to what other nodes say they have posted.
    async fn listen_to_digests(&self, link: &dyn Link) -> Result<()> {
        match self.subscribe_own(link, &self.receivers.names.to_wire(DIGESTS)).await {
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                // No reason to do without messages.
                tracing::warn!(backend = self.driver.name(), "losses at the end go unnoticed here: {error}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Tells others what was posted here. With many digests to hear each node tells less often, so that no node hears
    /// many more than [`MOST_DIGESTS`] a second.
    async fn tell_digests(&self, dispatch: &Dispatch) -> Result<()> {
        loop {
            let few = Duration::from_secs(1) / MOST_DIGESTS * dispatch.take_digest_count();
            sleep(self.options.digest_interval.max(few)).await;
            self.outbox.digest();
        }
    }

    /// Subscribes to the announcements, once somebody needs to know what is revoked.
    async fn listen_to_nudges(&self, link: &dyn Link) -> Result<()> {
        let follower = &self.receivers.follower;
        let Some(name) = follower.to_listen() else { return Ok(()) };
        match self.subscribe_own(link, &name).await {
            Ok(()) => {
                follower.set_listening(true);
                // What was revoked between the last read and now was not heard.
                follower.read_bell.notify_one();
            }
            Err(error) if error.is_transient() => return Err(error),
            // No reason to do without messages. Who needs to be told of revocations is told of this.
            Err(error) => {
                tracing::error!(backend = self.driver.name(), "no session can be opened for a user: {error}");
                follower.set_deaf(Some(error));
            }
        }
        Ok(())
    }

    /// Sends batch after batch, as many at once as the link takes.
    async fn write(&self, link: &dyn Link) -> Result<()> {
        let window = link.info().publish_window.get();
        let mut under_way = FuturesOrdered::new();
        loop {
            tokio::select! {
                // The oldest first: what is told of it must not wait for what is still to be sent.
                biased;
                Some(sent) = under_way.next() => {
                    let (completion, outcomes) = sent?;
                    self.receivers.meter.published(self.outbox.finish(completion, outcomes));
                }
                batch = self.outbox.batch(), if under_way.len() < window => {
                    under_way.push_back(self.send(link, batch));
                }
            }
        }
    }

    /// Sends one batch.
    async fn send(&self, link: &dyn Link, batch: Batch) -> Result<(Vec<Completion>, Vec<Result<Receipt>>)> {
        let Batch { frames, completion } = batch;
        let bundles = Bundles::of(&frames, link.info().max_frame);
        let sent = link.publish(&bundles.frames);
        let outcomes = self.timed("publish", self.options.publish_timeout, sent).await?;
        let outcomes = bundles.outcomes(outcomes);
        let miscounted = || Error::new(ErrorKind::Other, "the driver lost count of a batch's outcomes");
        Ok((completion, outcomes.ok_or_else(miscounted)?))
    }

    /// Makes what is subscribed equal to what is wanted, whenever either changes.
    async fn reconcile(&self, link: &dyn Link) -> Result<()> {
        let Receivers { hub, subscriptions, .. } = &self.receivers;
        loop {
            self.listen_to_nudges(link).await?;
            let asked = subscriptions.take_asked(hub);
            for chunk in asked.chunks(CHUNK) {
                let subscribed = self.subscribe_all(link, chunk).await?;
                self.confirmed(&subscribed);
            }
            let left = subscriptions.take_left(hub);
            for chunk in self.on_wire(&left).chunks(CHUNK) {
                self.timed("unsubscribe", self.options.subscribe_timeout, link.unsubscribe(chunk)).await??;
            }
            if !left.is_empty() {
                // A rest of them may still be under way. A channel that is subscribed anew must not begin with
                // it: there would be a hole behind it.
                self.come_back(Kind::Flush).await?;
                left.iter().for_each(|name| hub.reset(name));
            }
            subscriptions.changed().await;
        }
    }

    /// Subscribes in chunks. A refused chunk is halved until the refused names are found; only those fail. Returns the
    /// others, which are to be [confirmed](Self::confirmed).
    async fn subscribe_all(&self, link: &dyn Link, names: &[ChannelName]) -> Result<Vec<ChannelName>> {
        let mut subscribed = Vec::with_capacity(names.len());
        let mut chunks: Vec<&[ChannelName]> = names.chunks(CHUNK).collect();
        while let Some(chunk) = chunks.pop() {
            let wire = self.on_wire(chunk);
            self.receivers.subscriptions.trying(chunk);
            match self.timed("subscribe", self.options.subscribe_timeout, link.subscribe(&wire)).await? {
                Ok(()) => subscribed.extend_from_slice(chunk),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => match chunk {
                    [name] => self.refused(name, error),
                    _ => chunks.extend(chunk.chunks(chunk.len().div_ceil(2))),
                },
            }
        }
        Ok(subscribed)
    }

    fn on_wire(&self, names: &[ChannelName]) -> Vec<ChannelName> {
        names.iter().map(|name| self.receivers.names.share_to_wire(name)).collect()
    }

    fn confirmed(&self, names: &[ChannelName]) {
        // Subscribed from here on, so the gap may be told; a listener that waits sees it in its past.
        let names = self.receivers.subscriptions.still_subscribed(names);
        names.iter().for_each(|name| self.receivers.hub.flush_gap(name));
        self.receivers.subscriptions.confirm(&names);
    }

    fn refused(&self, name: &ChannelName, error: Error) {
        let error = error.with_backend(self.driver.name()).with_channel(name.clone());
        tracing::warn!("{error}");
        self.receivers.hub.refuse(name, &CloseReason::Refused(error.clone()));
        self.receivers.subscriptions.refuse(name, &error);
    }

    /// Posts to itself, ahead of everything, and waits for the echo.
    async fn come_back(&self, kind: Kind) -> Result<()> {
        let probe = &self.receivers.probe;
        let (token, frames) = probe.next(kind);
        for (name, frame) in frames {
            drop(self.outbox.send_control(&name, frame, Priority::Ahead)?);
        }
        probe.echo(token, self.options.heartbeat_timeout).await
    }

    /// After a link: posts fail, and every channel it carried will be told of a gap.
    fn withdraw(&self, error: Option<&Error>) {
        let unavailable = match error {
            Some(error) => {
                let message = format!("the backend is away: {}", error.message());
                Error::new(ErrorKind::Unavailable, message).with_source(error.clone())
            }
            None => Error::closed(),
        };
        self.outbox.shut(&unavailable);
        self.receivers.meter.link_is_down(error.is_some());
        self.receivers.hub.unhear_all();
        let gap = Entry::gap(Gap::new(None, GapCause::LinkLost));
        for name in self.receivers.subscriptions.end(error.unwrap_or(&Error::closed())) {
            self.receivers.hub.mark_gap(&name, &gap);
        }
        if let Some(error) = error {
            self.change_health(|health| {
                health.enter(ConnectionState::Connecting);
                health.last_error = Some(error.clone());
                health.failures += 1;
                health.malformed = self.receivers.malformed.load(Ordering::Relaxed);
            });
        }
    }

    async fn close(&self, link: &dyn Link) {
        let closed = timeout(CLOSE_LIMIT, link.close()).await;
        let late = |_| Err(Error::new(ErrorKind::Timeout, format!("not closed within {CLOSE_LIMIT:?}")));
        if let Err(error) = closed.unwrap_or_else(late) {
            tracing::warn!(backend = self.driver.name(), "the link did not close in order: {error}");
        }
    }

    /// A call that is late means that the link is broken.
    pub(crate) async fn timed<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        call: impl Future<Output = T> + Send,
    ) -> Result<T> {
        timeout(limit, call).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("no answer within {limit:?}"))
                .with_operation(operation)
                .with_backend(self.driver.name())
        })
    }
}

/// Names the channel in a refusal of one of the broker's own.
fn about_own(error: Error, name: &ChannelName) -> Error {
    if error.is_transient() { error } else { error.with_channel(name.clone()) }
}

/// A random number from 0 to 1.
pub(crate) fn fraction() -> f64 {
    (random() >> 11) as f64 / (1_u64 << 53) as f64
}

/// What a server says of itself, for people: short, and with nothing in it that could move a cursor.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}
