//! Migration: the schema `broker`, with the tables of the log and the functions for posting from SQL.

use std::{sync::Arc, time::Duration};

use broker_core::{
    BrokerUrl, Error, ErrorKind, Result,
    driver::{Encryption, Inbox, Place},
};
use tokio::time::timeout;
use tokio_postgres::Client;

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
/// owner of the schema `broker`. Where the schema, or a function or a table in it, belongs to anybody but the user of the URL, the
/// database's owner or a superuser, nothing is changed, also for a superuser: that role could replace what is installed.
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
    let client = session.client()?;
    // Without BEGIN it is one transaction all the same.
    let done = client.batch_execute(MIGRATION).await;
    let outcome = match done.map_err(|error| translate(&way.peer, &error)) {
        Err(error) if error.kind() == ErrorKind::Forbidden => {
            let why = match owners(&client).await {
                Some(owners) => format!(
                    "the schema `broker` and what is in it belong to {owners}: run it as the owner of the schema, or, if one of them \
                     is a stranger, ALTER SCHEMA broker RENAME TO another name first"
                ),
                None => "run it as the owner of the database".to_owned(),
            };
            Err(Error::new(ErrorKind::Forbidden, format!("{}; {why}", error.message())))
        }
        outcome => outcome,
    };
    drop(client);
    session.close().await;
    outcome
}

/// To whom the schema, and the functions and tables in it, belong, if it is there.
async fn owners(client: &Client) -> Option<String> {
    let owners = "SELECT left(string_agg(DISTINCT quote_ident(pg_get_userbyid(owner)), ', '), 300) \
                  FROM (SELECT nspowner AS owner FROM pg_namespace WHERE nspname = 'broker' \
                        UNION SELECT proowner FROM pg_proc WHERE pronamespace = to_regnamespace('broker') \
                        UNION SELECT relowner FROM pg_class WHERE relnamespace = to_regnamespace('broker')) AS there";
    client.query_typed_opt(owners, &[]).await.ok()??.try_get(0).ok()?
}
