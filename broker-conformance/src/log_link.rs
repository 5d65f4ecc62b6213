//! LogLink: a link that no broker owns, opened by hand for a revocation log.

use std::{fmt, sync::Arc, time::Duration};

use broker_core::{
    Backend, BrokerUrl, Error, ErrorKind,
    driver::{
        ConnectContext, Driver, DurableLog, Inbox, Link, LogCursor, LogDiscontinuity, LogPage, LogSpec,
    },
};
use bytes::Bytes;

use crate::{
    case::Outcome,
    harness::Harness,
    wait::{self, eventually, within},
};

/// How long these logs keep a record: none of a check's own grows too old.
pub const RETENTION: Duration = Duration::from_secs(3600);
/// The limit for one call.
pub const LIMIT: Duration = Duration::from_secs(30);

/// One log, and a way to open links to it beside any broker.
#[derive(Clone, Debug)]
pub struct Opener {
    driver: Arc<dyn Driver>,
    /// Which log, and its limits.
    pub log: LogSpec,
}

impl Opener {
    /// The log of a case, around any line.
    ///
    /// # Errors
    /// The harness has no URL of its backend.
    pub fn of(h: &dyn Harness) -> Outcome<Self> {
        Self::at(h, &h.url())
    }

    /// The log of a case, by way of a line.
    ///
    /// # Errors
    /// It is no URL of the case's backend.
    pub fn at(h: &dyn Harness, url: &str) -> Outcome<Self> {
        let log = LogSpec::of(&h.options().prefix, RETENTION, LIMIT);
        let opener = Self::new(h.backend(), url, log)?;
        Ok(Self { driver: h.around(opener.driver), ..opener })
    }

    /// Any log.
    ///
    /// # Errors
    /// It is no URL of the backend.
    pub fn new(backend: Backend, url: &str, log: LogSpec) -> Outcome<Self> {
        Ok(Self { driver: (backend.open)(&BrokerUrl::parse(url)?)?, log })
    }

    /// One more link.
    ///
    /// # Errors
    /// There is none within the limit.
    pub async fn open(&self) -> Outcome<LogLink> {
        let inbox = Inbox::discard();
        let link = within("a link", self.driver.connect(ConnectContext::new(inbox.clone()))).await??;
        Ok(LogLink { link, inbox, log: self.log.clone() })
    }

    /// A link to a server that has just started, and all that its log has after a cursor. Who is too early at a log may
    /// be refused, or lose the connection; a broker asks again, too.
    ///
    /// # Errors
    /// There is no link within the limit, or it reads nothing within that.
    pub async fn read_again(&self, after: &LogCursor) -> Outcome<(LogLink, Rest)> {
        let link = self.open().await?;
        let rest = eventually("the log to be there again", wait::LIMIT, || async {
            link.rest(after).await.map_err(|error| error.to_string())
        })
        .await?;
        Ok((link, rest))
    }
}

/// A link of no broker, for a log.
pub struct LogLink {
    link: Box<dyn Link>,
    inbox: Inbox,
    log: LogSpec,
}

impl LogLink {
    fn durable(&self) -> Result<&dyn DurableLog, Error> {
        self.link.log().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the link has no log"))
    }

    /// Appends a record.
    ///
    /// # Errors
    /// As [`DurableLog::append`].
    pub async fn append(&self, record: impl Into<Bytes>) -> Result<(), Error> {
        self.durable()?.append(&self.log, record.into()).await
    }

    /// Reads a page.
    ///
    /// # Errors
    /// As [`DurableLog::read`].
    pub async fn page(&self, after: &LogCursor) -> Result<LogPage, Error> {
        self.durable()?.read(&self.log, after).await
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// As [`DurableLog::read`].
    pub async fn rest(&self, after: &LogCursor) -> Result<Rest, Error> {
        let mut rest = Rest { records: Vec::new(), cursor: after.clone(), broken: None, pages: 0 };
        loop {
            let page = self.page(&rest.cursor).await?;
            if page.broken.is_some() {
                // What came before belongs to a log that is no more.
                rest.records.clear();
                rest.broken = page.broken;
            }
            rest.records.extend(page.records);
            rest.cursor = page.cursor;
            rest.pages += 1;
            if !page.more {
                return Ok(rest);
            }
        }
    }

    /// Whether the link has reported itself lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.inbox.is_lost()
    }

    /// Ends the link in good order.
    ///
    /// # Errors
    /// As [`Link::close`].
    pub async fn close(self) -> Outcome {
        Ok(within("the link to close", self.link.close()).await??)
    }
}

impl fmt::Debug for LogLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLink").field("log", &self.log.name).field("inbox", &self.inbox).finish()
    }
}

/// All that was after a cursor.
#[derive(Debug)]
pub struct Rest {
    /// Oldest first.
    pub records: Vec<Bytes>,
    /// Stands after the last of them.
    pub cursor: LogCursor,
    /// Whether the cursor was no place in the log any more.
    pub broken: Option<LogDiscontinuity>,
    /// How many pages it took.
    pub pages: usize,
}

impl Rest {
    /// These records and no others, and the cursor was good.
    #[track_caller]
    pub fn is(&self, expected: &[&str]) {
        assert_eq!((self.broken, &*self.records), (None, &*bytes(expected)));
    }

    /// These records and no others, and the cursor was not good.
    #[track_caller]
    pub fn is_broken(&self, expected: &[&str]) {
        assert!(self.broken.is_some(), "the break is not reported: {self:?}");
        assert_eq!(*self.records, *bytes(expected));
    }
}

/// Records of these texts.
fn bytes(texts: &[&str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect()
}
