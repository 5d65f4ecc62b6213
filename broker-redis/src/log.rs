//! Log: the revocation log as a Redis stream, under the one key that is its name.
//!
//! The stream's identity, its *epoch*, is the name of a consumer group that nobody reads with: it is born and dies
//! with the key, is saved and replicated with it, and needs no second one. Ids alone would not show that another
//! stream stands in the place of the first: they are times, and what is added to the new one is newer.

mod place;
mod view;

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use broker_core::{
    ErrorKind::{Other, Timeout, Unsupported},
    Result,
    driver::{LogBreak, LogCursor, LogPage, RevocationLog, random},
};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::timeout;

use crate::{
    errors::{NO_LOG, translate_of_log},
    link::RedisLink,
};
use place::{Id, Place};
use view::{View, field, text};

/// What the names of the groups that are identities begin with.
const EPOCH: &str = "epoch-";
/// The field of an entry that is the record.
const FIELD: &str = "r";
/// How many entries one read asks for. Replies to posts wait behind it on the same connection: with records of
/// the usual size it is less than a batch of posts, with the largest ones 16 MiB.
const PAGE: usize = 250;
/// How often to make a log that is gone again as soon as it is made.
const ATTEMPTS: usize = 3;

/// What a link remembers of its log.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// A look at it has succeeded: this server can keep one.
    looked: AtomicBool,
    /// The newest time in an id, in milliseconds: the server's clock, or somewhat behind it.
    newest: AtomicU64,
}

/// A log, by way of a link.
pub(crate) struct Log<'a> {
    pub(crate) link: &'a RedisLink,
    pub(crate) log: &'a RevocationLog,
}

impl Log<'_> {
    /// Adds an entry.
    pub(crate) async fn append(&self, record: &[u8]) -> Result<()> {
        self.limited(async {
            // An old server takes entries, and cannot tell a reader what has become of them.
            if !self.link.log.looked.load(Ordering::Relaxed) {
                self.look(None, 1).await?;
            }
            let mut add = redis::cmd("XADD");
            add.arg(self.key());
            let floor = self.floor();
            if floor > 0 {
                add.arg("MINID").arg("~").arg(floor);
            }
            let added = self.ask(add.arg("*").arg(FIELD).arg(record)).await?;
            let id = text(&added).and_then(Id::parse).ok_or_else(|| self.link.peer.foreign())?;
            self.link.log.newest.fetch_max(id.ms, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    /// Reads a page after a cursor.
    pub(crate) async fn read(&self, after: &LogCursor) -> Result<LogPage> {
        self.limited(async {
            let broken = match after.place().map(Place::parse) {
                None => None,
                Some(None) => Some(LogBreak::Replaced),
                Some(Some(place)) => {
                    let view = self.look(Some(&place), PAGE).await?;
                    match view.lost(&place) {
                        None => return Ok(view.page(Some(place), None)),
                        lost => lost,
                    }
                }
            };
            Ok(self.look(None, PAGE).await?.page(None, broken))
        })
        .await
    }

    fn key(&self) -> &str {
        self.log.name.as_str()
    }

    /// Before which time entries may go, in milliseconds: what is old by the server's clock and by ours. By ours
    /// alone, one that is ahead would drop what is young.
    fn floor(&self) -> u64 {
        let here = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds);
        let newest = self.link.log.newest.load(Ordering::Relaxed);
        newest.min(here).saturating_sub(milliseconds(self.log.retention))
    }

    /// The log as it is, with up to `count` entries after a place; makes it if it is missing.
    async fn look(&self, after: Option<&Place>, count: usize) -> Result<View> {
        for _ in 0..ATTEMPTS {
            if let Some(view) = self.view(after, count).await? {
                self.link.log.looked.store(true, Ordering::Relaxed);
                self.link.log.newest.fetch_max(view.last.ms, Ordering::Relaxed);
                return Ok(view);
            }
            let epoch = format!("{EPOCH}{:016x}", random());
            let mut create = redis::cmd("XGROUP");
            self.ask(create.arg("CREATE").arg(self.key()).arg(epoch).arg("$").arg("MKSTREAM")).await?;
        }
        Err(self.link.peer.error(Other, "loses the revocation log as soon as it is made"))
    }

    /// The log as it is; `None` if it is missing, or has no identity yet.
    async fn view(&self, after: Option<&Place>, count: usize) -> Result<Option<View>> {
        let from = after.map_or("-".to_owned(), |place| format!("({}", place.id));
        let mut pipeline = Pipeline::with_capacity(5);
        pipeline.cmd("MULTI");
        pipeline.cmd("XINFO").arg("GROUPS").arg(self.key());
        pipeline.cmd("XINFO").arg("STREAM").arg(self.key());
        pipeline.cmd("XRANGE").arg(self.key()).arg(from).arg("+").arg("COUNT").arg(count);
        pipeline.cmd("EXEC");
        let answers = match self.transaction(&pipeline).await {
            Ok(answers) => answers,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.link.log_failed(&error)),
        };
        let answers = answers.ok_or_else(|| self.link.peer.foreign())?;
        if matches!(&answers[1], Value::Map(_)) && field(&answers[1], "entries-added").is_none() {
            return Err(self.link.peer.error(Unsupported, NO_LOG));
        }
        let view = View::new(answers, count).ok_or_else(|| self.link.peer.foreign())?;
        Ok(Some(view).filter(View::has_epoch))
    }

    /// What the three commands in a transaction were answered; `None` if those are not three answers.
    async fn transaction(&self, pipeline: &Pipeline) -> RedisResult<Option<[Value; 3]>> {
        // Not `query_async`: what refuses a command is the reply to that one, not the one to `EXEC`.
        let sent = self.link.publisher.clone().send_packed_commands(pipeline, 0, 5).await?;
        let Ok([begun, first, second, third, answers]) = <[Value; 5]>::try_from(sent) else {
            return Ok(None);
        };
        if let (Value::Okay, Value::ServerError(refused)) = (&begun, &answers)
            && refused.code() == "NOPERM"
        {
            // It may begin a transaction and not end it: all that is sent from here on would only be queued.
            let error = refused.clone().into();
            self.link.inbox.lost(translate_of_log(&self.link.peer, &error));
        }
        for queued in [begun, first, second, third] {
            queued.extract_error()?;
        }
        let Value::Array(answers) = answers.extract_error()? else { return Ok(None) };
        Ok(answers.try_into().ok())
    }

    /// The answer to one command.
    async fn ask(&self, command: &Cmd) -> Result<Value> {
        let answer = self.link.publisher.clone().send_packed_command(command).await;
        answer.and_then(Value::extract_error).map_err(|error| self.link.log_failed(&error))
    }

    /// Ends what takes too long. The connection lives on: an answer that comes later is dropped.
    async fn limited<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let limit = self.log.limit;
        timeout(limit, work).await.unwrap_or_else(|_| {
            let why = format!("has not answered about the revocation log within {limit:?}");
            Err(self.link.peer.error(Timeout, why))
        })
    }
}

fn is_missing(error: &RedisError) -> bool {
    error.code() == Some("ERR") && error.detail().is_some_and(|detail| detail.starts_with("no such key"))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
