//! Digests: when this node sends its own, asks the others for theirs, answers, and looks who has fallen silent.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Receivers, Supervisor, dispatch::Dispatch, fraction, outbox::Priority};
use crate::{
    Result,
    driver::{CLOSE_LIMIT, Link, random},
    wire::{digest::encode_ask, names::DIGESTS},
};

/// How many digests of others, of up to 4 KiB, a node receives a second before it makes its own rarer, as they do.
const MOST_DIGESTS: u32 = 100;
/// Where the time between two answers is longer, there are many nodes, and their answers are spread over a fifth of it. Nobody
/// who has not answered is asked again sooner.
const MANY: Duration = Duration::from_millis(100);
/// The answer that follows a long digest waits so long for each byte of that: what a node posts is announced in smaller parts
/// when it is asked often, and they are longer together.
const PER_BYTE: Duration = Duration::from_micros(8);
/// How often, at most, to look for nodes that have fallen silent.
const LOOK: Duration = Duration::from_secs(5);
/// How many of the last digests are one batch: together no longer than a batch may be.
const CLOSING_BATCH: usize = 16;

impl Supervisor {
    /// Announces what was posted here: every interval, and when somebody asks. With many nodes each sends digests less often,
    /// so that no node receives many more than [`MOST_DIGESTS`] a second.
    pub(super) async fn send_digests(&self, dispatch: &Dispatch) -> Result<()> {
        self.outbox.set_digest_interval(self.options.digest_interval);
        // Links that were opened together, after a restart of the server, must not send theirs together for ever.
        let mut due = Instant::now() + self.options.digest_interval.mul_f64(fraction());
        loop {
            tokio::select! {
                biased;
                () = sleep_until(due) => {
                    let count = dispatch.digests(|digests| std::mem::take(&mut digests.count)).unwrap_or(0);
                    let few = Duration::from_secs(1) / MOST_DIGESTS * count;
                    let interval = self.options.digest_interval.max(few);
                    due = Instant::now() + interval;
                    self.outbox.set_digest_interval(interval);
                }
                () = self.may_answer(dispatch) => {}
            }
            self.outbox.digest(dispatch.take_asked());
        }
    }

    /// Waits until somebody asks, and then until an answer does not follow the last digest too soon. Cancel safe.
    async fn may_answer(&self, dispatch: &Dispatch) {
        dispatch.wait_asked().await;
        let pace = dispatch.digests(|digests| digests.pace()).unwrap_or_default();
        let spread = if pace > MANY { pace.mul_f64(fraction() / 5.0) } else { Duration::ZERO };
        sleep(spread).await;
        if let Some((last, bytes)) = self.outbox.last_digest() {
            let long = PER_BYTE * u32::try_from(bytes).unwrap_or(u32::MAX);
            sleep_until(last + pace.max(long)).await;
        }
    }

    /// Asks, unless that was done just now, and answers itself. What this node posts from here on stands behind both.
    pub(super) fn ask(&self, dispatch: &Dispatch) {
        let Receivers { hub, names, probe, .. } = &self.receivers;
        let ask = random();
        let asked = dispatch.digests(|digests| {
            let may = digests.next_ask().is_none_or(|next| next <= Instant::now());
            may.then(|| digests.ask(ask, hub.begin_probe_epoch()))
        });
        if let Some(Some(())) = asked {
            let frame = encode_ask(probe.node(), ask);
            // Its outcome is of no use: who does not answer is asked again.
            let _ = self.outbox.send_control(&names.to_wire(DIGESTS), frame, Priority::Ahead);
            self.outbox.digest(vec![ask]);
        }
    }

    /// Asks whenever a channel or a node is new, and again until every node has answered, or has not for a while.
    pub(super) async fn ask_for_digests(&self, dispatch: &Dispatch) -> Result<()> {
        let hub = &self.receivers.hub;
        loop {
            dispatch.wait_unproven().await;
            let mut tries = 1;
            loop {
                let wanted = hub.wanted_probe_epoch();
                let known = dispatch.digests(|digests| (digests.newest_ask() >= wanted, digests.pace()));
                let Some((asked, pace)) = known else { break };
                if asked {
                    let patience = pace.max(MANY) * (1 << tries);
                    if timeout(patience, hub.one_more_subscribed()).await.is_ok() {
                        tries = 1;
                        continue;
                    }
                    if dispatch.digests(|digests| digests.ask_again(wanted, tries)) != Some(true) {
                        break;
                    }
                }
                tries = if asked { tries + 1 } else { 1 };
                let next = dispatch.digests(|digests| digests.next_ask()).flatten();
                sleep_until(next.unwrap_or_else(Instant::now)).await;
                self.ask(dispatch);
            }
        }
    }

    /// Looks for nodes that owe a digest and have fallen silent.
    pub(super) async fn watch_silence(&self, dispatch: &Dispatch) -> Result<()> {
        let pace = self.options.digest_interval.min(LOOK);
        loop {
            sleep(pace).await;
            if dispatch.digests(|digests| digests.look(pace)).unwrap_or(false) {
                dispatch.fell_silent();
            }
        }
    }

    /// The last digests of this node: what it has posted, and that it closes. Others need not take it for killed.
    pub(super) async fn send_closing_digests(&self, link: &dyn Link) {
        let digests = self.outbox.closing_digests();
        let sent = async {
            for batch in digests.chunks(CLOSING_BATCH) {
                link.publish(batch).await;
            }
        };
        let _ = timeout(CLOSE_LIMIT / 3, sent).await;
    }
}
