//! Log: the revocation log as a Redis stream, under the one key that is its name.
//!
//! The stream's identity, its *epoch*, is the name of a consumer group that nobody reads with: it is born and dies
//! with the key, is saved and replicated with it, and needs no second one. Ids alone would not show that another
//! stream stands in the place of the first: they are times, and what is added to the new one is newer.

mod place;
mod view;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use broker_core::{
    Error,
    ErrorKind::{Other, Unsupported},
    Result,
    driver::{ErrorContext, LogCursor, LogDiscontinuity, LogPage, LogSpec, random},
};
use redis::{Cmd, Pipeline, RedisError, Value, aio::MultiplexedConnection};
use tokio::sync::OnceCell;

use crate::errors::NO_LOG;
use place::{Id, Place};
use view::{Head, View, field, text};

/// What the names of the groups that are identities begin with.
const EPOCH: &str = "epoch-";
/// The field of an entry that is the record.
const FIELD: &str = "r";
/// How many entries one read asks for. Replies to posts wait behind it on the same connection: with records of
/// the usual size it is less than a batch of posts, with the largest ones 16 MiB.
const PAGE: usize = 250;
/// How often to look at a log that changes at the same moment. The server takes the questions of one look in one
/// go, as a rule.
const ATTEMPTS: usize = 10;

/// What a link remembers of its log.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// A look at it has succeeded: this server can keep one. One at a time tries, so that many who append at once
    /// do not all make it.
    looked: OnceCell<()>,
    /// The newest time in an id, in milliseconds: the server's clock, or somewhat behind it.
    newest: AtomicU64,
    /// It was missing, and no page has said so yet.
    created: AtomicBool,
}

/// What one look at the log showed.
enum Glance {
    Whole(View),
    /// It was changed in the middle of it.
    Moving,
    /// There is none, or it has no identity yet.
    Missing,
}

/// The server that keeps a log, and the connection to it.
pub(crate) trait Keeper: Sync {
    /// What is remembered of its log.
    fn seen(&self) -> &Seen;
    /// The server, for errors.
    fn peer(&self) -> &ErrorContext;
    /// A handle of the connection.
    fn connection(&self) -> MultiplexedConnection;
    /// What an error of a call means.
    fn failed(&self, error: &RedisError) -> Error;
}

/// A log, by way of a connection to its server.
pub(crate) struct Log<'a, K: Keeper> {
    pub(crate) keeper: &'a K,
    pub(crate) log: &'a LogSpec,
}

impl<K: Keeper> Log<'_, K> {
    /// Adds an entry.
    pub(crate) async fn append(&self, record: &[u8]) -> Result<()> {
        // An old server takes entries, and cannot tell a reader what has become of them.
        self.keeper.seen().looked.get_or_try_init(|| async { self.look(None, 1).await.map(drop) }).await?;
        let mut add = redis::cmd("XADD");
        add.arg(self.key());
        let newest = self.keeper.seen().newest.load(Ordering::Relaxed);
        let here = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds);
        let floor = floor(newest, here, self.log.retention);
        if floor > 0 {
            add.arg("MINID").arg("~").arg(floor);
        }
        let added = self.ask(add.arg("*").arg(FIELD).arg(record)).await?;
        let id = text(&added).and_then(Id::parse).ok_or_else(|| self.keeper.peer().not_this_protocol())?;
        self.keeper.seen().newest.fetch_max(id.ms, Ordering::Relaxed);
        Ok(())
    }

    /// Reads a page after a cursor.
    pub(crate) async fn read(&self, after: &LogCursor) -> Result<LogPage> {
        let page = self.page(after).await?;
        Ok(LogPage { created: self.keeper.seen().created.swap(false, Ordering::Relaxed), ..page })
    }

    async fn page(&self, after: &LogCursor) -> Result<LogPage> {
        let broken = match after.place().map(Place::parse) {
            None => None,
            Some(None) => Some(LogDiscontinuity::Replaced),
            Some(Some(place)) => {
                let view = self.look(Some(&place), PAGE).await?;
                match view.lost(&place) {
                    None => return Ok(view.page(Some(place), None)),
                    lost => lost,
                }
            }
        };
        Ok(self.look(None, PAGE).await?.page(None, broken))
    }

    fn key(&self) -> &str {
        self.log.name.as_str()
    }

    /// The log as it is, with up to `count` entries after a place; makes it if it is missing.
    async fn look(&self, after: Option<&Place>, count: usize) -> Result<View> {
        for _ in 0..ATTEMPTS {
            match self.glance(after, count).await? {
                Glance::Whole(view) => {
                    // Fails if it is known already, and while another link finds out.
                    let _ = self.keeper.seen().looked.set(());
                    self.keeper.seen().newest.fetch_max(view.last().ms, Ordering::Relaxed);
                    return Ok(view);
                }
                Glance::Moving => {}
                Glance::Missing => {
                    self.keeper.seen().created.store(true, Ordering::Relaxed);
                    let epoch = format!("{EPOCH}{:016x}", random());
                    let mut create = redis::cmd("XGROUP");
                    create.arg("CREATE").arg(self.key()).arg(epoch).arg("$").arg("MKSTREAM");
                    self.ask(&create).await?;
                }
            }
        }
        Err(self.keeper.peer().error(Other, "changes the revocation log faster than it can be read"))
    }

    /// Asks for entries between two questions what the stream is. Where the answers to these are the same it is one
    /// moment. A transaction would make it so, and is refused by a server that is out of memory: that must not keep
    /// anybody from reading.
    async fn glance(&self, after: Option<&Place>, count: usize) -> Result<Glance> {
        let key = self.key();
        let from = after.map_or("-".to_owned(), |place| format!("({}", place.id));
        let mut questions = Pipeline::with_capacity(5);
        questions.cmd("XINFO").arg("GROUPS").arg(key).cmd("XINFO").arg("STREAM").arg(key);
        questions.cmd("XRANGE").arg(key).arg(from).arg("+").arg("COUNT").arg(count);
        questions.cmd("XINFO").arg("STREAM").arg(key).cmd("XINFO").arg("GROUPS").arg(key);
        let answers = self.keeper.connection().send_packed_commands(&questions, 0, 5).await;
        // The first that is an error says it: what comes behind it is a consequence.
        let answers = answers.and_then(|all| all.into_iter().map(Value::extract_error).collect());
        let answers: Vec<Value> = match answers {
            Ok(answers) => answers,
            Err(error) if is_missing(&error) => return Ok(Glance::Missing),
            Err(error) => return Err(self.keeper.failed(&error)),
        };
        self.understand(answers, count)
    }

    fn understand(&self, answers: Vec<Value>, count: usize) -> Result<Glance> {
        let foreign = || self.keeper.peer().not_this_protocol();
        let [groups, stream, range, stream_after, groups_after] =
            <[Value; 5]>::try_from(answers).map_err(|_| foreign())?;
        if matches!(stream, Value::Map(_)) && field(&stream, "entries-added").is_none() {
            return Err(self.keeper.peer().error(Unsupported, NO_LOG));
        }
        let before = Head::new(&groups, &stream).ok_or_else(foreign)?;
        let after = Head::new(&groups_after, &stream_after).ok_or_else(foreign)?;
        if before != after {
            return Ok(Glance::Moving);
        }
        if !before.has_epoch() {
            return Ok(Glance::Missing);
        }
        View::new(before, range, count).map(Glance::Whole).ok_or_else(foreign)
    }

    /// The answer to one command.
    async fn ask(&self, command: &Cmd) -> Result<Value> {
        let answer = self.keeper.connection().send_packed_command(command).await;
        answer.and_then(Value::extract_error).map_err(|error| self.keeper.failed(&error))
    }
}

fn is_missing(error: &RedisError) -> bool {
    error.code() == Some("ERR") && error.detail().is_some_and(|detail| detail.starts_with("no such key"))
}

/// Before which time entries may go: what is old by the server's clock and by ours. By ours alone, one that is ahead
/// would drop what is young; and the server's, once it was ahead, is so for good in the ids of the stream.
fn floor(newest: u64, here: u64, retention: Duration) -> u64 {
    newest.min(here).saturating_sub(milliseconds(retention))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
