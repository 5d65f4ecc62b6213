//! The supervisor of one link after another, and what it keeps in step. Private, but for [`Inbox`].
//!
//! One task per broker: connect with backoff, subscribe everything that is wanted, see an own post come back,
//! run until something breaks, withdraw, begin again.

mod bare;
pub(crate) mod batch;
pub(crate) mod chunks;
mod digests;
pub(crate) mod dispatch;
mod failures;
mod heartbeat;
pub(crate) mod outbox;
mod own_digests;
pub(crate) mod probe;
mod progress;
mod reconcile;
mod room;
pub(crate) mod subscriptions;
mod watchdog;
mod writer;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{TryStreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ChannelName, Error, ErrorKind, Gap, GapCause, Health, Options, Result,
    driver::{CLOSE_LIMIT, ConnectContext, Driver, Inbox, Link, Outgoing, open_link, random},
    health::ConnectionState,
    hub::Entry,
    runtime::user_code::contain,
};

use chunks::Chunks;
use dispatch::Dispatch;
use failures::Failures;

pub(crate) use dispatch::Receivers;
use outbox::{Outbox, Priority};
use probe::Kind;

/// Keeps a link up until it is stopped.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) receivers: Receivers,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) options: Options,
    pub(crate) chunks: Chunks,
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
        // Wakes those who wait for it, which may run foreign code.
        contain("a waker", || self.health.send_modify(change));
    }

    /// One link after another.
    async fn links(&self) {
        let mut backoff = self.backoff();
        let mut log = Failures::default();
        loop {
            let (born, links) = (Instant::now(), self.health.borrow().links);
            let Some(error) = self.one_link().await else { break };
            let was_up = self.health.borrow().links > links;
            log.record(self.driver.name(), &error, was_up);
            // Not after an attempt that took long and failed: a server that is too busy for all would get them all again at once.
            if was_up && born.elapsed() > self.options.backoff_max {
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
            self.send_closing_digests(&*link).await;
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
            self.chunks.is_up();
            self.outbox.open();
            let info = link.info();
            self.change_health(|health| {
                health.enter(ConnectionState::Connected);
                health.failures = 0;
                health.links += 1;
                health.server_version = info.version.as_deref().map(readable);
                health.capabilities = Some(info.capabilities);
            });
            self.receivers.meter.link_is_up();
            tracing::info!(backend = self.driver.name(), "connected");
            // Now that both directions work: whoever sees the gap, or has waited, may post at once.
            dispatch.pass_messages();
            self.confirmed(&subscribed, dispatch);
            tokio::try_join!(self.write(link), self.work_beside_writer(link, dispatch))?;
            Ok::<(), Error>(())
        };
        tokio::select! {
            biased;
            error = dispatch.wait_lost() => error,
            done = work => done.err().unwrap_or_else(|| Error::new(ErrorKind::Other, "the link ended")),
        }
    }

    /// The tasks of a link beside the writer. Each is polled when it is woken; the writer is woken by every post.
    async fn work_beside_writer(&self, link: &dyn Link, dispatch: &Dispatch) -> Result<()> {
        let work: [BoxFuture<'_, Result<()>>; 8] = [
            Box::pin(self.reconcile(link, dispatch)),
            Box::pin(self.heartbeat(link)),
            Box::pin(self.send_digests(dispatch)),
            Box::pin(self.ask_for_digests(dispatch)),
            Box::pin(self.watch_silence(dispatch)),
            Box::pin(self.watch_parts(dispatch)),
            Box::pin(self.follow(link)),
            Box::pin(self.append(link)),
        ];
        work.into_iter().collect::<FuturesUnordered<_>>().try_collect().await
    }

    /// Shows in the health which part of the backend is out of reach.
    async fn watch_parts(&self, dispatch: &Dispatch) -> Result<()> {
        let mut parts = dispatch.parts();
        parts.mark_changed();
        while parts.changed().await.is_ok() {
            let why = parts.borrow_and_update().clone();
            match &why {
                Some(why) => tracing::warn!(backend = self.driver.name(), "a part is out of reach: {why}"),
                None if self.health.borrow().degraded.is_some() => {
                    tracing::info!(backend = self.driver.name(), "every part is within reach again");
                }
                None => continue,
            }
            self.change_health(|health| health.degraded = why);
        }
        Ok(())
    }

    /// Subscribes what is wanted, then waits for an own post to come back. Returns what is subscribed.
    async fn bring_up(&self, link: &dyn Link) -> Result<Vec<ChannelName>> {
        let Receivers { hub, subscriptions, probe, follower, .. } = &self.receivers;
        subscriptions.begin();
        self.chunks.begin();
        follower.set_announcements_subscribed(false);
        // Some backends end the link when the log is made; nothing that is subscribed is lost by it yet.
        self.catch_up(link).await?;
        for name in probe.begin(link.probe_channels(&probe.wire_name)) {
            self.subscribe_own(link, &name).await?;
        }
        self.subscribe_digests(link).await?;
        self.subscribe_announcements(link).await?;
        let subscribed = self.subscribe_all(link, &hub.channels()).await?;
        self.catch_up(link).await?;
        follower.missed_by_link();
        let (sent, probe_epoch) = (Instant::now(), hub.begin_probe_epoch());
        let (token, frames) = probe.next(Kind::Heartbeat);
        let batch: Vec<_> =
            frames.into_iter().map(|(name, frame)| Outgoing::new(name, frame.freeze())).collect();
        let published = self.timed("publish", self.options.publish_timeout, link.publish(&batch)).await?;
        if published.len() != batch.len() {
            return Err(writer::miscounted());
        }
        for (outcome, outgoing) in published.into_iter().zip(&batch) {
            outcome.map_err(|error| reconcile::about_own(error, &outgoing.channel))?;
        }
        probe.echo(token, self.options.heartbeat_timeout).await?;
        hub.confirm_probe_epoch(probe_epoch);
        follower.echoed(sent);
        Ok(subscribed)
    }

    /// Posts to itself, ahead of everything, and waits for the echo.
    async fn round_trip(&self, kind: Kind) -> Result<()> {
        let probe = &self.receivers.probe;
        let (token, frames) = probe.next(kind);
        for (name, frame) in frames {
            drop(self.outbox.send_control(&name, frame, Priority::Ahead)?);
        }
        probe.echo(token, self.options.heartbeat_timeout).await
    }

    /// After a link: posts fail, and every channel it carried will receive a gap.
    fn withdraw(&self, error: Option<&Error>) {
        let unavailable = match error {
            Some(error) => {
                let message = format!("there is no link to the backend: {}", error.message());
                Error::new(ErrorKind::Unavailable, message).with_source(error.clone())
            }
            None => Error::closed(),
        };
        self.outbox.shut(&unavailable);
        if error.is_some() {
            self.receivers.replies.link_lost();
        }
        self.receivers.meter.link_is_down(error.is_some());
        self.receivers.hub.reset_all();
        let gap = Entry::gap(Gap::new(None, GapCause::LinkLost));
        for name in self.receivers.subscriptions.end(error.unwrap_or(&Error::closed())) {
            self.receivers.hub.mark_gap(&name, &gap);
        }
        if let Some(error) = error {
            self.change_health(|health| {
                health.enter(ConnectionState::Connecting);
                health.last_error = Some(error.clone());
                health.degraded = None;
                health.failures += 1;
                health.malformed = self.receivers.malformed.load(Ordering::Relaxed);
            });
        }
    }

    async fn close(&self, link: &dyn Link) {
        let closed = timeout(CLOSE_LIMIT, link.close()).await;
        let late = |_| Err(Error::new(ErrorKind::Timeout, format!("not closed within {CLOSE_LIMIT:?}")));
        if let Err(error) = closed.unwrap_or_else(late) {
            tracing::warn!(backend = self.driver.name(), "the link did not close cleanly: {error}");
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

/// A random number from 0 to 1.
pub(crate) fn fraction() -> f64 {
    (random() >> 11) as f64 / (1_u64 << 53) as f64
}

/// What a server says of itself, for people: short, and with nothing in it that could move a cursor.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}
