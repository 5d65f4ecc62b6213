//! Migration: the schema `broker`, with the tables of the log and the functions for posting from SQL.

use std::{sync::Arc, time::Duration};

use broker_core::{
    BrokerUrl, Error, ErrorKind, Result,
    driver::{Encryption, Inbox, Place},
};
use tokio::time::timeout;

use crate::{
    BACKEND, NAME,
    address::Address,
    errors::translate,
    session::{Fate, Way},
};

/// The SQL that [`migrate`] runs, for those who run their migrations themselves: as the owner of the database, in one
/// transaction, and again with each new version of this crate.
///
/// It makes the schema `broker`, two tables for the revocation log, and the functions `broker.post`,
/// `broker.publish_changes` and `broker.stop_publishing_changes`, with what these need. It changes nothing else, and it is
/// harmless to run it again.
pub const MIGRATION: &str = concat!(include_str!("log.sql"), "\n", include_str!("post.sql"));

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs [`MIGRATION`] in the database that a URL names, all of it or nothing.
///
/// The user of the URL has to be the owner of the database, or one who may create schemas in it; later runs are for the
/// owner of the schema `broker`.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) and [`Misconfigured`](ErrorKind::Misconfigured) for a URL that is not one of
/// this backend; [`Forbidden`](ErrorKind::Forbidden) when the user lacks a permission; [`Timeout`](ErrorKind::Timeout) after
/// 30 seconds; else as connecting fails. Not cancel safe: a dropped call may or may not have made the change.
pub async fn migrate(url: &str) -> Result<()> {
    let url = &BrokerUrl::parse(url)?;
    if !BACKEND.schemes.iter().any(|scheme| scheme.name == url.scheme()) {
        let why = format!("the url begins with `{}:`, and a migration is for postgres:// only", url.scheme());
        return Err(Error::new(ErrorKind::Misconfigured, why).with_operation("migrate").with_backend(NAME));
    }
    let address = Arc::new(Address::parse(url)?);
    let migrating = Place::reach(&address.servers, |place| {
        let address = Arc::clone(&address);
        async move {
            let way = Way::new(address, &place).await?;
            let peer = way.peer.clone();
            peer.recognise(place.address, Encryption::None, run(way)).await
        }
    });
    let late = |_| Err(Error::new(ErrorKind::Timeout, format!("not done within {LIMIT:?}")));
    let done = timeout(LIMIT, migrating).await.unwrap_or_else(late);
    done.map_err(|error| error.with_operation("migrate").with_backend(NAME))
}

async fn run(way: Way) -> Result<()> {
    let fate = Fate::new(Inbox::discard());
    let session = way.open("broker migrate", &fate, |_| {}).await?;
    // Without BEGIN it is one transaction all the same.
    let done = session.client()?.batch_execute(MIGRATION).await;
    session.close().await;
    done.map_err(|error| {
        let error = translate(&way.peer, &error);
        match error.kind() {
            ErrorKind::Forbidden => Error::new(
                ErrorKind::Forbidden,
                format!(
                    "{}; run it as the owner of the database, or of the schema `broker`",
                    error.message()
                ),
            ),
            _ => error,
        }
    })
}
