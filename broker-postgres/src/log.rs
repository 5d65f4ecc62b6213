//! Log: the revocation log, in two ordinary tables.
//!
//! A record's number is that of the one before it and one more, taken from the row of its log under the lock of that row: so
//! numbers follow the commits, and have no hole. A sequence would give them out before the commit, and a reader would pass
//! one that is committed later. Each record has a random mark, and that of the one before it, by which a restored log that has
//! grown again is distinguished from the one that was read.

mod place;

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use broker_core::{
    Error,
    ErrorKind::{Forbidden, Misconfigured, Timeout},
    Result,
    driver::{LogCursor, LogDiscontinuity, LogPage, LogSpec, random},
};
use bytes::Bytes;
use tokio::time::timeout;
use tokio_postgres::{Error as PgError, Row, types::Type};

use self::place::{Entry, Place, View};
use crate::{errors::refusal, link::PostgresLink};

/// Makes schema and tables: one simple query, which is one transaction. An explicit one that failed would take the posts
/// with it that are queued behind.
const MAKE: &str = include_str!("log.sql");
/// There is no schema, or no table.
const MISSING: &[&str] = &["3F000", "42P01"];
const NO_PERMISSION: &str = "42501";
/// A column is missing, or has another type.
const OTHER_SHAPE: &[&str] = &["42703", "42804", "42883"];

const ADD_LOG: &str = "INSERT INTO broker.log (name) VALUES ($1) ON CONFLICT DO NOTHING";

/// Of what is too old a hundred records go at a time, so that an append takes no longer in a long log.
const APPEND: &str = "
WITH own AS (SELECT set_config('synchronous_commit', 'on', true)),
 n AS (UPDATE broker.log SET last = last + 1, before = mark, mark = $3 FROM own WHERE name = $1
       RETURNING name, last, mark, before),
 oldest AS (SELECT number FROM broker.record WHERE log = $1 ORDER BY number LIMIT 100),
 gone AS (DELETE FROM broker.record r USING n, oldest o WHERE r.log = n.name AND r.number = o.number
          AND r.at < clock_timestamp() - make_interval(secs => $4))
INSERT INTO broker.record (log, number, mark, before, record) SELECT name, last, mark, before, $2 FROM n";

/// One statement, so one moment. From the number in the cursor, which is there to be checked.
const READ: &str = "
SELECT l.epoch::text, l.last, l.mark, r.number, r.mark, r.before, r.record
FROM broker.log l LEFT JOIN LATERAL (
  SELECT number, mark, before, record FROM broker.record WHERE log = l.name AND number >= $2 ORDER BY number LIMIT $3
) r ON true WHERE l.name = $1 ORDER BY r.number";

/// How many records a page has: of the usual size it is less than a batch of posts.
const PAGE: usize = 250;
/// How often a log that is missing is made, before something else must be wrong.
const TRIES: usize = 3;
/// More is for ever.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a link remembers of its log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// It was missing, and no page has said so yet.
    created: AtomicBool,
}

/// On the session that posts: a page of the log is no larger than some batches are.
impl PostgresLink {
    /// A call about the log that is cancelled at the server at its limit: whatever it waits for there, posts wait behind it, the
    /// probe among them. So a table that somebody has locked costs no link. One that is not even cancelled within the same time
    /// again is given up. With what the call returned comes whether that was after the limit.
    pub(crate) async fn limited<T>(
        &self,
        log: &LogSpec,
        call: impl Future<Output = Result<T>>,
    ) -> Result<(T, bool)> {
        let mut call = pin!(call);
        if let Ok(outcome) = timeout(limit_of(log), &mut call).await {
            return outcome.map(|done| (done, false));
        }
        let cancelled = async {
            tokio::select! {
                biased;
                outcome = call => outcome,
                never = self.cancels.keep_asking(&self.way, &self.post) => match never {},
            }
        };
        match timeout(limit_of(log), cancelled).await {
            Ok(Err(error)) if error.kind() != Timeout => Err(error),
            Ok(Ok(done)) => Ok((done, true)),
            _ => Err(self.late(log)),
        }
    }

    /// The error of a call that was ended at its limit.
    pub(crate) fn late(&self, log: &LogSpec) -> Error {
        let (name, limit) = (&log.name, limit_of(log));
        let why = format!(
            "did not answer about `{name}` within {limit:?}; see `pg_stat_activity` for what holds up the tables `broker.log` and \
             `broker.record`, or the standby that commits wait for, or raise `publish_timeout` and `heartbeat_timeout`"
        );
        self.way.peer.error(Timeout, why)
    }

    /// See [`DurableLog::append`](broker_core::driver::DurableLog::append).
    pub(crate) async fn append_record(&self, log: &LogSpec, record: &[u8]) -> Result<()> {
        let (name, mark) = (log.name.as_str(), random() as i64);
        let retention = log.retention.min(LONGEST).as_secs_f64();
        for _ in 0..TRIES {
            let values = [
                (&name as _, Type::TEXT),
                (&record as _, Type::BYTEA),
                (&mark as _, Type::INT8),
                (&retention as _, Type::FLOAT8),
            ];
            match self.post.client()?.execute_typed(APPEND, &values).await {
                Ok(1..) => return Ok(()),
                Ok(0) => self.make(log, false).await?,
                Err(error) if is_missing(&error) => self.make(log, true).await?,
                Err(error) => return Err(self.log_failed(&error)),
            }
        }
        Err(self.vanishes(log))
    }

    /// See [`DurableLog::read`](broker_core::driver::DurableLog::read).
    pub(crate) async fn read_page(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        let page = self.page(log, after).await?;
        Ok(LogPage { created: self.log.created.swap(false, Ordering::Relaxed), ..page })
    }

    async fn page(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        let broken = match after.place().map(Place::parse) {
            None => None,
            Some(None) => Some(LogDiscontinuity::Replaced),
            Some(Some(place)) => match self.view(log, place.number).await?.after(&place, PAGE) {
                Ok(page) => return Ok(page),
                Err(lost) => Some(lost),
            },
        };
        Ok(LogPage { broken, ..self.view(log, 0).await?.page(PAGE) })
    }

    /// The log from a number on, as it is now; made if it is missing.
    async fn view(&self, log: &LogSpec, from: i64) -> Result<View> {
        let (name, limit) = (log.name.as_str(), PAGE as i64 + 2);
        for _ in 0..TRIES {
            let values = [(&name as _, Type::TEXT), (&from as _, Type::INT8), (&limit as _, Type::INT8)];
            match self.post.client()?.query_typed(READ, &values).await {
                Ok(rows) if rows.is_empty() => self.make(log, false).await?,
                Ok(rows) => return view(&rows).map_err(|_| self.way.peer.not_this_protocol()),
                Err(error) if is_missing(&error) => self.make(log, true).await?,
                Err(error) => return Err(self.log_failed(&error)),
            }
        }
        Err(self.vanishes(log))
    }

    /// Makes the log, and its tables if they are missing.
    async fn make(&self, log: &LogSpec, tables: bool) -> Result<()> {
        self.log.created.store(true, Ordering::Relaxed);
        let client = self.post.client()?;
        if tables {
            client.batch_execute(MAKE).await.map_err(|error| self.log_failed(&error))?;
        }
        let name = log.name.as_str();
        let made = client.execute_typed(ADD_LOG, &[(&name, Type::TEXT)]).await;
        made.map(drop).map_err(|error| self.log_failed(&error))
    }

    fn log_failed(&self, error: &PgError) -> Error {
        let code = error.code().map(|code| code.code()).unwrap_or_default();
        let (kind, why) = if code == NO_PERMISSION {
            let why = "no permission for the revocation log: grant CREATE on the database once, or make the schema `broker` and \
                       its two tables and grant USAGE on it, and SELECT, INSERT, UPDATE and DELETE on them; rename a schema \
                       `broker` that a stranger has made";
            (Forbidden, why)
        } else if OTHER_SHAPE.contains(&code) {
            let why = "has other tables in place of `broker.log` and `broker.record`; rename those";
            (Misconfigured, why)
        } else {
            return self.failed(error);
        };
        refusal(&self.way.peer, kind, why, code)
    }

    fn vanishes(&self, log: &LogSpec) -> Error {
        let why = format!("deletes the revocation log `{}` as fast as it is made", log.name);
        self.way.peer.error(Misconfigured, why)
    }
}

fn limit_of(log: &LogSpec) -> Duration {
    log.limit.min(log.shared_limit)
}

fn is_missing(error: &PgError) -> bool {
    error.code().is_some_and(|code| MISSING.contains(&code.code()))
}

fn view(rows: &[Row]) -> std::result::Result<View, PgError> {
    let Some(head) = rows.first() else { return Ok(View::default()) };
    let (epoch, last, mark) = (head.try_get(0)?, head.try_get(1)?, head.try_get(2)?);
    let entry = |row: &Row| {
        // A log without records has one row without a record.
        let Some(number) = row.try_get(3)? else { return Ok(None) };
        let record = Bytes::copy_from_slice(row.try_get(6)?);
        Ok(Some(Entry { number, mark: row.try_get(4)?, before: row.try_get(5)?, record }))
    };
    let entries: std::result::Result<Vec<_>, PgError> =
        rows.iter().filter_map(|row| entry(row).transpose()).collect();
    Ok(View { epoch, last, mark, entries: entries? })
}
