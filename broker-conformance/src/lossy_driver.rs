//! Losses: a backend that loses and repeats what one node posts, whatever the backend: around its driver.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, Result,
    driver::{
        Arrival, ConnectContext, Driver, DurableLog, Inbox, Inspection, Link, LinkInfo, LogSpec, Missing,
        Outgoing, Receipt, Sink,
    },
};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It gets lost, and the poster is told that all is well.
    Lost,
    /// It arrives twice.
    Twice,
}

type Rule = Box<dyn Fn(&Outgoing) -> Fate + Send>;
type Deaf = Box<dyn Fn(&Arrival<'_>) -> bool + Send>;

/// What becomes of the frames of a node, and of those on their way to it: all arrive, until told otherwise.
#[derive(Clone, Default)]
pub struct Losses(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rule: Mutex<Option<Rule>>,
    deaf: Mutex<Option<Deaf>>,
    digests: AtomicUsize,
}

impl Losses {
    /// From now on this decides.
    pub fn rule(&self, rule: impl Fn(&Outgoing) -> Fate + Send + 'static) {
        *self.0.rule.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(rule));
    }

    /// From now on what arrives at the node is lost if this says so.
    pub fn deaf(&self, deaf: impl Fn(&Arrival<'_>) -> bool + Send + 'static) {
        *self.0.deaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(deaf));
    }

    fn does_not_hear(&self, arrival: &Arrival<'_>) -> bool {
        let deaf = self.0.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        deaf.as_ref().is_some_and(|deaf| deaf(arrival))
    }

    /// Loses every post whose payload ends like this.
    pub fn lose(&self, end: &'static str) {
        self.rule(
            move |frame| if frame.frame().ends_with(end.as_bytes()) { Fate::Lost } else { Fate::Arrives },
        );
    }

    /// Everything arrives.
    pub fn stop(&self) {
        self.rule(|_| Fate::Arrives);
    }

    /// How many digests the node has posted so far, those that were lost included.
    #[must_use]
    pub fn digests(&self) -> usize {
        self.0.digests.load(Ordering::SeqCst)
    }

    /// The driver with these losses.
    #[must_use]
    pub fn around(&self, driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
        Arc::new(LossyDriver { driver, losses: self.clone() })
    }

    fn fate(&self, frame: &Outgoing) -> Fate {
        let rule = self.0.rule.lock().unwrap_or_else(PoisonError::into_inner);
        rule.as_ref().map_or(Fate::Arrives, |rule| rule(frame))
    }
}

impl fmt::Debug for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Losses").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct LossyDriver {
    driver: Arc<dyn Driver>,
    losses: Losses,
}

#[async_trait]
impl Driver for LossyDriver {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    async fn connect(&self, mut context: ConnectContext) -> Result<Box<dyn Link>> {
        let inbox = LossyInbox { inbox: context.inbox.clone(), losses: self.losses.clone() };
        context.inbox = Inbox::new(inbox);
        Ok(Box::new(LossyLink { link: self.driver.connect(context).await?, losses: self.losses.clone() }))
    }
}

struct LossyInbox {
    inbox: Inbox,
    losses: Losses,
}

impl Sink for LossyInbox {
    fn deliver(&self, arrival: Arrival<'_>) {
        if !self.losses.does_not_hear(&arrival) {
            Sink::deliver(&self.inbox, arrival);
        }
    }

    fn gap(&self, missing: Missing<'_>) {
        Sink::gap(&self.inbox, missing);
    }

    fn unsubscribed(&self, channels: &[ChannelName]) {
        Sink::unsubscribed(&self.inbox, channels);
    }

    fn lost(&self, error: Error) {
        self.inbox.lost(error);
    }
}

struct LossyLink {
    link: Box<dyn Link>,
    losses: Losses,
}

#[async_trait]
impl Link for LossyLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let digests = batch.iter().filter(|frame| is_digest(frame)).count();
        let fates: Vec<_> = batch.iter().map(|frame| self.losses.fate(frame)).collect();
        let mut sent = Vec::new();
        for (frame, fate) in batch.iter().zip(&fates) {
            let times = match fate {
                Fate::Lost => 0,
                Fate::Arrives => 1,
                Fate::Twice => 2,
            };
            sent.extend(std::iter::repeat_n(frame.clone(), times));
        }
        let outcomes = if sent.is_empty() { Vec::new() } else { self.link.publish(&sent).await };
        let mut outcomes = outcomes.into_iter();
        let outcome = |fate: &Fate| match fate {
            Fate::Lost => Some(Ok(Receipt::new())),
            Fate::Arrives => outcomes.next(),
            Fate::Twice => outcomes.next().and(outcomes.next()),
        };
        let outcomes = fates.iter().filter_map(outcome).collect();
        self.losses.0.digests.fetch_add(digests, Ordering::SeqCst);
        outcomes
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.link.subscribe(channels).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.link.unsubscribe(channels).await
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
        self.link.close().await
    }
}

/// Whether a frame is a digest, or a bundle with one: what its node says it has posted.
#[must_use]
pub fn is_digest(frame: &Outgoing) -> bool {
    kinds(frame.channel.as_str(), &frame.frame()).contains(&0)
}

/// Whether what arrived is the question of a node for digests, or a bundle with one.
#[must_use]
pub fn is_question(arrival: &Arrival<'_>) -> bool {
    kinds(arrival.channel, &arrival.frame).contains(&1)
}

/// What the frames on the channel of digests are: their epochs tell. See `docs/wire-format.md`.
fn kinds(channel: &str, frame: &[u8]) -> Vec<u32> {
    let epoch = |frame: &[u8]| frame.get(20..24)?.try_into().ok().map(u32::from_be_bytes);
    if !channel.ends_with("$digests") {
        return Vec::new();
    }
    let Some(mut rest) = frame.strip_prefix(b"\xB5\x01\x01\x00") else {
        return epoch(frame).into_iter().collect();
    };
    let mut kinds = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let Some((frame, tail)) = tail.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        kinds.extend(epoch(frame));
        rest = tail;
    }
    kinds
}
