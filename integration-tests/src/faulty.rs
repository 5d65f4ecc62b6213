//! Faulty drivers: the memory driver with one thing wrong, to test the suite. Each must fail in a case whose name says
//! why; [`FAULTS`](faults::FAULTS) says which.

pub mod faults;
mod faulty_inbox;

use std::{
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{
        ConnectContext, Driver, DurableLog, Inspection, Link, LinkInfo, LogCursor, LogPage, LogSpec,
        Outgoing, Reach, Receipt,
    },
};
use bytes::Bytes;
use faults::Wrong;
use faulty_inbox::{FaultyInbox, apart, origin};

/// A driver around another, with one thing wrong.
#[derive(Debug)]
pub struct FaultyDriver {
    driver: Arc<dyn Driver>,
    wrong: Wrong,
    /// What it keeps for later, across links.
    hoard: Arc<Mutex<Vec<Outgoing>>>,
}

impl FaultyDriver {
    /// The driver with this wrong.
    #[must_use]
    pub fn around(driver: Arc<dyn Driver>, wrong: Wrong) -> Arc<dyn Driver> {
        Arc::new(Self { driver, wrong, hoard: Arc::default() })
    }
}

#[async_trait]
impl Driver for FaultyDriver {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        if self.wrong == Wrong::Busy {
            tokio::spawn(pending::<()>());
        }
        let inbox = Arc::new(FaultyInbox::new(context.inbox.clone(), self.wrong));
        let link = loop {
            match self.driver.connect(context.clone().with_inbox(FaultyInbox::inbox(&inbox))).await {
                Ok(link) => break link,
                Err(error) if self.wrong != Wrong::RetriesByItself => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let shared = Arc::new(Shared {
            link: Mutex::new(link.into()),
            inbox: Arc::clone(&inbox),
            wrong: self.wrong,
            subscribed: Mutex::default(),
            frames: AtomicUsize::new(0),
            hoard: Arc::clone(&self.hoard),
        });
        if self.wrong == Wrong::ReconnectsSilently {
            let (driver, shared) = (Arc::clone(&self.driver), Arc::downgrade(&shared));
            *inbox.heal.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(move || {
                if let Some(shared) = shared.upgrade() {
                    tokio::spawn(heal(Arc::clone(&driver), context.clone(), shared));
                }
            }));
        }
        Ok(Box::new(FaultyLink(shared)))
    }
}

/// The very bug that this library is about: a client that is connected again, and nobody is told.
async fn heal(driver: Arc<dyn Driver>, context: ConnectContext, shared: Arc<Shared>) {
    for _ in 0..10_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Ok(link) = driver.connect(context.clone().with_inbox(FaultyInbox::inbox(&shared.inbox))).await
        else {
            continue;
        };
        let channels = shared.subscribed().clone();
        if channels.is_empty() || link.subscribe(&channels).await.is_ok() {
            *shared.link.lock().unwrap_or_else(PoisonError::into_inner) = link.into();
            return;
        }
    }
}

struct FaultyLink(Arc<Shared>);

struct Shared {
    link: Mutex<Arc<dyn Link>>,
    inbox: Arc<FaultyInbox>,
    wrong: Wrong,
    subscribed: Mutex<Vec<ChannelName>>,
    frames: AtomicUsize,
    hoard: Arc<Mutex<Vec<Outgoing>>>,
}

impl Shared {
    fn link(&self) -> Arc<dyn Link> {
        Arc::clone(&self.link.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn subscribed(&self) -> MutexGuard<'_, Vec<ChannelName>> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every so many posts, not counting the broker's own.
    fn is_turn(&self, sent: &Outgoing, every: usize) -> bool {
        let posts = if is_own(sent) { 0 } else { apart(&sent.frame()).len() };
        let before = self.frames.fetch_add(posts, Ordering::SeqCst);
        (before + posts) / every > before / every
    }
}

fn is_own(frame: &Outgoing) -> bool {
    frame.channel.as_str().contains('$')
}

/// Answers what the broker posts for itself without the server, and sends the rest.
async fn answer_probes(shared: &Shared, link: &dyn Link, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
    let (own, others): (Vec<_>, Vec<_>) =
        batch.iter().cloned().partition(|frame| frame.channel.as_str().contains('$'));
    for frame in own {
        shared.inbox.inner.deliver(frame.channel.as_str(), frame.frame());
    }
    // Only when nothing else is in it: the outcomes are in the order of the batch.
    if others.is_empty() {
        batch.iter().map(|_| Ok(Receipt::new())).collect()
    } else {
        link.publish(batch).await
    }
}

/// The same frames, on channels with small letters.
fn elsewhere(batch: &[Outgoing]) -> Vec<Outgoing> {
    let change = |frame: &Outgoing| {
        let mut frame = frame.clone();
        if let Ok(name) = ChannelName::new(frame.channel.as_str().to_lowercase()) {
            frame.channel = name;
        }
        frame
    };
    batch.iter().map(change).collect()
}

#[async_trait]
impl Link for FaultyLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let Self(shared) = self;
        let link = shared.link();
        if let Some(frame) = batch.first() {
            shared.inbox.own.store(origin(&frame.frame()), Ordering::SeqCst);
        }
        match shared.wrong {
            Wrong::DropsAndReportsSent => {
                let sent: Vec<_> = batch.iter().filter(|frame| !shared.is_turn(frame, 20)).cloned().collect();
                if !sent.is_empty() {
                    link.publish(&sent).await;
                }
                batch.iter().map(|_| Ok(Receipt::new())).collect()
            }
            Wrong::SendsAndReportsFailure => {
                let mut outcomes = link.publish(batch).await;
                for (frame, outcome) in batch.iter().zip(&mut outcomes) {
                    if shared.is_turn(frame, 20) {
                        *outcome = Err(Error::new(ErrorKind::Unavailable, "not sent, it says"));
                    }
                }
                outcomes
            }
            Wrong::KeepsUnsentPosts => hoard(shared, &*link, batch).await,
            Wrong::ConfirmsUnasked => {
                // Whatever the bus says, or while it says nothing.
                let _ = tokio::time::timeout(Duration::from_millis(200), link.publish(batch)).await;
                batch.iter().map(|_| Ok(Receipt::new())).collect()
            }
            Wrong::ReversesOutcomes => {
                let mut outcomes = link.publish(batch).await;
                outcomes.reverse();
                outcomes
            }
            Wrong::LosesCount if batch.iter().any(|frame| shared.is_turn(frame, 30)) => {
                let mut outcomes = link.publish(batch).await;
                outcomes.pop();
                outcomes
            }
            Wrong::ReversesBatches => {
                let mut outcomes = link.publish(&batch.iter().rev().cloned().collect::<Vec<_>>()).await;
                outcomes.reverse();
                outcomes
            }
            Wrong::Panics if batch.iter().any(|frame| shared.is_turn(frame, 30)) => panic!("on purpose"),
            Wrong::NeverAnswers if batch.iter().any(|frame| shared.is_turn(frame, 30)) => pending().await,
            Wrong::TakesOnlySmallOnes => {
                let mut outcomes = link.publish(batch).await;
                for (frame, outcome) in batch.iter().zip(&mut outcomes) {
                    if frame.size() > 65_536 {
                        *outcome = Err(Error::new(ErrorKind::TooLarge, "more than this driver likes"));
                    }
                }
                outcomes
            }
            Wrong::AnswersProbesItself => answer_probes(shared, &*link, batch).await,
            Wrong::WritesElsewhere => link.publish(&elsewhere(batch)).await,
            _ => link.publish(batch).await,
        }
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let Self(shared) = self;
        let link = shared.link();
        shared.subscribed().extend(channels.iter().cloned());
        let users = channels.iter().all(|name| !name.as_str().contains('$'));
        match shared.wrong {
            Wrong::ConfirmsEarly if users => {
                let channels = channels.to_vec();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    let _ = link.subscribe(&channels).await;
                });
                Ok(())
            }
            Wrong::SubscribesTheFirst => link.subscribe(&channels[..1]).await,
            Wrong::ForgetsTheOldest => {
                let oldest = {
                    let mut subscribed = shared.subscribed();
                    let more = subscribed.len().saturating_sub(200);
                    subscribed.drain(..more).filter(|name| !name.as_str().contains('$')).collect::<Vec<_>>()
                };
                if !oldest.is_empty() {
                    link.unsubscribe(&oldest).await?;
                }
                link.subscribe(channels).await
            }
            Wrong::HidesRefusals => match link.subscribe(channels).await {
                Err(error) if !error.is_transient() => Ok(()),
                other => other,
            },
            _ => link.subscribe(channels).await,
        }
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let Self(shared) = self;
        shared.subscribed().retain(|name| !channels.contains(name));
        match shared.wrong {
            Wrong::NeverUnsubscribes => Ok(()),
            Wrong::UnsubscribesNeighbours => {
                let neighbours: Vec<_> = shared
                    .subscribed()
                    .iter()
                    .filter(|name| channels.iter().any(|gone| name.as_str().starts_with(gone.as_str())))
                    .cloned()
                    .collect();
                shared.link().unsubscribe(&[channels, &neighbours].concat()).await
            }
            _ => shared.link().unsubscribe(channels).await,
        }
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        let has_log = self.0.link().log().is_some() && self.0.wrong != Wrong::ClaimsToHaveNoLog;
        has_log.then_some(self as &dyn DurableLog)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        self.0.link().probe_channels(own)
    }

    fn info(&self) -> LinkInfo {
        let mut info = self.0.link().info();
        if self.0.wrong == Wrong::ClaimsTooMuch {
            info.capabilities = info.capabilities.reach(Reach::Cluster);
        }
        info
    }

    async fn check(&self) -> Result<()> {
        self.0.link().check().await
    }

    async fn inspect(&self, log: &LogSpec) -> Inspection {
        self.0.link().inspect(log).await
    }

    async fn close(&self) -> Result<()> {
        match self.0.wrong {
            Wrong::LeavesItsLink => {
                // Still there when nobody has the link any more.
                std::mem::forget(self.0.link());
                Ok(())
            }
            _ => self.0.link().close().await,
        }
    }
}

#[async_trait]
impl DurableLog for FaultyLink {
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        match self.0.wrong {
            Wrong::ForgetsRecords => Ok(()),
            _ => inner(&*self.0.link())?.append(log, record).await,
        }
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        let page = inner(&*self.0.link())?.read(log, after).await;
        page.map(|mut page| {
            match self.0.wrong {
                Wrong::ReadsNothing => page.records.clear(),
                Wrong::SkipsTheLastRecord => drop(page.records.pop()),
                Wrong::HidesBreaks => page.broken = None,
                Wrong::HidesNewLogs => page.created = false,
                Wrong::StopsAfterOnePage => page.more = false,
                Wrong::StaysAtTheBeginning => page.cursor = after.clone(),
                _ => {}
            }
            page
        })
    }
}

fn inner(link: &dyn Link) -> Result<&dyn DurableLog> {
    link.log().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the driver inside has no log"))
}

/// Keeps what could not be sent, says that it was, and sends it when it can.
async fn hoard(shared: &Shared, link: &dyn Link, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
    let kept = std::mem::take(&mut *shared.hoard.lock().unwrap_or_else(PoisonError::into_inner));
    if !kept.is_empty() {
        link.publish(&kept).await;
    }
    let outcomes = tokio::time::timeout(Duration::from_millis(200), link.publish(batch)).await;
    let failed = outcomes.map_or(true, |outcomes| outcomes.iter().any(Result::is_err));
    if failed {
        let users = batch.iter().filter(|frame| !is_own(frame)).cloned();
        shared.hoard.lock().unwrap_or_else(PoisonError::into_inner).extend(users);
    }
    batch.iter().map(|_| Ok(Receipt::new())).collect()
}
