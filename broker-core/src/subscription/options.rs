//! SubscribeOptions: how one subscription differs from the others of its broker.

use std::time::Duration;

use crate::{Error, ErrorKind, Result, config::MOST_CAPACITY, hub::Reads};

/// How one subscription is made, and what waits for its reader. The default is what
/// [`subscribe`](crate::Session::subscribe) does.
///
/// For [`subscribe_with`](crate::Session::subscribe_with), [`create_stream_with`](crate::Session::create_stream_with)
/// and [`channel_set_with`](crate::Session::channel_set_with).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Event, GapCause, Scope, SubscribeOptions};
///
/// let broker = broker::connect("memory:").await?;
/// let mut prices = broker.subscribe_with("prices", SubscribeOptions::new().latest_only()).await?;
/// for price in ["7", "8", "9"] {
///     broker.publish("prices", price, Scope::Global).await?;
/// }
/// let Some(Event::Gap(gap)) = prices.next().await else { unreachable!() };
/// assert_eq!((gap.missed, gap.cause), (Some(2), GapCause::Conflated));
/// let Some(Event::Message(price)) = prices.next().await else { unreachable!() };
/// assert_eq!(price.payload()?, "9");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeOptions {
    capacity: Option<usize>,
    latest_only: bool,
    timeout: Option<Duration>,
    without_waiting: bool,
}

impl SubscribeOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most so many messages wait for this reader, between 1 and 2^24; beyond that it loses the oldest, and receives
    /// a gap with their exact number. More or less than [`queue_capacity`](crate::Options::queue_capacity), which is the
    /// default. The channel keeps as many as its most demanding reader here may have waiting, and no more bytes than
    /// [`queue_bytes`](crate::Options::queue_bytes).
    ///
    /// A reader may have taken 32 messages more, as ever, which are yielded before it looks again.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Only the newest message: a reader that lags skips the others. For a state of which the last value counts: a
    /// price, a position, a progress.
    ///
    /// Whenever messages were skipped, a gap of the cause [`Conflated`](crate::GapCause::Conflated) with their exact
    /// number stands before the newest. Messages that were lost before it keep the gaps of their own. What follows the gap was the newest message when the gap was yielded.
    /// A smaller [`capacity`](Self::capacity) has no effect.
    #[must_use]
    pub fn latest_only(mut self) -> Self {
        self.latest_only = true;
        self
    }

    /// How long this call waits for the confirmation, instead of
    /// [`subscribe_timeout`](crate::Options::subscribe_timeout): between 1 ms and 24 h.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The call returns at once, also while the backend is unavailable. When the backend has confirmed the channel, the
    /// stream begins with a gap of the cause [`Subscribed`](crate::GapCause::Subscribed): every later post is
    /// delivered, or reported missing; what was posted before may be missing. Where the channel is subscribed already,
    /// as on a local broker, it begins at once.
    ///
    /// A refusal ends the stream with [`CloseReason::Refused`](crate::CloseReason::Refused). There is no time limit: a
    /// lost link is made again, and the channel is subscribed then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Event, GapCause, SubscribeOptions};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut news = broker.subscribe_with("news", SubscribeOptions::new().without_waiting()).await?;
    /// let Some(Event::Gap(live)) = news.next().await else { unreachable!() };
    /// assert_eq!(live.cause, GapCause::Subscribed); // read the present state now
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.without_waiting = true;
        self
    }

    /// What the hub has to do about it.
    pub(crate) fn reads(&self) -> Result<Reads> {
        let capacity = match self.capacity {
            None => None,
            Some(messages) if (1..=MOST_CAPACITY).contains(&messages) => u32::try_from(messages).ok(),
            Some(messages) => {
                let message = format!("a capacity of {messages}: must be between 1 and {MOST_CAPACITY}");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        };
        let (latest, pending) = (self.latest_only, self.without_waiting);
        Ok(Reads { capacity, latest, pending, queueing: false })
    }

    /// How long to wait for the confirmation.
    pub(crate) fn limit(&self, default: Duration) -> Result<Duration> {
        let limits = Duration::from_millis(1)..=Duration::from_secs(86_400);
        match self.timeout {
            None => Ok(default),
            Some(limit) if limits.contains(&limit) => Ok(limit),
            Some(limit) => {
                let message = format!("a timeout of {limit:?}: must be between 1ms and 24h");
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }

    pub(crate) fn waits(&self) -> bool {
        !self.without_waiting
    }
}
