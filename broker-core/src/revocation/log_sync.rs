//! Log sync: how a link reads the revocation log, appends to it, and repairs it.
//!
//! A read is complete up to the moment when it began. What was appended by this node has to be in it; if not, or if
//! the log says itself that it lost its past, what is remembered here is appended again, and who may have been
//! revoked in the part that is lost is closed.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    failure::{Failure, broke_link},
    log_state::{Append, Follower, Standing, State},
};
use crate::{
    Error, ErrorKind, FailMode, Result, Uncertainty,
    driver::{DurableLog, Link, LogCursor, LogDiscontinuity},
    revocation::record::RecordId,
    runtime::user_code::contain,
    supervisor::{Supervisor, fraction, outbox::Priority},
};

/// How many records are appended side by side.
const AT_ONCE: usize = 64;
/// What core adds to the limit that a driver is given, before it counts the link as broken.
const MARGIN: Duration = Duration::from_secs(2);
/// All nodes find a log broken at once; they repair it one after the other, and most of them nothing.
const REPAIR_SPREAD: Duration = Duration::from_secs(1);
/// How long a node that has found no log waits for others to store their records in it, before it admits a
/// session: until the last of them begins, and as long again.
const RECOVERY_WAIT: Duration = Duration::from_secs(2);

impl Supervisor {
    fn follower(&self) -> &Follower {
        &self.receivers.follower
    }

    /// On a new link, before anything else is subscribed and again after everything is. A log that cannot be read
    /// is no reason to do without messages: it is tried again, and who depends on it waits.
    pub(crate) async fn catch_up(&self, link: &dyn Link) -> Result<()> {
        if !self.follower().is_wanted() {
            return Ok(());
        }
        match self.read_log(link).await {
            Err(Failure::Link(error)) => return Err(error),
            Err(Failure::Log(error)) => {
                tracing::warn!(backend = self.driver.name(), "the revocation log cannot be read: {error}");
                self.follower().read_notify.notify_one();
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// Reads whenever there is reason to, and now and then.
    pub(crate) async fn follow(&self, link: &dyn Link) -> Result<()> {
        let follower = self.follower();
        let mut backoff = self.backoff();
        let mut next = self.next_poll();
        loop {
            if timeout_at(next, follower.read_notify.notified()).await.is_err() {
                // Perhaps an operator has changed something.
                follower.set_announcements_refused(None);
                self.receivers.subscriptions.wake();
            }
            follower.registry.forget_old();
            next = self.next_poll();
            if !follower.is_wanted() {
                continue;
            }
            let read = match self.read_log(link).await {
                Ok(()) if follower.lock().repair => self.repair(link).await,
                read => read,
            };
            match read {
                Ok(()) => {
                    backoff = self.backoff();
                    next =
                        follower.lock().recovery_ends.map_or(next, |recovery_ends| next.min(recovery_ends));
                }
                Err(Failure::Link(error)) => return Err(error),
                Err(Failure::Log(error)) => {
                    tracing::warn!(
                        backend = self.driver.name(),
                        "the revocation log cannot be read: {error}"
                    );
                    // A permanent failure is retried at the next poll.
                    if error.is_transient() {
                        next = Instant::now() + backoff.next().unwrap_or(self.options.backoff_max);
                    }
                }
            }
        }
    }

    /// Jittered, so that many nodes do not read at once; and several times within the lease.
    fn next_poll(&self) -> Instant {
        let lease = self.options.revocation_lease;
        let poll = self.options.revocation_poll;
        let poll = if lease.is_zero() { poll } else { poll.min(lease / 3) };
        Instant::now() + poll.mul_f64(0.67 + fraction() * 0.66)
    }

    /// Reads the log to its end.
    async fn read_log(&self, link: &dyn Link) -> Result<(), Failure> {
        let follower = self.follower();
        let (began, real) = (Instant::now(), std::time::Instant::now());
        let (stored, subscribed) = {
            let state = follower.lock();
            let stored: Vec<RecordId> =
                state.own.iter().filter(|(_, stored)| **stored).map(|(id, _)| *id).collect();
            (stored, state.subscribed)
        };
        let read = match self.pages(link, real).await {
            Err(broken @ Failure::Link(_)) => return Err(broken),
            Err(Failure::Log(error)) => Err(error),
            Ok(_) => Ok(()),
        };
        // What was met in the log is not among them any more.
        let forgotten = |state: &State| stored.iter().any(|id| state.own.contains_key(id));
        if read.is_ok() && forgotten(&follower.lock()) {
            self.log_broke(LogDiscontinuity::Forgotten, real);
        }
        let recovered = read.is_ok() && follower.lock().has_recovered(began);
        let unlogged = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported);
        let outcome = if unlogged { Ok(()) } else { read };
        follower.set_standing(|standing| match &outcome {
            Ok(()) => {
                let known = standing.known || (subscribed && (recovered || unlogged));
                // Without a log the echo shows whether announcements would be received.
                let as_of = standing.as_of.filter(|_| unlogged).or(Some(began));
                let announcements_refused = standing.announcements_refused.take();
                *standing = Standing {
                    known,
                    unlogged,
                    as_of,
                    error: None,
                    recovering: !recovered,
                    announcements_refused,
                };
            }
            Err(error) => standing.error = Some(error.clone()),
        });
        outcome.map_err(Failure::Log)
    }

    /// Reads page after page, and applies them. Returns the ids that were met; after a break those of the whole log.
    async fn pages(&self, link: &dyn Link, began: std::time::Instant) -> Result<HashSet<RecordId>, Failure> {
        let follower = self.follower();
        let mut ids = HashSet::new();
        loop {
            let cursor = follower.lock().cursor.clone();
            let page = self.log_call(async { log_of(link)?.read(&follower.log, &cursor).await }).await?;
            if page.created {
                self.log_was_missing();
            }
            if let Some(why) = page.broken {
                // At once: should the next page fail, nothing says so again.
                self.log_broke(why, began);
                ids.clear();
            }
            for record in &page.records {
                match follower.registry.receive(record) {
                    Ok(id) => drop(ids.insert(id)),
                    Err(reason) => tracing::error!("the revocation log holds an invalid record: {reason}"),
                }
            }
            let mut state = follower.lock();
            state.own.retain(|id, _| !ids.contains(id));
            state.cursor = page.cursor;
            if !page.more {
                return Ok(ids);
            }
        }
    }

    /// This node has found no log, as one that starts after a wipe does. It detects nothing else, and a node that holds
    /// the lost records detects nothing before its next poll.
    fn log_was_missing(&self) {
        tracing::info!(
            backend = self.driver.name(),
            "the revocation log is new; other nodes are asked for their records"
        );
        let mut state = self.follower().lock();
        state.recovery_ends = Some(Instant::now() + RECOVERY_WAIT);
        (state.repair, state.announce_loss) = (true, true);
        drop(state);
        self.follower().read_notify.notify_one();
    }

    fn log_broke(&self, why: LogDiscontinuity, began: std::time::Instant) {
        let backend = self.driver.name();
        tracing::error!(
            backend,
            "the revocation log lost records: {why}; the records of this node are stored again"
        );
        {
            let mut state = self.follower().lock();
            state.own.retain(|_, stored| !*stored);
            (state.repair, state.announce_loss) = (true, true);
        }
        self.follower().read_notify.notify_one();
        if self.options.on_log_break == FailMode::Closed {
            self.follower().registry.close_uncertain(began, Uncertainty::LogBroken(why));
        }
    }

    /// Appends again what is remembered and not in the log.
    async fn repair(&self, link: &dyn Link) -> Result<(), Failure> {
        let follower = self.follower();
        if follower.lock().announce_loss {
            // A node that had read the lost records may hold them, and does not detect the loss.
            self.announce_loss().await.map_err(Failure::Log)?;
            let mut state = follower.lock();
            state.announce_loss = false;
            state.recovery_ends = state.recovery_ends.map(|_| Instant::now() + RECOVERY_WAIT);
        }
        sleep(REPAIR_SPREAD.mul_f64(fraction())).await;
        {
            let mut state = follower.lock();
            state.cursor = LogCursor::START;
            state.repair = false;
        }
        let repaired = self.store_missing(link).await;
        if repaired.is_err() {
            follower.lock().repair = true;
        }
        let count = repaired?;
        if count == 0 {
            return Ok(());
        }
        tracing::info!(backend = self.driver.name(), "{count} revocations were stored again");
        // A node that read the log before they were stored again lacks them.
        let announced = self.announce_loss().await;
        if announced.is_err() {
            let mut state = follower.lock();
            (state.repair, state.announce_loss) = (true, true);
        }
        announced.map_err(Failure::Log)
    }

    /// Makes every node read the log and store its records in it. Without permission to post the announcement, others are not asked.
    async fn announce_loss(&self) -> Result<()> {
        let (name, frame) = self.follower().announcement(&Bytes::new());
        let posted = self.outbox.send_control(&name, frame, Priority::Ahead)?;
        match posted.await.unwrap_or_else(|_| Err(Error::closed())) {
            Err(error) if !error.is_transient() => {
                tracing::error!(
                    backend = self.driver.name(),
                    "only this node repairs the revocation log, since it cannot ask others: {error}"
                );
                Ok(())
            }
            posted => posted.map(drop),
        }
    }

    /// Appends what is remembered and not in the log, from its start on; how many that were.
    async fn store_missing(&self, link: &dyn Link) -> Result<usize, Failure> {
        let follower = self.follower();
        let there = self.pages(link, std::time::Instant::now()).await?;
        let missing = follower.registry.remembered().into_iter().filter(|(id, _)| !there.contains(id));
        let missing: Vec<_> = missing.collect();
        for chunk in missing.chunks(AT_ONCE) {
            let stored = join_all(chunk.iter().map(|(id, record)| self.store(link, *id, record))).await;
            broke_link(&stored).map_err(Failure::Link)?;
            stored.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(missing.len())
    }

    /// Appends what this node has revoked; what fails for now is tried again.
    pub(crate) async fn append(&self, link: &dyn Link) -> Result<()> {
        let follower = self.follower();
        let mut backoff = self.backoff();
        loop {
            let batch: Vec<Append> = {
                let mut state = follower.lock();
                let count = state.waiting.len().min(AT_ONCE);
                state.waiting.drain(..count).collect()
            };
            if batch.is_empty() {
                follower.append_notify.notified().await;
                continue;
            }
            if self.append_batch(link, PutBack { follower, batch }).await? {
                backoff = self.backoff();
            } else {
                sleep(backoff.next().unwrap_or(self.options.backoff_max)).await;
            }
        }
    }

    /// Appends a batch; whether all of it has an outcome now. The rest is put back.
    async fn append_batch(&self, link: &dyn Link, mut batch: PutBack<'_>) -> Result<bool> {
        let follower = self.follower();
        batch.batch.retain(|append| !append.outcome.is_closed());
        let calls = batch.batch.iter().map(|append| self.store(link, append.id, &append.record));
        let outcomes = join_all(calls).await;
        broke_link(&outcomes)?;
        let appends = std::mem::take(&mut batch.batch);
        for (append, outcome) in appends.into_iter().zip(outcomes) {
            match outcome {
                Err(Failure::Log(error)) if error.is_transient() => {
                    tracing::warn!(backend = self.driver.name(), "a revocation is not stored yet: {error}");
                    batch.batch.push(append);
                }
                outcome => {
                    contain("a waker", || drop(append.outcome.send(outcome.map_err(Failure::into_error))));
                }
            }
        }
        // What was stored has to be met in the log; so read.
        follower.read_notify.notify_one();
        Ok(batch.batch.is_empty())
    }

    /// Appends one record, and has it looked for in the log from then on.
    async fn store(&self, link: &dyn Link, id: RecordId, record: &Bytes) -> Result<(), Failure> {
        let follower = self.follower();
        // Before the call: a read beside it may meet the record before its answer is here.
        follower.lock().own.entry(id).or_insert(false);
        let outcome =
            self.log_call(async { log_of(link)?.append(&follower.log, record.clone()).await }).await;
        let mut state = follower.lock();
        state.append_error = match &outcome {
            Err(Failure::Log(error)) => Some(error.clone()),
            Err(Failure::Link(_)) | Ok(()) => None,
        };
        if outcome.is_ok() {
            // Met already, it is not among them any more.
            state.own.entry(id).and_modify(|stored| *stored = true);
        } else {
            state.own.remove(&id);
        }
        drop(state);
        outcome
    }

    /// A call about the log, with a limit behind the driver's own.
    async fn log_call<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T, Failure> {
        let limit = self.follower().log.limit + MARGIN;
        let answer = self.timed("follow the revocation log", limit, call).await;
        answer.map_err(Failure::Link)?.map_err(Failure::Log)
    }

    /// Closes identified sessions when the log has been out of reach for the lease. Runs with or without a link.
    pub(crate) async fn watch_lease(&self) {
        let (follower, lease) = (self.follower(), self.options.revocation_lease);
        if lease.is_zero() {
            return std::future::pending().await;
        }
        let mut standing = follower.standing();
        loop {
            let Ok(as_of) = standing.wait_for(|standing| standing.as_of.is_some()).await.map(|s| s.as_of)
            else {
                return;
            };
            let Some(end) = as_of.map(|as_of| as_of + lease) else { continue };
            tokio::select! {
                () = sleep_until(end) => {
                    follower.registry.close_uncertain(std::time::Instant::now(), Uncertainty::LeaseExpired);
                    let newer = |standing: &Standing| standing.as_of > as_of;
                    if standing.wait_for(newer).await.is_err() {
                        return;
                    }
                }
                changed = standing.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The log of a link, or why there is none.
fn log_of(link: &dyn Link) -> Result<&dyn DurableLog> {
    link.log().ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend keeps no revocation log"))
}

/// Appends under way; what has no outcome when the link goes waits for the next.
struct PutBack<'a> {
    follower: &'a Follower,
    batch: Vec<Append>,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        let mut state = self.follower.lock();
        for append in self.batch.drain(..).rev() {
            state.waiting.push_front(append);
        }
    }
}
