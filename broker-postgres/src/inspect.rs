//! Inspection: what the server reports to an operator.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_core::driver::{Inspection, LogSpec, Warning};
use tokio_postgres::Client;

/// How much of the queue of notifications may be used before an operator should look.
const FULL: f64 = 0.05;
/// How many connections should be left.
const LEFT: i64 = 10;

const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('fsync')::bool";
const QUEUE: &str = "SELECT pg_notification_queue_usage()::float8";
/// The sum over the databases, since other users' sessions are not shown to everybody.
const CONNECTIONS: &str = "SELECT current_setting('max_connections')::int8 - \
     current_setting('superuser_reserved_connections')::int8 - \
     (SELECT coalesce(sum(numbackends), 0)::int8 FROM pg_stat_database WHERE datname IS NOT NULL), \
     current_setting('max_connections')::int8";
/// The session's user may use the log, or make it. Without permission for the schema a question about its tables fails.
const LOG: &str = "SELECT CASE WHEN to_regclass('broker.log') IS NULL OR to_regclass('broker.record') IS NULL \
     THEN has_database_privilege(current_database(), 'CREATE') \
     ELSE has_schema_privilege('broker', 'USAGE') AND has_table_privilege('broker.log', 'SELECT, INSERT, UPDATE') END";

/// As much as the server answers.
pub(crate) async fn inspection(client: &Client, _: &LogSpec) -> Inspection {
    let head = client.query_typed_one(CLOCK, &[]).await.ok();
    let seconds: Option<f64> = head.as_ref().and_then(|row| row.try_get(0).ok());
    let on_disk: Option<bool> = head.as_ref().and_then(|row| row.try_get(1).ok());
    let warnings = [connections(client).await, queue(client).await, log(client).await];
    Inspection::new(seconds.and_then(time), on_disk).with_warnings(warnings.into_iter().flatten().collect())
}

fn time(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

async fn queue(client: &Client) -> Option<Warning> {
    let usage: f64 = client.query_typed_one(QUEUE, &[]).await.ok()?.try_get(0).ok()?;
    (usage >= FULL).then(|| {
        let what = format!(
            "the queue of notifications is {:.0} % full, since a session that listens is busy or does not read: when it is full \
             every commit that notifies fails",
            usage * 100.0
        );
        Warning::new(what, "find the session in `pg_stat_activity` that has been in a transaction for long, and end it")
    })
}

async fn connections(client: &Client) -> Option<Warning> {
    let row = client.query_typed_one(CONNECTIONS, &[]).await.ok()?;
    let (left, most): (i64, i64) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
    (left < LEFT).then(|| {
        let what = format!(
            "the server has {} of {most} connections left, and each node of the broker takes two",
            left.max(0)
        );
        Warning::new(what, "raise `max_connections`, or put other programs behind a pooler")
    })
}

async fn log(client: &Client) -> Option<Warning> {
    let may: bool = client.query_typed_one(LOG, &[]).await.ok()?.try_get(0).ok()?;
    (!may).then(|| {
        let what = "this user may not use the revocation log, so no revocation can be stored";
        let remedy = "grant CREATE on the database once, or make the schema `broker` with its tables and grant USAGE on it, \
                      and SELECT, INSERT, UPDATE and DELETE on them";
        Warning::new(what, remedy)
    })
}
