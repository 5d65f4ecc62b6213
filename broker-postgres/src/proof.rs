//! Proof: that the two sessions of a link are sessions, at a server that writes, and that one receives what the other posts.
//!
//! A pooler that lends a server's connection for one transaction answers LISTEN and forgets it; what is set for a session
//! would be left to strangers. So this comes before anything is set.

use std::time::Duration;

use broker_core::{
    Error,
    ErrorKind::{Misconfigured, Timeout, Unavailable, Unsupported},
    Result,
    driver::{ErrorContext, random},
};
use tokio::{sync::watch, time::timeout};
use tokio_postgres::{Client, Error as PgError, types::Type};

use crate::{
    errors::{refusal, translate_opening},
    session::Session,
};

/// How long the first notification may take. A server whose commits wait for each other longer is of no use.
const LIMIT: Duration = Duration::from_secs(2);

/// Where `gen_random_uuid` and `tcp_user_timeout` are.
const OLDEST: u32 = 13;

/// The server's process, and whether it does not write.
const FACTS: &str = "SELECT pg_catalog.pg_backend_pid(), \
                     pg_catalog.pg_is_in_recovery() OR pg_catalog.current_setting('transaction_read_only')::bool";

/// Where the first notification has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    NotYet,
    /// At the session that listens.
    AtReceiver,
    /// At the session that posts and never listened.
    AtPoster,
}

/// A channel of NOTIFY that no other link has.
pub(crate) fn channel() -> String {
    format!("broker_proof_{:016x}", random())
}

/// The error for a pooler between.
pub(crate) fn pooled(peer: &ErrorContext) -> Error {
    let why = "is behind a pooler that lends connections for single transactions, so that LISTEN is lost; give the \
               address of the server itself, or a pool with `pool_mode = session`";
    peer.error(Misconfigured, why)
}

/// The error unless the server is new enough.
pub(crate) fn check_version(version: Option<&str>, peer: &ErrorContext) -> Result<u32> {
    let digits = version.unwrap_or_default().split(|c: char| !c.is_ascii_digit()).next();
    let major = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if major >= OLDEST {
        return Ok(major);
    }
    Err(peer.error(Unsupported, format!("is too old: PostgreSQL {OLDEST} or newer is needed")))
}

/// The server's process for this session.
///
/// # Errors
/// The server does not write.
pub(crate) async fn process(
    client: &Client,
    peer: &ErrorContext,
    translate: fn(&ErrorContext, &PgError) -> Error,
) -> Result<i32> {
    let row = client.query_typed_one(FACTS, &[]).await.map_err(|error| translate(peer, &error))?;
    let foreign = |_| peer.not_this_protocol();
    if row.try_get(1).map_err(foreign)? {
        let why = "is a standby, or read-only; give the address of the primary, or of all its servers";
        return Err(refusal(peer, Unavailable, why, "25006"));
    }
    row.try_get(0).map_err(foreign)
}

/// See the module. `channel` is that of the first notification.
pub(crate) async fn prove(
    receive: &Session,
    post: &Session,
    peer: &ErrorContext,
    channel: &str,
    mut first: watch::Receiver<First>,
) -> Result<()> {
    let (receive, post) = (receive.client()?, post.client()?);
    // One after the other, so that an idle pooler lends both the same connection.
    let processes =
        (process(&receive, peer, translate_opening).await?, process(&post, peer, translate_opening).await?);
    if processes.0 == processes.1 {
        return Err(pooled(peer));
    }
    let failed = |error| translate_opening(peer, &error);
    receive.batch_execute(&format!("LISTEN {channel}")).await.map_err(failed)?;
    let notify = "SELECT pg_catalog.pg_notify($1, '')";
    post.query_typed(notify, &[(&channel, Type::TEXT)]).await.map_err(failed)?;
    if (process(&receive, peer, translate_opening).await?, process(&post, peer, translate_opening).await?)
        != processes
    {
        return Err(pooled(peer));
    }
    let first = timeout(LIMIT, first.wait_for(|first| *first != First::NotYet)).await;
    match first.map(|first| first.map(|first| *first)) {
        Ok(Ok(First::AtReceiver)) => Ok(()),
        Ok(Ok(_)) => Err(pooled(peer)),
        // The task that receives has ended.
        Ok(Err(_)) => Err(peer.disconnected()),
        Err(_) => {
            let why = "has not delivered a notification within 2 s: a pooler between lends connections for single \
                       transactions (give the address of the server itself), or another session's commit holds up \
                       those that notify (see `pg_stat_activity`)";
            Err(peer.error(Timeout, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_core::ErrorKind;

    use super::*;

    #[test]
    fn an_old_server_and_one_without_a_version_are_refused() {
        let peer = ErrorContext::new("PostgreSQL", "127.0.0.1:5432", "the user \"ada\"");
        for (version, major) in [("15.18 (Debian 15.18-0+deb12u1)", 15), ("18beta1", 18), ("13.0", 13)] {
            assert_eq!(check_version(Some(version), &peer).unwrap(), major);
        }
        for version in [Some("12.22"), Some("9.6.1"), Some("a.1"), Some(""), None] {
            assert_eq!(check_version(version, &peer).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
