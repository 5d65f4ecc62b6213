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
    ChannelName, Result,
    driver::{ConnectContext, Driver, DurableLog, Inspection, Link, LinkInfo, LogSpec, Outgoing, Receipt},
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

/// What becomes of the frames of a node: all arrive, until told otherwise.
#[derive(Clone, Default)]
pub struct Losses(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rule: Mutex<Option<Rule>>,
    digests: AtomicUsize,
}

impl Losses {
    /// From now on this decides.
    pub fn rule(&self, rule: impl Fn(&Outgoing) -> Fate + Send + 'static) {
        *self.0.rule.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(rule));
    }

    /// Loses every post whose payload ends like this.
    pub fn lose(&self, end: &'static str) {
        self.rule(
            move |frame| if frame.frame.ends_with(end.as_bytes()) { Fate::Lost } else { Fate::Arrives },
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

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        Ok(Box::new(LossyLink { link: self.driver.connect(context).await?, losses: self.losses.clone() }))
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

/// Whether a frame is a digest: what its node says it has posted.
#[must_use]
pub fn is_digest(frame: &Outgoing) -> bool {
    frame.channel.as_str().ends_with("$digests")
}
